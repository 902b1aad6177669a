"""The `test:` clips: what happens in them, when, and the truth about it.

A Story is a scene, things placed in it and a list of cues. `runtime/scripted_world.py` makes its
pictures; `truth` says when each event can first be decided by who sees only the sampled frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .errors import SourceUnknown
from .values import UInt8

PAN_DECIDED_SHARE = 0.05
"""Share of the picture's side that it must have shifted before sway is out of the question."""
LIGHT_DECIDED_STOPS = 0.4
"""Change of light from which it is more than exposure drift."""
MOVE_DECIDED_SHARE = 0.01
"""Share of the picture's width that something must have moved to be seen moving."""
BLACK = 0.02
"""Light that is left in a black picture, as a share of full light."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Another scene, from one frame to the next; x and y place the camera in its room, [0, 1]."""

    at_s: float
    scene: str
    x: float = 0.5
    y: float = 0.5


@dataclass(frozen=True, slots=True)
class Light:
    """The light goes to a gain within ramp_s."""

    at_s: float
    gain: float
    ramp_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """The camera turns by shares of the view within for_s; right and down are positive."""

    at_s: float
    for_s: float
    right: float = 0.0
    down: float = 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """A thing moves by shares of the view within for_s, hopping so many times on its way."""

    at_s: float
    for_s: float
    thing: int
    right: float = 0.0
    down: float = 0.0
    hops: int = 0


Cue: TypeAlias = "Cut | Light | Turn | Move"


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing in a scene; x and y of its middle are shares of the view at the scene's beginning."""

    thing: str
    scene: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Story:
    """What happens in one clip.

    Attributes:
        length_s: seconds.
        first: the scene it begins with (its at_s is 0).
        things: what stands or moves in the scenes.
        cues: what happens, in order of time.
        noise: standard deviation of sensor noise, grey levels.
        drift: exposure drifts by this share up and down, over 7 s.
        sway: a hand moves the camera by up to this share of the view's width.
    """

    length_s: float
    first: Cut
    things: tuple[Placed, ...] = ()
    cues: tuple[Cue, ...] = ()
    noise: float = 1.5
    drift: float = 0.0
    sway: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """A clip that exists in as many variants as there are seeds.

    Attributes:
        name: after `test:`.
        says: what it shows, one sentence.
        story: the story of a seed.
    """

    name: str
    says: str
    story: Callable[[int], Story]


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """Something that really happens in a clip.

    Attributes:
        event: its type, for example `cut`.
        from_s: time of the first sampled frame at which it can be decided, seconds.
        to_s: when it is over, seconds; from_s for a cut.
        attributes: for example {"direction": "left"}.
    """

    event: str
    from_s: float
    to_s: float
    attributes: Mapping[str, str] = field(default_factory=dict)


def frame_times(length_s: float, fps: float) -> tuple[float, ...]:
    """Times of the sampled frames of a clip, seconds."""
    return tuple(index / fps for index in range(math.ceil(length_s * fps - 1e-9)))


def first_time(times: Iterable[float], holds: Callable[[float], bool]) -> float | None:
    """The first of the times at which something holds; None if it never does."""
    # A cue at exactly the time of a frame is over the line in that frame, whatever 0.1 + 0.2 is.
    return next((time_s for time_s in times if holds(time_s + 1e-9)), None)


def progress(cue: Turn | Move, time_s: float) -> float:
    """How much of a movement is done, [0, 1]."""
    return min(max((time_s - cue.at_s) / cue.for_s, 0.0), 1.0)


def gain_at(story: Story, time_s: float) -> float:
    """The light at a time, cues alone; 1 is full light."""
    gain = 1.0
    for cue in story.cues:
        if isinstance(cue, Light) and time_s >= cue.at_s:
            done = 1.0 if cue.ramp_s <= 0 else min((time_s - cue.at_s) / cue.ramp_s, 1.0)
            gain += (cue.gain - gain) * done
    return gain


def scene_at(story: Story, time_s: float) -> Cut:
    """The cut that the picture at a time follows."""
    scene = story.first
    for cue in story.cues:
        if isinstance(cue, Cut) and time_s >= cue.at_s:
            scene = cue
    return scene


def truth(script: Script, fps: float, seed: int = 0) -> tuple[TrueEvent, ...]:
    """What happens in a clip, in order of time.

    Args:
        script: of SCRIPTS.
        fps: sampled frames a second.
        seed: the variant.

    Returns:
        Each event at the first sampled frame at which it can be decided; if ever.
    """
    story = script.story(seed)
    times = frame_times(story.length_s, fps)
    found = [event for cue in story.cues for event in _true_event(story, cue, times)]
    return tuple(sorted(found, key=lambda event: event.from_s))


def _true_event(story: Story, cue: Cue, times: tuple[float, ...]) -> Iterator[TrueEvent]:
    attributes: dict[str, str] = {}
    to_s = cue.at_s
    if isinstance(cue, Cut):
        name, seen_s = "cut", first_time(times, lambda t: t >= cue.at_s)
    elif isinstance(cue, Light):
        before = gain_at(story, cue.at_s - 1e-6)
        name, to_s = ("dark" if cue.gain < before else "bright"), cue.at_s + cue.ramp_s

        def stops(time_s: float) -> float:
            return abs(math.log2((gain_at(story, time_s) + BLACK) / (before + BLACK)))

        seen_s = first_time(times, lambda t: t >= cue.at_s and stops(t) >= LIGHT_DECIDED_STOPS)
    elif isinstance(cue, Turn):
        name, to_s = "pan", cue.at_s + cue.for_s
        share = math.hypot(cue.right, cue.down)
        seen_s = first_time(times, lambda t: share * progress(cue, t) >= PAN_DECIDED_SHARE)
        attributes["direction"] = direction_of(cue.right, cue.down)
    else:
        name, to_s = "motion", cue.at_s + cue.for_s
        share = math.hypot(cue.right, cue.down)
        seen_s = first_time(times, lambda t: share * progress(cue, t) >= MOVE_DECIDED_SHARE)
    if seen_s is not None:
        yield TrueEvent(name, seen_s, max(seen_s, to_s), attributes)


def direction_of(right: float, down: float) -> str:
    """Where a camera turns, the larger part of it."""
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def script_named(name: str) -> Script:
    """The script of a name.

    Raises:
        SourceUnknown: there is none.
    """
    from .scripted_stories import SCRIPTS

    if name not in SCRIPTS:
        raise SourceUnknown(
            f"no test clip is called {name!r}; expected one of {', '.join(SCRIPTS)}",
            hint="try test:sample",
        )
    return SCRIPTS[name]


def render(
    script: Script, fps: float, seed: int = 0, size_px: tuple[int, int] = (360, 640)
) -> Iterator[tuple[float, UInt8]]:
    """The pictures of a clip; the same arguments give the same bytes.

    Args:
        script: of SCRIPTS.
        fps: frames a second.
        seed: the variant.
        size_px: (height, width), px; at most 2.2 times as wide as high, or turns run into the edge.

    Returns:
        Iterator of (time, seconds; (height, width, 3) uint8 RGB).
    """
    from .scripted_world import pictures

    return pictures(script.story(seed), fps, seed, size_px)
