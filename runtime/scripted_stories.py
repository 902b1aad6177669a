"""The stories of the `test:` clips: one told by hand, six made from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from .scripted import Cue, Cut, Light, Move, Placed, Script, Story, Turn

LENGTH_S = 24.0
SCENE_NAMES = ("room", "garden", "street")
WAYS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))


def _sample(seed: int) -> Story:
    """A day: a toy car and the lights at home, a ball in the garden, a cat in the street."""
    return Story(
        length_s=39.0,
        first=Cut(0.0, "room", 0.55, 0.6),
        things=(
            Placed("car", "room", 0.16, 0.86),
            Placed("ball", "garden", 0.8, 0.8),
            Placed("box", "garden", 0.22, 0.78),
            Placed("cat", "street", 0.84, 0.84),
            Placed("balloon", "street", 0.3, 0.75),
        ),
        cues=(
            Move(3.0, 2.5, 0, right=0.55),
            Light(8.0, 0.3),
            Light(10.5, 1.0, 0.5),
            Turn(13.0, 1.75, right=0.5),
            Cut(17.0, "garden", 0.3, 0.55),
            Move(19.0, 2.5, 1, right=-0.45, hops=3),
            Turn(23.5, 1.5, right=0.6),
            Cut(27.0, "street", 0.35, 0.8),
            Move(29.0, 2.0, 4, down=-0.45),
            Turn(33.0, 1.5, down=-0.5),
            Light(36.5, 0.0, 1.5),
        ),
        noise=1.2,
        drift=0.02,
    )


def _varied(name: str, tell: Callable[[np.random.Generator], Story]) -> Callable[[int], Story]:
    def story(seed: int) -> Story:
        return tell(np.random.default_rng([seed, zlib.crc32(name.encode())]))

    return story


def _scene(rng: np.random.Generator) -> Cut:
    x, y = rng.uniform(0.1, 0.9, 2)
    return Cut(0.0, str(rng.choice(SCENE_NAMES)), float(x), float(y))


def _noise(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.5, 5.0))


def _still(rng: np.random.Generator) -> Story:
    drift = float(rng.uniform(0.0, 0.1))
    return Story(LENGTH_S, _scene(rng), noise=_noise(rng), drift=drift)


def _jitter(rng: np.random.Generator) -> Story:
    drift, sway = float(rng.uniform(0.0, 0.1)), float(rng.uniform(0.003, 0.015))
    return Story(LENGTH_S, _scene(rng), noise=_noise(rng), drift=drift, sway=sway)


def _lights(rng: np.random.Generator) -> Story:
    cues: list[Cue] = []
    at_s = float(rng.uniform(1.5, 3.0))
    while at_s < LENGTH_S - 6.0:
        kind = rng.random()
        gain = rng.uniform(0.2, 0.55) if kind < 0.45 else rng.uniform(1.7, 2.4)
        ramp_s = float(rng.uniform(0.0, 0.75)) if rng.random() < 0.6 else 0.0
        if kind > 0.85:  # to black and back
            gain, ramp_s = 0.0, float(rng.uniform(0.5, 2.0))
        back_s = at_s + ramp_s + float(rng.uniform(2.0, 3.0))
        back_ramp_s = float(rng.uniform(0.0, 0.75)) if rng.random() < 0.6 else 0.0
        cues += [Light(at_s, float(gain), ramp_s), Light(back_s, 1.0, back_ramp_s)]
        at_s = back_s + back_ramp_s + float(rng.uniform(2.0, 3.0))
    return Story(LENGTH_S, _scene(rng), cues=tuple(cues), noise=_noise(rng))


def _cuts(rng: np.random.Generator) -> Story:
    cues: list[Cue] = []
    first = last = _scene(rng)
    at_s = float(rng.uniform(1.0, 3.0))
    while at_s < LENGTH_S - 1.0:
        others = [name for name in SCENE_NAMES if name != last.scene]
        x, y = rng.uniform(0.0, 1.0, 2)
        last = Cut(at_s, str(rng.choice(others)), float(x), float(y))
        cues.append(last)
        at_s += float(rng.uniform(1.2, 4.0))
    return Story(LENGTH_S, first, cues=tuple(cues), noise=_noise(rng))


def _pans(rng: np.random.Generator) -> Story:
    cues: list[Cue] = []
    first = _scene(rng)
    # Room to turn, in views: a scene is 2.4 views wide at 16:9 and 1.8 views high.
    at = np.array([first.x * 1.4, first.y * 0.8])
    room = np.array([1.4, 0.8])
    at_s = float(rng.uniform(1.5, 3.0))
    while at_s < LENGTH_S - 3.0:
        for_s, speed = float(rng.uniform(0.75, 2.0)), float(rng.uniform(0.1, 0.6))
        way = np.array(WAYS[int(rng.integers(4))])
        free = float((room - at if way.sum() > 0 else at) @ np.abs(way))
        share = min(speed * for_s, free)
        if share < 0.12:
            continue
        cues.append(Turn(at_s, for_s, float(way[0] * share), float(way[1] * share)))
        at = at + way * share
        at_s += for_s + float(rng.uniform(1.5, 3.0))
    return Story(LENGTH_S, first, cues=tuple(cues), noise=_noise(rng))


def _motion(rng: np.random.Generator) -> Story:
    first = _scene(rng)
    names = [str(name) for name in rng.choice(("car", "ball", "cat", "box"), 3, replace=False)]
    at = rng.uniform(0.2, 0.8, (3, 2))
    things = tuple(
        Placed(name, first.scene, float(x), float(y))
        for name, (x, y) in zip(names, at, strict=True)
    )
    cues: list[Cue] = []
    at_s = float(rng.uniform(1.5, 3.0))
    while at_s < LENGTH_S - 4.0:
        thing = int(rng.integers(3))
        goal = rng.uniform(0.15, 0.85, 2)
        step = goal - at[thing]
        far = float(np.hypot(*step))
        if far < 0.15:
            continue
        for_s = far / float(rng.uniform(0.1, 0.4))
        cues.append(Move(at_s, for_s, thing, float(step[0]), float(step[1])))
        at[thing] = goal
        at_s += for_s + float(rng.uniform(2.2, 4.0))
    length_s = max(LENGTH_S, at_s)
    return Story(length_s, first, things, tuple(cues), noise=_noise(rng))


_SCRIPTS = (
    Script("sample", "A day in 39 seconds, with every kind of event.", _sample),
    Script(
        "still", "Nothing happens but sensor noise and exposure drift.", _varied("still", _still)
    ),
    Script("lights", "Lights go down and up, at once and slowly.", _varied("lights", _lights)),
    Script("cuts", "One scene after the other.", _varied("cuts", _cuts)),
    Script("pans", "The camera turns left, right, up and down.", _varied("pans", _pans)),
    Script("motion", "Things start to move and stop.", _varied("motion", _motion)),
    Script("jitter", "Nothing happens, seen from a hand that sways.", _varied("jitter", _jitter)),
)
SCRIPTS = MappingProxyType({script.name: script for script in _SCRIPTS})
"""Every `test:` clip by its name."""
