"""What can be had for nothing on the rendered world: majority answers, and a hand-written rule.

The rule reads the same motion maps as the reference assistant and the `change` gate's decisions;
nothing in it is learned or tuned on the frozen set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..runtime.gate_change import ChangeGate
from ..runtime.motion import MotionDetector, thumbnail_summary
from ..runtime.values import Features, GateDecision, Motion, UInt8
from .world import Clip, WorldEvent, WorldQuestion, event_sentence
from .world.event_types import ATTRIBUTES, COLOURS, EVENT_TYPES, WAY_FROM_SIDE, WAY_TO_SIDE
from .world_scores import ClipPrediction

BLACK_LEVEL = 6.0
"""Mean luma, grey levels, under which a picture is black."""
ZOOM_LOG = 0.06
"""Growth of the picture, natural logarithm, from which it is a zoom."""
ZOOM_EXPLAINED = 0.5
"""Share of the flow that growth alone must explain."""
SHAKE_PX = 4.0
SHAKE_FRAMES = 4
"""A shake goes on as long as it pauses for no more than so many frames."""
BLUR_KEPT = 0.75
"""Share of the contrast that is left, under which the picture got blurry."""
FLOW_PX = 2.0
"""Displacement from which a cell moves."""
PROTOTYPES = np.array(
    [
        [200, 30, 30],
        [225, 110, 20],
        [225, 205, 40],
        [50, 150, 50],
        [40, 80, 190],
        [120, 40, 170],
        [240, 240, 240],
        [12, 12, 12],
    ],
    np.float32,
)
"""RGB of COLOURS, as a hand would choose it."""
_AT = (np.arange(7, dtype=np.float32) - 3) * 16
_X, _Y = np.meshgrid(_AT, _AT)


def majority_answers(clips: Iterable[Clip]) -> dict[str, str]:
    """The most frequent answer of each topic, to be counted on training clips."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        for question in clip.questions:
            counts[question.topic][question.answer] += 1
    return {topic: answers.most_common(1)[0][0] for topic, answers in counts.items()}


def answers_by_majority(
    questions: Sequence[WorldQuestion], majority: Mapping[str, str]
) -> tuple[str, ...]:
    """The majority's answer to each question; nothing where its topic is unknown."""
    return tuple(majority.get(question.topic, "") for question in questions)


def majority_event(clips: Iterable[Clip]) -> WorldEvent:
    """The most frequent type with the most frequent value of each attribute it has."""
    events = [event for clip in clips for event in clip.events]
    counts = Counter(event.kind for event in events)
    kind = max(EVENT_TYPES, key=lambda name: counts[name])
    said: dict[str, str | None] = {}
    for name in ATTRIBUTES:
        values = Counter(str(getattr(e, name)) for e in events if e.kind == kind)
        value = values.most_common(1)[0][0]
        said[name] = None if value == "None" else value
    return WorldEvent(0, kind, **said, sentence=event_sentence(kind, **said))


