"""Labelled clips made from single pictures of real footage: moved, cut, lit, zoomed, or left alone.

A crop of one picture, at rest before and after, with sensor noise: everything that happens in it is
known. What running footage does by itself is `altered_clips`' subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.preprocess import small_picture
from ..runtime.scripted import PAN_DECIDED_SHARE, TrueEvent, first_time, frame_times
from ..runtime.values import UInt8
from .altered_clips import WAYS, AlteredClip
from .footage import Footage, Window

LENGTH_S = 4.5
FROM_S, UNTIL_S = 1.75, 3.0
"""When something may happen; a clip begins and ends at rest."""
NOISE_LEVELS = 2.0
ZOOM_DECIDED = 1.1
"""Growth of the picture that is a zoom, as in the rendered world."""
DIMMED, BRIGHTENED = (0.2, 0.5), (1.6, 2.4)
BRIGHTENED_TO = 0.95
"""Gain at the end of a brightening, so that little of the picture clips."""
SCORED = frozenset({"cut", "dark", "bright", "pan", "zoom", "fade_out", "fade_in", "shake", "blur"})


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees at a moment: middle and width as shares of the picture, and a gain."""

    x: float
    y: float
    width: float
    gain: float = 1.0


Course = Callable[[float], View]
"""The view at a time, seconds."""


def _view(rng: np.random.Generator, width: float | None = None) -> View:
    width = width or float(rng.uniform(0.45, 0.6))
    x, y = rng.uniform(width / 2, 1 - width / 2, 2)
    return View(float(x), float(y), width)


def _begin(rng: np.random.Generator) -> float:
    return float(rng.uniform(FROM_S, FROM_S + 0.5))


def _frame_time(times: Sequence[float], at_s: float) -> float:
    """The first frame at or after a time."""
    return next(time_s for time_s in times if time_s >= at_s)


def _clip(
    name: str,
    fps: float,
    course: Course,
    picture: Callable[[float], UInt8],
    truth: Sequence[TrueEvent],
    rng: np.random.Generator,
) -> AlteredClip:
    frames = []
    for time_s in frame_times(LENGTH_S, fps):
        view, whole = course(time_s), picture(time_s)
        height, width = whole.shape[:2]
        w, h = round(view.width * width), round(view.width * height)
        crop = Window(view.x * width - w / 2, view.y * height - h / 2, w, h).of(whole)
        small = small_picture(crop).astype(np.float32) * view.gain
        small += rng.normal(0.0, NOISE_LEVELS, small.shape).astype(np.float32)
        frames.append((time_s, np.asarray(np.clip(small + 0.5, 0, 255), np.uint8)))
    return AlteredClip(name, tuple(frames), tuple(truth), SCORED, LENGTH_S)


def _picture(footage: Sequence[Footage], rng: np.random.Generator) -> tuple[str, UInt8]:
    source = footage[int(rng.integers(len(footage)))]
    return source.name, source.pictures[int(rng.integers(len(source.pictures)))]


