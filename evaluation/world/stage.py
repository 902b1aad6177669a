"""The stage of the rendered world: a scene, a camera, light, and the things on it, at one frame."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from random import Random

from .event_types import COLOURS
from .rules import SIDE_PX, WorldRules

WORLD_PX = 336
"""Side of a background, world units; one unit is one pixel at zoom 1."""
MARGIN_PX = 12.0
"""The camera stays so far from the border of a background, so that a hand may sway."""
SHOWN_SHARE = 0.5
"""Share of a thing that must show before it counts as visible."""
SMALL_UP_TO, LARGE_FROM = 0.21, 0.3
"""Widths, shares of the picture's; nothing lies between that is called small or large."""
LIGHTS = {"dark": (0.26, 0.42), "normal": (0.75, 1.1), "bright": (1.55, 1.9)}
"""Gains of the three lights."""
DARK_BELOW = 0.55
UNTIL_OUT = -1
"""Frames left of what goes on until it is out of the picture."""
SAMPLES = tuple((x, y) for x in (-0.55, 0.0, 0.55) for y in (-0.55, 0.0, 0.55))
"""Points of a thing that are asked whether they show, shares of its half sides."""


@dataclass(frozen=True, slots=True)
class Thing:
    """How something looks.

    Attributes:
        number: picks its sprite from the bank.
        colour: of COLOURS; None of what has no single colour.
        is_box: it fills its corners; else it is round.
        half_width, half_height: world units.
        is_mirrored: left and right.
        size: "small" or "large" where it has a colour.
    """

    number: int
    colour: str | None
    is_box: bool
    half_width: float
    half_height: float
    is_mirrored: bool
    size: str | None


@dataclass(slots=True, eq=False)
class Body:
    """A thing on the stage and how it moves.

    Attributes:
        thing: how it looks.
        x, y: its middle, world units; vx, vy: per frame.
        left: frames that it goes on for; UNTIL_OUT has no end.
        rested: frames since it stopped.
        pose: frames that it has moved for.
        is_moving: it is on its way.
        is_new: it was set in motion and nobody was told.
        is_settled: it rests, and whoever was to be told was told.
        is_seen: enough of it has shown.
        pauses: it stands for this one frame.
        fidgets: it moves its limbs in one place for ever.
        passes: it goes on when it meets another one.
        touched: those it met.
    """

    thing: Thing
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    left: int = 0
    rested: int = 9
    pose: int = 0
    is_moving: bool = False
    is_new: bool = False
    is_settled: bool = True
    is_seen: bool = True
    pauses: bool = False
    fidgets: bool = False
    passes: bool = False
    touched: set[Body] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Step:
    """What the camera, the light and the cut do at one frame; None leaves a value as it is.

    Attributes:
        event: told at this frame, with its direction.
        new_scene: another scene from this frame on.
        right, down: the camera turns, px of the picture.
        zoom: factor.
        off: jump of the whole picture, px.
        blur: radius of defocus, px.
        smear: length of motion blur, px right and down.
        light, fade: gains.
        moves: the camera moves.
    """

    event: tuple[str, str | None] | None = None
    new_scene: bool = False
    right: float = 0.0
    down: float = 0.0
    zoom: float = 1.0
    off: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.0
    smear: tuple[float, float] = (0.0, 0.0)
    light: float | None = None
    fade: float | None = None
    moves: bool = False