@dataclass(slots=True)
class MotionRule:
    """The hand-written rule: one `step` a frame, and what it carries from frame to frame."""

    gate: ChangeGate = field(default_factory=ChangeGate)
    detector: MotionDetector = field(default_factory=MotionDetector)
    is_black: bool = False
    growth: float = 0.0
    shifts: list[tuple[float, float]] = field(default_factory=list)
    contrast: float = 0.0
    shaken: int = -99
    last_way: str | None = None
    at_border: bool = False

    def step(self, frame: int, time_s: float, small: UInt8) -> list[WorldEvent]:
        """Events at one frame.

        Args:
            frame: its number, to be put into the events.
            time_s: seconds, rising.
            small: (112, 112, 3) uint8 RGB.

        Cost: about 3 ms.
        """
        motion = self.detector.step_small(small, time_s)
        tokens = np.zeros((0, 0), np.float32)
        features = Features(time_s, tokens, thumbnail_summary(small), motion, motion.is_still)
        decision = self.gate.step(features)
        was_black, self.is_black = self.is_black, motion.level < BLACK_LEVEL
        if self.is_black or was_black or motion.is_first:
            self._forget(motion)
            if motion.is_first or self.is_black == was_black:
                return []
            return [_event(frame, "fade_out" if self.is_black else "fade_in")]
        opened = {event.event: event.attributes for event in decision.opened}
        if "cut" in opened:
            self._forget(motion)
            return [_event(frame, "cut")]
        found = [_event(frame, kind) for kind in ("dark", "bright") if kind in opened]
        found += self._camera(frame, motion, opened)
        if not found:
            found += self._things(frame, motion, decision, small)
        self.contrast = motion.contrast
        return found

    def _forget(self, motion: Motion) -> None:
        self.growth, self.shifts, self.contrast = 0.0, [], motion.contrast

    def _camera(
        self, frame: int, motion: Motion, opened: Mapping[str, Mapping[str, str]]
    ) -> list[WorldEvent]:
        self.shifts = [*self.shifts[-2:], motion.shift_px]
        grown = growth_of(motion)
        before, self.growth = self.growth, self.growth + grown if grown else 0.0
        found = []
        if shakes(self.shifts):
            if frame - self.shaken > SHAKE_FRAMES:
                found.append(_event(frame, "shake"))
            self.shaken = frame
        elif "pan" in opened:
            found.append(_event(frame, "pan", direction=opened["pan"]["direction"]))
        elif abs(self.growth) >= ZOOM_LOG > abs(before):
            found.append(_event(frame, "zoom", direction="in" if self.growth > 0 else "out"))
        is_lit = abs(motion.light_stops) > 0.3
        if motion.contrast < BLUR_KEPT * self.contrast and not is_lit:
            found.append(_event(frame, "blur"))
        return found

    def _things(
        self, frame: int, motion: Motion, decision: GateDecision, small: UInt8
    ) -> list[WorldEvent]:
        flow = motion.maps[:2]
        moving = np.hypot(*flow) > FLOW_PX
        found = []
        if any(event.event == "motion" for event in decision.opened) and moving.any():
            way = _way(flow, moving)
            side = next(s for s, inwards in WAY_FROM_SIDE.items() if inwards == way)
            colour = _colour(small, moving)
            if _touches(moving, side):
                size = "large" if moving.sum() > 6 else "small"
                found.append(_event(frame, "enter", colour, side, way, size))
            else:
                found.append(_event(frame, "start", colour, None, way))
        if any(event.event == "motion" for event in decision.closed) and self.last_way:
            if self.at_border:
                found.append(
                    _event(frame, "leave", None, WAY_TO_SIDE[self.last_way], self.last_way)
                )
            else:
                found.append(_event(frame, "stop"))
        if moving.any():
            self.last_way = _way(flow, moving)
            self.at_border = _touches(moving, WAY_TO_SIDE[self.last_way])
        return found


def _event(
    frame: int,
    kind: str,
    colour: str | None = None,
    side: str | None = None,
    direction: str | None = None,
    size: str | None = None,
) -> WorldEvent:
    sentence = event_sentence(kind, colour, side, direction, size if colour else None)
    return WorldEvent(frame, kind, colour, side, direction, size, sentence)


def growth_of(motion: Motion) -> float:
    """Growth of the picture since the frame before, natural logarithm; 0 where it is no zoom."""
    u, v = motion.maps[:2]
    growth = float((u * _X + v * _Y).sum() / (_X**2 + _Y**2).sum())
    whole = float((u**2 + v**2).sum())
    left = float(((u - growth * _X) ** 2 + (v - growth * _Y) ** 2).sum())
    return growth if whole > 0 and 1 - left / whole >= ZOOM_EXPLAINED else 0.0


def shakes(shifts: Sequence[tuple[float, float]]) -> bool:
    """Whether the picture went three times to and fro."""
    if len(shifts) < 3 or any(np.hypot(*shift) < SHAKE_PX for shift in shifts[-3:]):
        return False
    one, two, three = (np.array(shift) for shift in shifts[-3:])
    return bool(one @ two < 0 and two @ three < 0)


def _way(flow: NDArray[np.float32], moving: NDArray[np.bool_]) -> str:
    right, down = (float(part[moving].mean()) for part in flow)
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _touches(moving: NDArray[np.bool_], side: str) -> bool:
    border = {"left": moving[:, 0], "right": moving[:, -1], "top": moving[0], "bottom": moving[-1]}
    return bool(border[side].any())


def _colour(small: UInt8, moving: NDArray[np.bool_]) -> str:
    """The prototype nearest to what is most saturated where something moves."""
    pixels = small.reshape(7, 16, 7, 16, 3).transpose(0, 2, 1, 3, 4)[moving].reshape(-1, 3)
    values = pixels.astype(np.float32)
    strong = values[np.argsort(np.ptp(values, axis=1))[-len(values) // 4 :]]
    distances = np.linalg.norm(PROTOTYPES - np.median(strong, axis=0), axis=1)
    return COLOURS[int(distances.argmin())]


def rule_prediction(clip: Clip) -> ClipPrediction:
    """What the rule says of a clip with pixels; it speaks when it has an event.

    Raises:
        ValueError: the clip was made without pixels.
    """
    if clip.pixels is None:
        raise ValueError("got a clip without pixels, expected one rendered with pixels=True")
    rule = MotionRule()
    events: list[WorldEvent] = []
    for frame, (time_s, small) in enumerate(zip(clip.time_s, clip.pixels, strict=True)):
        events += rule.step(frame, float(time_s), small)
    return ClipPrediction(tuple(sorted({event.frame for event in events})), tuple(events))