def still(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """Nothing happens."""
    name, picture = _picture(footage, rng)
    view = _view(rng)
    return _clip(f"still: {name}", fps, lambda _: view, lambda _: picture, (), rng)


def moved(
    footage: Sequence[Footage], fps: float, rng: np.random.Generator, direction: str | None = None
) -> AlteredClip:
    """The crop travels one way, as when a camera turns."""
    name, picture = _picture(footage, rng)
    way = direction or str(rng.choice(list(WAYS)))
    x, y = WAYS[way]
    from_s, for_s = _begin(rng), float(rng.uniform(0.75, 1.25))
    width = float(rng.uniform(0.45, 0.6))
    travel = float(rng.uniform(0.35, 1 - width))
    other = float(rng.uniform(width / 2, 1 - width / 2))
    begin = width / 2 + float(rng.uniform(0, 1 - width - travel))
    begin = begin if x + y > 0 else 1 - begin

    def gone(time_s: float) -> float:
        return travel * min(max((time_s - from_s) / for_s, 0.0), 1.0)

    def course(time_s: float) -> View:
        at = begin + (x + y) * gone(time_s)
        return View(at, other, width) if x else View(other, at, width)

    times = frame_times(LENGTH_S, fps)
    seen_s = first_time(times, lambda t: gone(t) >= PAN_DECIDED_SHARE * width)
    truth = _one("pan", seen_s, from_s + for_s, direction=way)
    return _clip(f"moved {way}: {name}", fps, course, lambda _: picture, truth, rng)


def zoomed(
    footage: Sequence[Footage], fps: float, rng: np.random.Generator, direction: str | None = None
) -> AlteredClip:
    """The crop shrinks (in) or grows (out)."""
    name, picture = _picture(footage, rng)
    way = direction or str(rng.choice(["in", "out"]))
    from_s, for_s = _begin(rng), float(rng.uniform(0.75, 1.25))
    whole = float(rng.uniform(1.3, 1.7))
    wide = _view(rng, float(rng.uniform(0.62, 0.8)))

    def growth(time_s: float) -> float:
        return float(whole ** min(max((time_s - from_s) / for_s, 0.0), 1.0))

    def course(time_s: float) -> View:
        share = growth(time_s) if way == "in" else whole / growth(time_s)
        return View(wide.x, wide.y, wide.width / share)

    times = frame_times(LENGTH_S, fps)
    seen_s = first_time(times, lambda t: growth(t) >= ZOOM_DECIDED)
    truth = _one("zoom", seen_s, from_s + for_s, direction=way)
    return _clip(f"zoomed {way}: {name}", fps, course, lambda _: picture, truth, rng)


def cut(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """From a crop of one clip's picture to one of another clip's."""
    one, two = (footage[int(k)] for k in rng.choice(len(footage), 2, replace=False))
    pictures = [_picture([source], rng)[1] for source in (one, two)]
    views = [_view(rng), _view(rng)]
    times = frame_times(LENGTH_S, fps)
    from_s = _frame_time(times, _begin(rng))
    truth = _one("cut", from_s, from_s)
    return _clip(
        f"cut: {one.name}, {two.name}",
        fps,
        lambda t: views[t >= from_s],
        lambda t: pictures[t >= from_s],
        truth,
        rng,
    )


def dimmed(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """The light goes down at once, and the picture stays to be seen."""
    gain = float(rng.uniform(*DIMMED))
    return _lit(footage, fps, rng, "dark", 1.0, gain)


def brightened(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """The light goes up at once; it begins dim, as a night does, so that the end does not clip."""
    ratio = float(rng.uniform(*BRIGHTENED))
    return _lit(footage, fps, rng, "bright", BRIGHTENED_TO / ratio, BRIGHTENED_TO)


def _lit(
    footage: Sequence[Footage],
    fps: float,
    rng: np.random.Generator,
    event: str,
    before: float,
    after: float,
) -> AlteredClip:
    name, picture = _picture(footage, rng)
    view = _view(rng)
    times = frame_times(LENGTH_S, fps)
    from_s = _frame_time(times, _begin(rng))

    def course(time_s: float) -> View:
        return View(view.x, view.y, view.width, before if time_s < from_s else after)

    truth = _one(event, from_s, from_s)
    return _clip(
        f"{event} x{after / before:.2f}: {name}", fps, course, lambda _: picture, truth, rng
    )


def _one(event: str, seen_s: float | None, to_s: float, **attributes: str) -> tuple[TrueEvent, ...]:
    assert seen_s is not None, "every course goes far enough to be decided"
    return (TrueEvent(event, seen_s, max(seen_s, to_s), attributes),)


STILL_KINDS: dict[str, Callable[[Sequence[Footage], float, np.random.Generator], AlteredClip]] = {
    "moved": moved,
    "cut": cut,
    "dimmed": dimmed,
    "brightened": brightened,
    "zoomed_in": lambda footage, fps, rng: zoomed(footage, fps, rng, "in"),
    "zoomed_out": lambda footage, fps, rng: zoomed(footage, fps, rng, "out"),
    "still": still,
}


def altered_stills(
    footage: Sequence[Footage], *, count: int, fps: float = 4.0, seed: int = 0
) -> Iterator[tuple[str, AlteredClip]]:
    """(kind, clip), `count` of each of STILL_KINDS; the same arguments give the same clips.

    Frames are (112, 112, 3) already. Moved clips take the four directions in turn.

    Args:
        footage: at least two clips, for cuts between them.
        count: of each kind.
        fps: frames per second.
        seed: of everything random.

    Raises:
        ValueError: fewer than two clips.
    """
    if len(footage) < 2:
        raise ValueError(f"got {len(footage)} clips, expected two or more to cut between")
    for number, (kind, alter) in enumerate(STILL_KINDS.items()):
        for k in range(count):
            rng = np.random.default_rng([seed, number, k])
            if kind == "moved":
                yield kind, moved(footage, fps, rng, tuple(WAYS)[k % len(WAYS)])
            else:
                yield kind, alter(footage, fps, rng)
