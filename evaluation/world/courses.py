"""What the camera, the light and the cut can do, each as a list of steps, one for a frame.

A step carries the event at the first frame at which it can be decided: a pan when the picture went
one way twice and by a twentieth of its side, a shake after two reversals, a slow darkening when it
rests, a fade when the picture is black.
"""

from __future__ import annotations

from collections.abc import Callable

from .rules import SIDE_PX
from .stage import DARK_BELOW, LIGHTS, MARGIN_PX, WORLD_PX, Stage, Step

PAN_DECIDED_PX = 0.05 * SIDE_PX
ZOOM_DECIDED = 1.1
ZOOM_RANGE = (0.66, 2.1)
PREFER_OUT = 0.8
"""Of zooms that could go either way: out finds less room."""
DARKER_AT_MOST, BRIGHTER_AT_LEAST = 0.55, 1.5
"""Ratios of light: a smaller change is none that is told."""
BRIGHT_SEEN = 1.32
"""From this ratio on, 0.4 stops, a rise of light is more than exposure drift."""
FADES_IN = ((1.0,), (0.6, 1.0), (0.45, 0.75, 1.0))
WAYS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}

Course = Callable[[Stage], "list[Step]"]


def cut(stage: Stage) -> list[Step]:
    """Another scene."""
    return [Step(event=("cut", None), new_scene=True)]


def fade(stage: Stage) -> list[Step]:
    """To black, in one step or slowly, some frames of black, and back, here or elsewhere."""
    rng = stage.rng
    n = rng.choice((1, 3, 4))
    out = [Step(fade=1 - k / n) for k in range(1, n)]
    return [*out, Step(fade=0.0, event=("fade_out", None)), *black(stage)]


def black(stage: Stage) -> list[Step]:
    """The rest of a black stretch, and the fade in."""
    rng = stage.rng
    is_new = rng.random() < 0.6
    fades = rng.choice(FADES_IN)
    if not is_new and stage.light < DARK_BELOW:
        fades = FADES_IN[0]  # the first step of a slow one would show nothing
    light = _light(stage, rng.choice(("normal", "bright"))) if len(fades) > 1 and is_new else None
    first = Step(fade=fades[0], event=("fade_in", None), new_scene=is_new, light=light)
    rest = [Step(fade=share) for share in fades[1:]]
    return [*(Step() for _ in range(rng.randint(1, 4))), first, *rest]


def dark(stage: Stage) -> list[Step]:
    """The light goes down."""
    lights = [
        light
        for light in (_light(stage, "dark"), _light(stage, "normal"))
        if light / stage.light <= DARKER_AT_MOST
    ]
    return _lit(stage, "dark", lights)


def bright(stage: Stage) -> list[Step]:
    """The light goes up."""
    lights = [
        light
        for light in (_light(stage, "normal"), _light(stage, "bright"))
        if light / stage.light >= BRIGHTER_AT_LEAST
    ]
    return _lit(stage, "bright", lights)


def _light(stage: Stage, level: str) -> float:
    return stage.rng.uniform(*LIGHTS[level])


def _lit(stage: Stage, kind: str, lights: list[float]) -> list[Step]:
    """At once, nearly at once, or slowly. A slow dark could still become a fade until it rests."""
    if not lights:
        return []
    to = stage.rng.choice(lights)
    how = stage.rng.choices(("once", "nearly", "slowly"), (0.6, 0.25, 0.15))[0]
    if how == "once":
        return [Step(light=to, event=(kind, None))]
    ratio = to / stage.light
    if how == "nearly":
        # The first step alone is more than a fade begins with.
        first = max(DARKER_AT_MOST, ratio) if kind == "dark" else ratio**0.8
        return [Step(light=stage.light * first, event=(kind, None)), Step(light=to)]
    n = stage.rng.choice((2, 3))
    lights = [stage.light * ratio ** (k / n) for k in range(1, n + 1)]
    if kind == "dark":
        return [*(Step(light=light) for light in lights), Step(event=(kind, None))]
    seen = next(k for k in range(n) if lights[k] / stage.light >= BRIGHT_SEEN)
    return [
        Step(light=at, event=(kind, None) if k == seen else None) for k, at in enumerate(lights)
    ]


