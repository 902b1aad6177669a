"""The course of a clip without pixels: what is where at each frame, and what can be told.

At most one thing happens to camera, light and scene at a time; things move meanwhile. The choice
leans towards what has not happened yet in this clip, so that types come equally often and in any
order. Frame t depends on the frames before it only: a longer clip begins with the shorter one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from .courses import COURSES, black, jolt
from .event_types import EVENT_TYPES, WAY_FROM_SIDE, WAY_TO_SIDE, WorldEvent
from .movements import Told, enter, moved, start
from .rules import ACTIONS, SIDE_PX, WorldRules
from .sentences import BLACK_SENTENCE, event_sentence, scene_sentence
from .stage import DARK_BELOW, SHOWN_SHARE, Stage, Step, Thing, new_scene

HARD_NEGATIVES = ("sway", "jolt", "shadow", "drift", "fidget", "whip", "hesitate", "giant")
"""Nothing of these is told: a hand that sways, a knock, a shadow, exposure that drifts, somebody
who fidgets, a pan so fast that it smears (only its cut would be false), a mover that hesitates,
movers so large that they hide half the picture."""
FULL_FADE = 0.99
CAMERA = ("pan", "zoom", "shake", "fade")
OVERLAP = 0.15
"""Share of camera movements that may begin while something moves."""
CUT_OFF = 0.3
"""Share of cuts that may cut a movement off."""
IN_MOTION = 0.2
FIRST_PAUSE = 5.0
"""Mean frames before the first action, besides two: what moves already may stop before it."""
TRIES = 8


@dataclass(frozen=True, slots=True)
class Item:
    """A thing in the picture.

    Attributes:
        thing: how it looks.
        left, top, right, bottom: its box, px of the picture; may reach outside.
        pose: frames that it has moved for.
        is_moving: it moved since the frame before.
        shown: share of it that shows, [0, 1].
    """

    thing: Thing
    left: float
    top: float
    right: float
    bottom: float
    pose: int
    is_moving: bool
    shown: float


@dataclass(frozen=True, slots=True)
class FrameState:
    """Everything about one frame but its pixels.

    Attributes:
        scene: number of the background.
        x, y: middle of the view, world units, sway and jolts included; zoom.
        light, fade: gains; drift of exposure is in light.
        blur: radius, px; smear: length of motion blur, px right and down.
        shadow: left border and width of a shadow, px; None without one.
        items: things in the picture, the ones behind first.
        events: that are told at this frame.
        narration: sentences told at this frame.
        is_dark, camera_moves: what they say; is_new_scene: the first frame of a scene.
    """

    scene: int
    x: float
    y: float
    zoom: float
    light: float
    fade: float
    blur: float
    smear: tuple[float, float]
    shadow: tuple[float, float] | None
    items: tuple[Item, ...]
    events: tuple[WorldEvent, ...]
    narration: tuple[str, ...]
    is_dark: bool
    camera_moves: bool
    is_new_scene: bool


def hard_negative_of(seed: int, rules: WorldRules) -> str | None:
    """Which hard negative a clip has."""
    rng = Random(seed * 8 + 1)
    return rng.choice(HARD_NEGATIVES) if rng.random() < rules.hard_negatives else None


def bar_px_of(seed: int, rules: WorldRules) -> int:
    """Height of the black bars of a clip, px; 0 without."""
    rng = Random(seed * 8 + 2)
    return rng.randint(4, 14) if rng.random() < rules.letterbox else 0


def states(seed: int, rules: WorldRules) -> Iterator[FrameState]:
    """Frame after frame of a clip, without end.

    Args:
        seed: 0 or more; the same one gives the same clip.
        rules: of the clip.

    Cost: about 0.1 ms a frame.
    """
    rng = Random(seed * 8)
    stage = Stage(rng, rules, hard_negative_of(seed, rules), bar_px_of(seed, rules))
    stage.wait = 2.0 + rng.expovariate(1 / FIRST_PAUSE)
    told = Counter[str]()
    new_scene(stage)
    if rng.random() < rules.opening_black:
        stage.fade = 0.0
        stage.plan.extend(black(stage))
    else:
        _in_motion(stage)
    frame = 0
    while True:
        events = _next(stage, frame, told) if frame else []
        yield _state(stage, frame, events)
        frame += 1


def _in_motion(stage: Stage) -> None:
    """Now and then something moves already when a scene is first seen: it did not start then."""
    if stage.rng.random() >= IN_MOTION:
        return
    stage.scene_age = 2
    start(stage, stage.rng.choice(("stop", "leave", "meet")))
    for body in stage.bodies:
        body.is_new = False


def _next(stage: Stage, frame: int, told: Counter[str]) -> list[WorldEvent]:
    """One frame on; what can be told of it."""
    _begin(stage, told)
    step = stage.now = stage.plan.popleft() if stage.plan else Step()
    stage.scene_age += 1
    if step.new_scene:
        new_scene(stage)
        if step.fade is None:
            _in_motion(stage)
    stage.x += step.right / stage.zoom
    stage.y += step.down / stage.zoom
    stage.zoom *= step.zoom
    stage.light = stage.light if step.light is None else step.light
    stage.fade = stage.fade if step.fade is None else step.fade
    _disturb(stage)
    events = []
    if step.event:
        kind, way = step.event
        sentence = event_sentence(kind, direction=way)
        events.append(WorldEvent(frame, kind, direction=way, sentence=sentence))
    holds = step.moves or stage.fade < FULL_FADE
    if not step.new_scene and stage.fade >= FULL_FADE:
        events += [_event(frame, item) for item in moved(stage, holds)]
    told.update(event.kind for event in events)
    return sorted(events, key=lambda event: EVENT_TYPES.index(event.kind))


def _event(frame: int, told: Told) -> WorldEvent:
    kind, body, way = told
    colour, side, size = body.thing.colour, None, None
    if kind == "enter":
        side = next(s for s, inwards in WAY_FROM_SIDE.items() if inwards == way)
        size = body.thing.size
    elif kind == "leave" and way:
        side = WAY_TO_SIDE[way]
    sentence = event_sentence(kind, colour, side, way, size)
    return WorldEvent(frame, kind, colour, side, way, size, sentence)


def _begin(stage: Stage, told: Counter[str]) -> None:
    """Begins something new when it is time for it."""
    if stage.is_busy():
        return
    stage.wait -= 1
    if stage.wait > 0:
        return
    rng = stage.rng
    if stage.hard == "jolt" and rng.random() < 0.25:
        stage.plan.extend(jolt(stage))
        return
    for _ in range(TRIES):
        action = rng.choices(ACTIONS, _weights(stage, told))[0]
        if _begun(stage, action):
            stage.wait = 2 + rng.expovariate(1 / max(stage.rules.pause_frames, 1e-6))
            return
    stage.wait = 1


def _weights(stage: Stage, told: Counter[str]) -> list[float]:
    """What has happened in this clip already is less likely."""
    weights = []
    for action, weight in zip(ACTIONS, stage.rules.action_weights, strict=True):
        parts = {"fade": ("fade_out",)}.get(action, tuple(action.split("_")))
        weights.append(weight / (1.0 + max(told[part] for part in parts)) ** 2)
    return weights


def _begun(stage: Stage, action: str) -> bool:
    if action in COURSES:
        if action in CAMERA and stage.anything_moves():
            all_move = all(body.is_settled or body.is_moving for body in stage.bodies)
            if action == "fade" or not all_move or stage.rng.random() > OVERLAP:
                return False
        if action == "cut" and stage.anything_moves() and stage.rng.random() > CUT_OFF:
            return False
        course = COURSES[action](stage)
        stage.plan.extend(course)
        return bool(course)
    how, goal = action.split("_")
    return enter(stage, goal) if how == "enter" else start(stage, goal)


def _disturb(stage: Stage) -> None:
    """One frame of sway, drift and shadow."""
    rng = stage.rng
    if stage.hard == "sway":
        x, y = stage.sway
        stage.sway = (0.6 * x + rng.gauss(0, 0.8), 0.6 * y + rng.gauss(0, 0.8))
    elif stage.hard == "drift":
        stage.drift = min(max(stage.drift * (1 + rng.gauss(0, 0.04)), 0.85), 1.15)
    elif stage.hard == "shadow":
        if stage.shadow is None:
            stage.shadow = (-60.0, rng.uniform(20, 45)) if rng.random() < 0.15 else None
        else:
            left, width = stage.shadow
            stage.shadow = (left + 6.0, width) if left < SIDE_PX else None


def _state(stage: Stage, frame: int, events: list[WorldEvent]) -> FrameState:
    is_new = frame == 0 or stage.now.new_scene
    items = []
    for body in stage.bodies:
        if 0.0 in stage.depth(body):
            continue
        moves = (body.is_moving or body.fidgets) and not body.pauses
        box = stage.box(body)
        items.append(Item(body.thing, *box, body.pose, moves and not is_new, stage.shown(body)))
    visible = sorted(
        (item for item in items if item.thing.colour and item.shown >= SHOWN_SHARE),
        key=lambda item: item.left + item.right,
    )
    scene = scene_sentence([str(item.thing.colour) for item in visible])
    narration = [event.sentence for event in events]
    if is_new:
        narration.append(scene if stage.fade > 0.0 else BLACK_SENTENCE)
    off = stage.now.off
    return FrameState(
        scene=stage.scene,
        x=stage.x - (off[0] + stage.sway[0]) / stage.zoom,
        y=stage.y - (off[1] + stage.sway[1]) / stage.zoom,
        zoom=stage.zoom,
        light=stage.light * stage.drift,
        fade=stage.fade,
        blur=stage.now.blur,
        smear=stage.now.smear,
        shadow=stage.shadow,
        items=tuple(items),
        events=tuple(events),
        narration=tuple(narration),
        is_dark=stage.light < DARK_BELOW,
        camera_moves=stage.now.moves,
        is_new_scene=is_new,
    )
