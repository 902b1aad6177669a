"""How things come, go, start, stop and meet on the stage, and when each can be told."""

from __future__ import annotations

import math

from .courses import WAYS
from .rules import SIDE_PX
from .stage import SHOWN_SHARE, UNTIL_OUT, Body, Stage, new_thing

ENTERED_PX = 6.0
"""So much of a thing must show, along its way, before it can be told what enters."""
GONE_PX = 1.5
STILL_FRAMES = 2
"""A movement is over after so many frames at rest: one is a hesitation."""
MOST_BODIES = 4

Told = tuple[str, Body, "str | None"]
"""Event type, whose it is, and the way it goes."""


def entered_px(stage: Stage, body: Body) -> float:
    """How much must show of it; of tiny things less."""
    least = min(body.thing.half_width, body.thing.half_height) * 2 * stage.zoom
    return min(ENTERED_PX, 0.6 * least)


def enter(stage: Stage, goal: str) -> bool:
    """Brings something in from a side; False where there is no room for it."""
    rng = stage.rng
    if len(stage.bodies) >= MOST_BODIES:
        return False
    thing = new_thing(stage)
    way = rng.choice(tuple(WAYS))
    x, y = WAYS[way]
    half = (thing.half_width if x else thing.half_height) * stage.zoom
    low, high = (11.0, 24.0) if goal == "leave" else (6.0, 15.0)
    speed = rng.uniform(low, high) * (1.0 + 0.5 * (half > 17))
    body = Body(thing, 0.0, 0.0, is_moving=True, is_seen=False, is_settled=False)
    need = entered_px(stage, body) + rng.uniform(0.0, 0.9) * speed
    target = None
    if goal == "meet":
        seen = [b for b in stage.bodies if not b.is_moving and stage.shown(b) > 0.85]
        if not seen:
            return False
        target = rng.choice(seen)
    across = _across(stage, body, x != 0, target)
    edge_x, edge_y = SIDE_PX / 2, SIDE_PX / 2 - stage.bar_px
    along = -(edge_x if x else edge_y) - half + need - speed
    body.x = stage.x + (x * along + (across if y else 0.0)) / stage.zoom
    body.y = stage.y + (y * along + (across if x else 0.0)) / stage.zoom
    aside = 0.0 if target else rng.uniform(-0.2, 0.2) * speed
    body.vx, body.vy = (v / stage.zoom for v in (x * speed + y * aside, y * speed + x * aside))
    if target and not _meets_first(stage, body, target):
        return False
    body.left = UNTIL_OUT
    body.passes = goal == "leave" or (goal == "meet" and rng.random() < 0.4)
    if goal == "stop":
        body.left = max(2, math.ceil(1.6 * half / speed)) + rng.randint(0, 3)
        if not _ends_well(stage, body):
            return False
    elif goal == "leave" and rng.random() < 0.7 and _touches(stage, body, 20):
        return False
    stage.bodies.append(body)
    return True


def _across(stage: Stage, body: Body, goes_across: bool, target: Body | None) -> float:
    """Where it crosses, px from the middle of the picture."""
    thing, rng = body.thing, stage.rng
    half = (thing.half_height if goes_across else thing.half_width) * stage.zoom
    if target is None:
        edge = SIDE_PX / 2 - (stage.bar_px if goes_across else 0)
        reach = max(0.0, edge - 0.7 * half)
        return rng.uniform(-reach, reach)
    at = (target.y - stage.y) if goes_across else (target.x - stage.x)
    size = target.thing.half_height if goes_across else target.thing.half_width
    return (at + rng.uniform(-0.4, 0.4) * size) * stage.zoom


def start(stage: Stage, goal: str) -> bool:
    """Sets something in motion that stands still and shows; False where nothing can."""
    rng = stage.rng
    still = [
        body
        for body in stage.bodies
        if not body.is_moving
        and not body.fidgets
        and body.rested > 3
        and stage.shown(body) > 0.75
        and stage.scene_age > 1
    ]
    rng.shuffle(still)
    for body in still:
        for _ in range(6):
            if _launched(stage, body, goal):
                stage.bodies.remove(body)
                stage.bodies.append(body)
                return True
    return False


def _launched(stage: Stage, body: Body, goal: str) -> bool:
    rng = stage.rng
    kept = (body.vx, body.vy, body.left)
    speed = rng.uniform(4.5, 13.0) if goal == "stop" else rng.uniform(7.0, 16.0)
    x, y = WAYS[rng.choice(tuple(WAYS))]
    aside = rng.uniform(-0.25, 0.25) * speed
    vx, vy = x * speed + y * aside, y * speed + x * aside
    target = None
    if goal == "meet":
        others = [b for b in stage.bodies if b is not body and stage.shown(b) > 0.85]
        others = [b for b in others if not b.is_moving]
        if not others:
            return False
        target = rng.choice(others)
        dx, dy = target.x - body.x, target.y - body.y
        length = math.hypot(dx, dy)
        if max(abs(dx), abs(dy)) < 1.6 * min(abs(dx), abs(dy)) or length == 0:
            return False
        vx, vy = dx / length * speed, dy / length * speed
    body.vx, body.vy = vx / stage.zoom, vy / stage.zoom
    body.left = rng.randint(2, 7) if goal == "stop" else UNTIL_OUT
    fits = (
        _ends_well(stage, body)
        if goal == "stop"
        else _meets_first(stage, body, target)
        if target
        else not _touches(stage, body, 20)
    )
    if not fits:
        body.vx, body.vy, body.left = kept
        return False
    body.passes = goal == "leave" or (goal == "meet" and rng.random() < 0.4)
    body.is_moving, body.is_new, body.is_settled, body.rested, body.pose = True, True, False, 0, 0
    body.touched = set()
    return True


