"""Labelled clips made from real footage: crops that are moved, lit, cut, shaken and joined.

A crop of a running clip keeps the movement that was really there, which nobody has labelled; so
`motion` is scored only where a patch of one picture moves over another one that stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.preprocess import small_picture
from ..runtime.scripted import (
    LIGHT_DECIDED_STOPS,
    MOVE_DECIDED_SHARE,
    PAN_DECIDED_SHARE,
    TrueEvent,
    first_time,
    frame_times,
)
from ..runtime.values import UInt8
from .footage import Footage, Window

Timed = tuple[float, UInt8]
CAMERA_EVENTS = frozenset({"cut", "dark", "bright", "pan"})
ALL_EVENTS = CAMERA_EVENTS | {"motion"}
LENGTH_S = 8.0
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True, eq=False)
class AlteredClip:
    """A clip with its truth.

    Attributes:
        name: what was done to which footage.
        frames: (time, seconds; (height, width, 3) uint8 RGB).
        truth: what happens, each at its first decidable frame.
        scored: event types that the truth is complete for.
        length_s: seconds.
    """

    name: str
    frames: tuple[Timed, ...]
    truth: tuple[TrueEvent, ...]
    scored: frozenset[str]
    length_s: float


def _window(picture: UInt8, rng: np.random.Generator, scale: float | None = None) -> Window:
    height, width = picture.shape[:2]
    scale = scale or float(rng.uniform(0.42, 0.55))
    h, w = round(height * scale), round(width * scale)
    return Window(float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h)), w, h)


def _pick(footage: Sequence[Footage], rng: np.random.Generator) -> tuple[Footage, float]:
    return footage[int(rng.integers(len(footage)))], float(rng.uniform(0, 10))


def moved(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """A crop that travels one way over running footage: a camera that turns."""
    source, start_s = _pick(footage, rng)
    picture = source.at(start_s)
    direction = str(rng.choice(list(WAYS)))
    way = WAYS[direction]
    window = _window(picture, rng)
    full = (picture.shape[1] - window.width, picture.shape[0] - window.height)
    side = window.width if way[0] else window.height
    room = full[0] if way[0] else full[1]
    duration_s = float(rng.uniform(0.75, 2.0))
    distance = min(float(rng.uniform(0.08, 0.6)) * duration_s * side, float(room))
    first = float(rng.uniform(0, room - distance))
    begin = first if sum(way) > 0 else first + distance
    from_s = float(rng.uniform(1.5, 4.0))

    def travelled(time_s: float) -> float:
        return distance * min(max((time_s - from_s) / duration_s, 0.0), 1.0)

    times = frame_times(LENGTH_S, fps)
    frames = []
    for time_s in times:
        at = begin + sum(way) * travelled(time_s)
        here = Window(
            at if way[0] else window.left, at if way[1] else window.top, window.width, window.height
        )
        frames.append((time_s, here.of(source.at(start_s + time_s))))
    seen_s = first_time(times, lambda t: travelled(t) >= PAN_DECIDED_SHARE * side)
    truth = () if seen_s is None else _one("pan", seen_s, from_s + duration_s, direction=direction)
    return AlteredClip(
        f"moved {direction}: {source.name}", tuple(frames), truth, CAMERA_EVENTS, LENGTH_S
    )


def lit(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """Running footage that is dimmed, or brightened until it clips, and comes back."""
    source, start_s = _pick(footage, rng)
    window = _window(source.at(start_s), rng)
    gain = float(rng.uniform(0.2, 0.55) if rng.random() < 0.5 else rng.uniform(1.7, 2.6))
    whole = float(np.log2(gain))
    ramp_s, back_ramp_s = (float(s) for s in rng.uniform(0.0, 0.75, 2) * (rng.random(2) < 0.7))
    from_s = float(rng.uniform(1.5, 2.5))
    back_s = from_s + ramp_s + float(rng.uniform(2.0, 3.0))

    def stops(time_s: float) -> float:
        there = _ramp(time_s, from_s, ramp_s) - _ramp(time_s, back_s, back_ramp_s)
        return whole * there

    times = frame_times(LENGTH_S, fps)
    frames = tuple(
        (t, _with_gain(window.of(source.at(start_s + t)), 2.0 ** stops(t))) for t in times
    )
    there_s = first_time(times, lambda t: abs(stops(t)) >= LIGHT_DECIDED_STOPS)
    again_s = first_time(
        times, lambda t: t >= back_s and abs(whole - stops(t)) >= LIGHT_DECIDED_STOPS
    )
    assert there_s is not None and again_s is not None
    names = ("dark", "bright") if gain < 1 else ("bright", "dark")
    truth = (
        *_one(names[0], there_s, max(there_s, from_s + ramp_s)),
        *_one(names[1], again_s, max(again_s, back_s + back_ramp_s)),
    )
    return AlteredClip(f"light x{gain:.2f}: {source.name}", frames, truth, CAMERA_EVENTS, LENGTH_S)


def _ramp(time_s: float, from_s: float, for_s: float) -> float:
    """0 before, 1 after, a straight line between."""
    if for_s <= 0:
        return float(time_s >= from_s)
    return min(max((time_s - from_s) / for_s, 0.0), 1.0)


def _with_gain(picture: UInt8, gain: float) -> UInt8:
    table = np.clip(np.arange(256) * gain + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(table[picture], np.uint8)


def cut(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """Crops of running footage one after the other: another place, clip or light."""
    count = int(rng.integers(2, 4))
    at_s = [0.0, *(float(s) for s in np.sort(rng.uniform(1.0, LENGTH_S - 1.0, count)))]
    if min(np.diff(at_s)) < 0.9:
        return cut(footage, fps, rng)
    shots: list[tuple[Footage, float, Window, float]] = []
    while len(shots) < len(at_s):
        source, start_s = _pick(footage, rng)
        window = _window(source.at(start_s), rng)
        gain = float(rng.choice([1.0, 1.0, 0.5, 1.5]))
        if shots and shots[-1][0].name == source.name and window.overlap(shots[-1][2]) > 0.1:
            continue
        shots.append((source, start_s, window, gain))
    times = frame_times(LENGTH_S, fps)
    size_px = (shots[0][2].height, shots[0][2].width)  # a stream does not change its size
    frames = []
    for time_s in times:
        source, start_s, window, gain = shots[int(np.searchsorted(at_s, time_s, "right")) - 1]
        picture = _with_gain(window.of(source.at(start_s + time_s)), gain)
        frames.append((time_s, small_picture(picture, size_px)))
    truth: list[TrueEvent] = []
    for cut_s in at_s[1:]:
        seen_s = first_time(times, lambda t, cut_s=cut_s: t >= cut_s)  # type: ignore[misc]
        truth += _one("cut", seen_s or cut_s, seen_s or cut_s)
    return AlteredClip(f"cut x{count}", tuple(frames), tuple(truth), CAMERA_EVENTS, LENGTH_S)


def patched(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """A single picture over which a patch of another picture moves and stops, with sensor noise."""
    source, start_s = _pick(footage, rng)
    picture = source.at(start_s)
    ground = _window(picture, rng, 0.55).of(picture)
    patch = _patch(footage, ground, rng)
    height, width = ground.shape[:2]
    room = np.array([width - patch.shape[1], height - patch.shape[0]], float)
    begin = rng.uniform(0, room)
    angle, from_s = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(1.5, 3.0))
    speed, duration_s = float(rng.uniform(0.08, 0.4)) * width, float(rng.uniform(1.0, 3.0))
    step = np.array([np.cos(angle), np.sin(angle)]) * speed

    def place(time_s: float) -> tuple[float, float]:
        run_s = min(max(time_s - from_s, 0.0), duration_s)
        # It turns back at the border, as a ball on a table does.
        x, y = np.abs((begin + step * run_s + room) % (2 * room) - room)
        return float(x), float(y)

    sigma = float(rng.uniform(1.0, 4.0))
    times = frame_times(LENGTH_S, fps)
    frames = []
    for time_s in times:
        x, y = (round(c) for c in place(time_s))
        here = ground.copy()
        here[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        frames.append((time_s, _noisy(here, sigma, rng)))
    moved_px = MOVE_DECIDED_SHARE * width
    seen_s = first_time(times, lambda t: speed * (t - from_s) >= moved_px)
    truth = _one("motion", seen_s or from_s, from_s + duration_s)
    return AlteredClip(f"patch over {source.name}", tuple(frames), truth, ALL_EVENTS, LENGTH_S)


def _patch(footage: Sequence[Footage], ground: UInt8, rng: np.random.Generator) -> UInt8:
    """A piece of another picture with texture of its own and a colour unlike most of the ground."""
    height, width = ground.shape[:2]
    best: UInt8 | None = None
    for _ in range(20):
        source, start_s = _pick(footage, rng)
        other = source.at(start_s)
        h, w = (round(side * float(rng.uniform(0.14, 0.32))) for side in (height, width))
        y, x = int(rng.integers(other.shape[0] - h)), int(rng.integers(other.shape[1] - w))
        best = other[y : y + h, x : x + w]
        if best.std() >= 25 and abs(float(best.mean()) - float(ground.mean())) >= 15:
            break
    assert best is not None
    return best


def _noisy(picture: UInt8, sigma: float, rng: np.random.Generator) -> UInt8:
    noise = rng.normal(0.0, sigma, picture.shape).astype(np.float32)
    return np.asarray(np.clip(picture + noise + 0.5, 0, 255), np.uint8)


def shaken(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """Nothing happens: a hand sways by up to 1.5 % of the width, exposure drifts by up to 10 %."""
    source, start_s = _pick(footage, rng)
    window = _window(source.at(start_s), rng)
    sway = float(rng.uniform(0.0, 0.015)) * window.width
    hz, phase = rng.uniform(0.3, 2.5, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
    drift, drift_phase = float(rng.uniform(0.0, 0.1)), float(rng.uniform(0, 2 * np.pi))
    frames = []
    for time_s in frame_times(LENGTH_S, fps):
        x, y = (sway * np.sin(2 * np.pi * hz * time_s + phase)).mean(axis=1)
        here = Window(window.left + float(x), window.top + float(y), window.width, window.height)
        gain = 1.0 + drift * float(np.sin(2 * np.pi * time_s / 7.0 + drift_phase))
        frames.append((time_s, _with_gain(here.of(source.at(start_s + time_s)), gain)))
    name = f"sway {sway:.1f} px: {source.name}"
    return AlteredClip(name, tuple(frames), (), CAMERA_EVENTS, LENGTH_S)


def joined(footage: Sequence[Footage], fps: float, rng: np.random.Generator) -> AlteredClip:
    """Two whole clips, one after the other."""
    one, two = rng.choice(len(footage), 2, replace=False)
    first, second = footage[int(one)], footage[int(two)]
    join_s = float(rng.uniform(2.0, 6.0))
    start_s = float(rng.uniform(0, 10))
    times = frame_times(LENGTH_S, fps)
    size_px = first.pictures[0].shape[:2]
    frames = tuple(
        (t, small_picture((first if t < join_s else second).at(start_s + t), size_px))
        for t in times
    )
    seen_s = first_time(times, lambda t: t >= join_s) or join_s
    truth = _one("cut", seen_s, seen_s)
    return AlteredClip(
        f"joined: {first.name}, {second.name}", frames, truth, CAMERA_EVENTS, LENGTH_S
    )


def _one(event: str, from_s: float, to_s: float, **attributes: str) -> tuple[TrueEvent, ...]:
    return (TrueEvent(event, from_s, max(from_s, to_s), attributes),)


ALTERATIONS: dict[str, Callable[[Sequence[Footage], float, np.random.Generator], AlteredClip]] = {
    "moved": moved,
    "lit": lit,
    "cut": cut,
    "patched": patched,
    "shaken": shaken,
    "joined": joined,
}


def altered_clips(
    footage: Sequence[Footage], *, fps: float, seeds: Sequence[int]
) -> Iterator[AlteredClip]:
    """One clip of every kind per seed; the same seed and footage give the same clips."""
    for seed in seeds:
        for number, alter in enumerate(ALTERATIONS.values()):
            yield alter(footage, fps, np.random.default_rng([seed, number]))