def pan(stage: Stage) -> list[Step]:
    """The camera turns one of four ways."""
    rng = stage.rng
    if stage.hard == "whip" and rng.random() < 0.7:
        speed, n = rng.uniform(20, 32), rng.randint(2, 3)
    else:
        speed, n = 3.0 + 14.0 * rng.random() ** 1.3, rng.randint(2, 7)
    while n < 9 and (n - 1) * speed < PAN_DECIDED_PX:
        n += 1
    ways = [way for way in WAYS if stage.room(way) >= speed * n]
    if not ways:
        return []
    way = rng.choice(ways)
    x, y = WAYS[way]
    aside = rng.uniform(-0.2, 0.2) * speed
    if stage.room({-1: "up", 1: "down"}[1 if aside > 0 else -1] if x else "left") < abs(aside) * n:
        aside = 0.0
    if y and stage.room("right" if aside > 0 else "left") < abs(aside) * n:
        aside = 0.0
    right, down = (x * speed, aside) if x else (aside, y * speed)
    smear = 0.55 if speed > 18 else rng.choice((0.0, 0.0, 0.5))
    decided = next(k for k in range(1, n) if (k + 1) * speed >= PAN_DECIDED_PX)
    return [
        Step(
            event=("pan", way) if k == decided else None,
            right=right,
            down=down,
            smear=(smear * right, smear * down),
            moves=True,
        )
        for k in range(n)
    ]


def zoom(stage: Stage) -> list[Step]:
    """The camera zooms in or out."""
    rng = stage.rng
    factor, n = rng.uniform(1.06, 1.2), rng.randint(2, 5)
    while factor**n < ZOOM_DECIDED * 1.04:
        n += 1
    ways = []
    if stage.zoom * factor**n <= ZOOM_RANGE[1]:
        ways.append("in")
    wide = stage.zoom / factor**n
    half = SIDE_PX / 2 / wide + MARGIN_PX
    if wide >= ZOOM_RANGE[0] and all(half < at < WORLD_PX - half for at in (stage.x, stage.y)):
        ways.append("out")
    if not ways:
        return []
    way = ways[-1] if rng.random() < PREFER_OUT else ways[0]
    step = factor if way == "in" else 1 / factor
    decided = next(k for k in range(n) if factor ** (k + 1) >= ZOOM_DECIDED)
    return [
        Step(event=("zoom", way) if k == decided else None, zoom=step, moves=True) for k in range(n)
    ]


def shake(stage: Stage) -> list[Step]:
    """The picture jumps to and fro."""
    rng = stage.rng
    size, n = rng.uniform(3.0, 6.0), rng.randint(4, 7)
    x, y = rng.choice(((1.0, 0.3), (0.3, 1.0), (0.8, 0.8), (0.8, -0.8)))
    steps = []
    for k in range(n):
        much = size * (-1) ** k * rng.uniform(0.8, 1.2)
        off = (much * x + rng.uniform(-0.8, 0.8), much * y + rng.uniform(-0.8, 0.8))
        steps.append(Step(event=("shake", None) if k == 2 else None, off=off, moves=True))
    return steps


def jolt(stage: Stage) -> list[Step]:
    """A knock against the camera, out and back: nothing to tell."""
    off = tuple(stage.rng.choice((-1, 1)) * stage.rng.uniform(2.0, 9.0) for _ in range(2))
    return [Step(off=(off[0], off[1]), moves=True), Step(moves=True)]


def blur(stage: Stage) -> list[Step]:
    """The picture loses its focus for some frames."""
    rng = stage.rng
    radius, n = rng.uniform(3.0, 5.5), rng.randint(3, 7)
    middle = [Step(blur=radius) for _ in range(n)]
    if rng.random() < 0.5:
        return [Step(event=("blur", None), blur=radius), *middle]
    return [Step(blur=1.0), Step(event=("blur", None), blur=radius), *middle, Step(blur=1.0)]


COURSES: dict[str, Course] = {
    "cut": cut,
    "fade": fade,
    "dark": dark,
    "bright": bright,
    "pan": pan,
    "zoom": zoom,
    "shake": shake,
    "blur": blur,
}
"""A course that finds no room is an empty list."""