@dataclass(slots=True)
class Stage:
    """All that the simulation carries from frame to frame."""

    rng: Random
    rules: WorldRules
    hard: str | None
    bar_px: int
    scene: int = 0
    x: float = WORLD_PX / 2
    y: float = WORLD_PX / 2
    zoom: float = 1.0
    light: float = 1.0
    fade: float = 1.0
    drift: float = 1.0
    sway: tuple[float, float] = (0.0, 0.0)
    shadow: tuple[float, float] | None = None
    bodies: list[Body] = field(default_factory=list)
    plan: deque[Step] = field(default_factory=deque)
    now: Step = field(default_factory=Step)
    wait: float = 2.0
    scene_age: int = 0

    def box(self, body: Body) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of a body, px of the picture."""
        half = SIDE_PX / 2
        ox, oy = self.now.off[0] + self.sway[0], self.now.off[1] + self.sway[1]
        x = (body.x - self.x) * self.zoom + half + ox
        y = (body.y - self.y) * self.zoom + half + oy
        w, h = body.thing.half_width * self.zoom, body.thing.half_height * self.zoom
        return x - w, y - h, x + w, y + h

    def depth(self, body: Body) -> tuple[float, float]:
        """How much of a body shows, px across and down; 0, 0 where it is outside."""
        left, top, right, bottom = self.box(body)
        w = min(right, SIDE_PX) - max(left, 0.0)
        h = min(bottom, SIDE_PX - self.bar_px) - max(top, self.bar_px)
        return (w, h) if w > 0 and h > 0 else (0.0, 0.0)

    def shown(self, body: Body) -> float:
        """Share of a body inside the picture and not behind another, of 9 points on it."""
        boxes = [self.box(b) for b in self.bodies[self.bodies.index(body) + 1 :]]
        left, top, right, bottom = self.box(body)
        x, y, w, h = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
        seen = 0
        for a, b in SAMPLES:
            px, py = x + a * w, y + b * h
            if not (0 <= px < SIDE_PX and self.bar_px <= py < SIDE_PX - self.bar_px):
                continue
            seen += not any(_within(px, py, box) for box in boxes)
        return seen / len(SAMPLES)

    def apart(self, one: Body, two: Body) -> float:
        """Distance of two bodies, 1 where they touch, 0 where their middles meet."""
        a, b = one.thing, two.thing
        dx = abs(one.x - two.x) / (a.half_width + b.half_width)
        dy = abs(one.y - two.y) / (a.half_height + b.half_height)
        if a.is_box and b.is_box:
            return max(dx, dy)
        power = 2.0 if not (a.is_box or b.is_box) else 4.0
        return float((dx**power + dy**power) ** (1 / power))

    def room(self, way: str) -> float:
        """How far the camera can turn that way, px of the picture."""
        half = SIDE_PX / 2 / self.zoom + MARGIN_PX
        far = {
            "left": self.x - half,
            "right": WORLD_PX - half - self.x,
            "up": self.y - half,
            "down": WORLD_PX - half - self.y,
        }[way]
        return far * self.zoom

    def is_busy(self) -> bool:
        """Whether the camera, the light or a fade is at work."""
        return bool(self.plan)

    def anything_moves(self) -> bool:
        """Whether something is on its way or has just stopped."""
        return not all(body.is_settled for body in self.bodies)


def _within(x: float, y: float, box: tuple[float, float, float, float]) -> bool:
    w, h = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    return math.hypot((x - box[0] - w) / w, (y - box[1] - h) / h) < 0.95


def new_thing(stage: Stage, plain: bool | None = None) -> Thing:
    """Something that may come onto the stage; a colour shows once in a scene."""
    rng, rules = stage.rng, stage.rules
    used = {body.thing.colour for body in stage.bodies}
    free = [colour for colour in COLOURS if colour not in used]
    is_plain = rng.random() >= rules.colourless if plain is None else plain
    colour = rng.choice(free) if is_plain else None
    least, most = rules.width_share
    if stage.hard == "giant" and plain is None:
        colour, share, size = None, most * rng.uniform(0.75, 1.0), None
    elif colour is None:
        share, size = most * (0.2 + 0.8 * rng.random()), None
    elif rng.random() < 0.5 or most < LARGE_FROM:
        share, size = least + (min(SMALL_UP_TO, most) - least) * rng.random() ** 0.6, "small"
    else:
        share, size = LARGE_FROM + (most - LARGE_FROM) * rng.random() ** 1.6, "large"
    half = share * SIDE_PX / 2 / stage.zoom
    is_box = rng.random() < 0.3
    tall = rng.uniform(0.75, 1.3) if colour else rng.uniform(0.8, 1.6)
    return Thing(
        number=rng.randrange(1 << 30),
        colour=colour,
        is_box=is_box,
        half_width=half,
        half_height=min(half * tall, (0.32 if colour else 0.5) * SIDE_PX / stage.zoom),
        is_mirrored=rng.random() < 0.5,
        size=size,
    )


def new_scene(stage: Stage) -> None:
    """Another place: background, camera, light, and things that stand or already move."""
    rng = stage.rng
    stage.scene = rng.randrange(1 << 30)
    stage.scene_age = 0
    stage.zoom = math.exp(rng.uniform(math.log(0.75), math.log(1.6)))
    half = SIDE_PX / 2 / stage.zoom + MARGIN_PX
    stage.x, stage.y = rng.uniform(half, WORLD_PX - half), rng.uniform(half, WORLD_PX - half)
    level = rng.choices(("dark", "normal", "bright"), (0.16, 0.72, 0.12))[0]
    stage.light = rng.uniform(*LIGHTS[level])
    stage.bodies = []
    if stage.hard == "fidget" or rng.random() < 0.08:
        place_still(stage, plain=False, fidgets=stage.hard == "fidget")
    for _ in range(rng.choices((0, 1, 2, 3), (0.12, 0.33, 0.33, 0.22))[0]):
        place_still(stage)


def place_still(stage: Stage, plain: bool = True, fidgets: bool = False) -> None:
    """Puts a thing where it shows whole and touches nothing; nothing where there is no room."""
    thing = new_thing(stage, plain)
    if fidgets:  # somebody near the camera, of whom the picture cuts off a part
        half = SIDE_PX / 2 / stage.zoom
        wide, tall = (stage.rng.uniform(0.6, 1.0) for _ in range(2))
        thing = replace(
            thing, half_width=stage.rules.width_share[1] * wide * half, half_height=half * tall
        )
    for _ in range(10):
        reach = SIDE_PX * (0.55 if fidgets else 0.38) / stage.zoom
        x = stage.x + stage.rng.uniform(-reach, reach)
        y = stage.y + stage.rng.uniform(-reach, reach)
        body = Body(thing, x, y, fidgets=fidgets)
        if all(stage.apart(body, other) > 1.25 for other in stage.bodies):
            stage.bodies.append(body)
            if stage.shown(body) >= (SHOWN_SHARE if fidgets else 1.0):
                return
            stage.bodies.pop()