def _at(body: Body, frames: int) -> Body:
    return Body(body.thing, body.x + frames * body.vx, body.y + frames * body.vy)


def _touches(stage: Stage, body: Body, frames: int) -> bool:
    """Whether it would touch another one on its way."""
    return any(
        other is not body and stage.apart(_at(body, k), other) < 1.1
        for k in range(1, frames + 1)
        for other in stage.bodies
    )


def _ends_well(stage: Stage, body: Body) -> bool:
    """Whether it comes to rest well inside the picture and touches nothing on its way."""
    end = _at(body, body.left)
    across, down = stage.depth(end)
    area = across * down / (4 * end.thing.half_width * end.thing.half_height * stage.zoom**2)
    return area > 0.7 and not _touches(stage, body, body.left)


def _meets_first(stage: Stage, body: Body, target: Body) -> bool:
    """Whether the target is what it touches first, where both show and after two frames."""
    for k in range(1, 25):
        at = _at(body, k)
        touched = [o for o in stage.bodies if o is not body and stage.apart(at, o) < 1.0]
        if touched:
            across, down = stage.depth(at)
            whole = 4 * at.thing.half_width * at.thing.half_height * stage.zoom**2
            return touched == [target] and k > 2 and across * down / whole > 0.6
    return False


def way_of(body: Body) -> str:
    """The way it moves, the nearest of four."""
    if abs(body.vx) >= abs(body.vy):
        return "right" if body.vx > 0 else "left"
    return "down" if body.vy > 0 else "up"


def moved(stage: Stage, holds: bool) -> list[Told]:
    """Moves everything by one frame; what can be told of it.

    Args:
        stage: its bodies are changed.
        holds: the camera moves or the picture is not all there: nothing is told, nothing stops.
    """
    told: list[Told] = []
    moving = [body for body in stage.bodies if body.is_moving]
    for body in stage.bodies:
        if body.fidgets:
            _fidgeted(stage, body)
        elif body.is_moving:
            told += _advanced(stage, body, holds)
        else:
            body.rested += 1
            if not body.is_settled and body.rested >= STILL_FRAMES:
                body.is_settled = True
                if not holds and stage.shown(body) >= SHOWN_SHARE:
                    told.append(("stop", body, None))
    # Only now is everything where it is at this frame.
    for body in moving:
        if body.is_moving and not body.pauses:
            told += _met(stage, body, holds) + _at_border(stage, body, holds)
    return told


def _fidgeted(stage: Stage, body: Body) -> None:
    """Another pose now and then, and a little to and fro."""
    body.pauses = stage.rng.random() < 0.4
    if not body.pauses:
        body.pose += stage.rng.randint(1, 5)
        body.x += stage.rng.uniform(-2.5, 2.5) / stage.zoom
        body.y += stage.rng.uniform(-1.0, 1.0) / stage.zoom


def _advanced(stage: Stage, body: Body, holds: bool) -> list[Told]:
    if body.left == 0 and not holds:
        body.is_moving, body.rested = False, 1
        return []
    hesitates = stage.hard == "hesitate" and not body.pauses and body.pose > 1 and body.is_seen
    body.pauses = hesitates and stage.rng.random() < 0.2
    if body.pauses:
        return []
    body.x += body.vx
    body.y += body.vy
    body.pose += 1
    body.left -= body.left > 0
    was_new, body.is_new = body.is_new, False
    return [("start", body, way_of(body))] if was_new else []


def _met(stage: Stage, body: Body, holds: bool) -> list[Told]:
    """It touches another one that shows for the first time; it stops there or passes."""
    for other in stage.bodies:
        if other is body or other in body.touched or stage.apart(body, other) >= 1.0:
            continue
        body.touched.add(other)
        other.touched.add(body)
        if holds or min(stage.shown(other), stage.shown(body)) < SHOWN_SHARE:
            continue
        if not body.passes:
            body.left = 0
            _back_to_touch(stage, body, other)
        return [("meet", body, None)]
    return []


def _back_to_touch(stage: Stage, body: Body, other: Body) -> None:
    """Takes back as much of its last step, in quarters, as leaves the two touching."""
    for _ in range(3):
        here = body.x, body.y
        body.x -= 0.25 * body.vx
        body.y -= 0.25 * body.vy
        if stage.apart(body, other) >= 1.0:
            body.x, body.y = here
            return


def _at_border(stage: Stage, body: Body, holds: bool) -> list[Told]:
    across, down = stage.depth(body)
    way = way_of(body)
    deep = across if way in ("left", "right") else down
    if not body.is_seen:
        if deep < entered_px(stage, body):
            return []
        body.is_seen = True
        return [] if holds else [("enter", body, way)]
    if min(across, down) >= GONE_PX:
        return []
    stage.bodies.remove(body)
    left, top, right, bottom = stage.box(body)
    if min(right, SIDE_PX - left) < GONE_PX:
        way = "left" if right < SIDE_PX - left else "right"
    else:
        way = "up" if bottom < SIDE_PX - top else "down"
    return [] if holds else [("leave", body, way)]
