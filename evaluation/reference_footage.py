"""The reference assistant on real footage: what is done to stills of it, and whether it says so.

Nothing has to be labelled: crops of single pictures are moved, cut, lit and zoomed, and clips are
joined, so that everything that happens is known. None of it is ever trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..runtime.preprocess import small_picture
from ..runtime.scripted import TrueEvent
from ..runtime.values import UInt8
from .altered_clips import joined
from .altered_stills import STILL_KINDS, altered_stills
from .footage import Footage
from .reference_baselines import MotionRule
from .reference_runs import Watched
from .reference_scores import Ratio, Tally, tally_of
from .reference_table import Line
from .world import WorldEvent
from .world_scores import TOLERANCE_FRAMES

LEAST_FOUND, LEAST_DIRECTIONS, MOST_ON_STILLS = 0.90, 0.95, 0.0
DONE = (*(kind for kind in STILL_KINDS if kind != "still"), "joined")
"""What may be done to footage; `still` is the picture left alone."""
CAMERA_OR_SCENE = frozenset(
    {"cut", "fade_in", "fade_out", "dark", "bright", "pan", "zoom", "shake", "blur"}
)
Frames = Sequence[tuple[float, UInt8]]
See = Callable[[Frames], Watched]
Example = tuple[str, Frames, TrueEvent | None]
"""(what was done, frames, what is true of them)."""


def examples(
    footage: Sequence[Footage], *, count: int, fps: float, seed: int = 0
) -> Iterator[Example]:
    """`count` of everything that is done; the same arguments give the same examples.

    Args:
        footage: two or more clips.
        count: of each kind.
        fps: frames per second.
        seed: of everything random.

    Raises:
        ValueError: fewer than two clips.

    Cost: about 10 ms a clip of 18 frames.
    """
    for kind, clip in altered_stills(footage, count=count, fps=fps, seed=seed):
        yield kind, clip.frames, clip.truth[0] if clip.truth else None
    for number in range(count):
        clip = joined(footage, fps, np.random.default_rng([seed, 100, number]))
        small = [(time_s, small_picture(pixels)) for time_s, pixels in clip.frames]
        yield "joined", small, clip.truth[0]


def footage_lines(seen: Iterable[tuple[Example, Watched]], fps: float) -> tuple[Line, ...]:
    """The table: what was found within one frame, by the gate and in its words.

    Args:
        seen: examples and what the assistant made of each.
        fps: frames per second of the examples.
    """
    gate, told, rule = [], [], []
    for example, watched in seen:
        gate.append(_counts(example, watched.gate.events, fps))
        told.append(_counts(example, watched.told.events, fps))
        rule.append(_counts(example, _by_rule(example[1]), fps))
    tallies = {"": _tally(gate), "_told": _tally(told)}
    by_rule = _tally(rule)
    lines = []
    for part, tally in tallies.items():
        for name in (*DONE, "pan_direction", "zoom_direction", "false_on_stills"):
            figure = tally.figure(name)
            bound = None if part else _bound(name)
            beside = {} if part else {"rule": by_rule.figure(name).value}
            shown = type(figure)(name + part, figure.value, figure.unit, figure.n, figure.ci95)
            lines.append(Line(shown, bound, name == "false_on_stills", beside=beside))
    return tuple(lines)


def _bound(name: str) -> float | None:
    if name == "false_on_stills":
        return MOST_ON_STILLS
    if name == "zoom_direction":
        return None
    return LEAST_DIRECTIONS if name == "pan_direction" else LEAST_FOUND


def _tally(rows: Sequence[Mapping[str, float]]) -> Tally:
    ratios = {kind: Ratio({f"{kind}_found": 1.0}, {kind: 1.0}) for kind in DONE}
    for event in ("pan", "zoom"):
        ratios[f"{event}_direction"] = Ratio({f"{event}_right": 1.0}, {f"{event}_found": 1.0})
    ratios["false_on_stills"] = Ratio({"still_told": 1.0}, {"still": 1.0}, unit="per clip")
    return tally_of(rows, ratios)


def _counts(example: Example, events: Sequence[WorldEvent], fps: float) -> Mapping[str, float]:
    kind, _, truth = example
    if truth is None:
        return {kind: 1.0, f"{kind}_told": float(len(events))}
    counts = {kind: 1.0}
    frame = round(truth.from_s * fps)
    near = [
        event
        for event in events
        if event.kind == truth.event and abs(event.frame - frame) <= TOLERANCE_FRAMES
    ]
    if near:
        counts[f"{kind}_found"] = 1.0
        if "direction" in truth.attributes:
            counts[f"{truth.event}_found"] = 1.0
            counts[f"{truth.event}_right"] = float(
                near[0].direction == truth.attributes["direction"]
            )
    return counts


def _by_rule(frames: Frames) -> list[WorldEvent]:
    rule = MotionRule()
    return [
        event
        for number, (time_s, pixels) in enumerate(frames)
        for event in rule.step(number, time_s, pixels)
    ]


def false_of_a_fixed_camera(watched: Watched) -> tuple[int, int]:
    """Camera and scene events of a clip in which neither happens: (the gate's, told ones)."""
    gate, told = (
        sum(event.kind in CAMERA_OR_SCENE for event in one.events)
        for one in (watched.gate, watched.told)
    )
    return gate, told
