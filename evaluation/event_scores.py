"""Scores of a gate: which of its events are true, and how soon it said so.

The rule: an event that opened matches a true event of the same type whose first decidable frame is
at most one sampled frame away; each matches once, the nearest pair first. A true event without a
match is missed. An opened event without a match is false, also one that opens late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..runtime.gate import Gate
from ..runtime.motion import MotionDetector, thumbnail_summary
from ..runtime.preprocess import small_picture
from ..runtime.scripted import TrueEvent
from ..runtime.values import Event, Features, GateDecision, UInt8

TOLERANCE_SLACK_S = 0.02
"""Added to one sampled frame: files are sampled at the nearest picture, not the exact time."""


@dataclass(frozen=True, slots=True)
class TypeScore:
    """How well one event type was found.

    Attributes:
        event: its type.
        n_true: true events.
        n_opened: events that opened.
        n_found: matched pairs.
        n_directions: matched pairs that have a true direction.
        n_directions_right: those of which the direction was right.
        latency_frames: of each pair, sampled frames from the first decidable one; below 0 is early.
    """

    event: str
    n_true: int = 0
    n_opened: int = 0
    n_found: int = 0
    n_directions: int = 0
    n_directions_right: int = 0
    latency_frames: tuple[float, ...] = ()

    @property
    def recall(self) -> float:
        """Share of true events that were found; 1 where there were none."""
        return self.n_found / self.n_true if self.n_true else 1.0

    @property
    def precision(self) -> float:
        """Share of opened events that were true; 1 where none opened."""
        return self.n_found / self.n_opened if self.n_opened else 1.0

    @property
    def n_false(self) -> int:
        """Opened events that match nothing."""
        return self.n_opened - self.n_found

    @property
    def direction_accuracy(self) -> float | None:
        """Share of right directions among found events; None where no direction was asked for."""
        return self.n_directions_right / self.n_directions if self.n_directions else None

    def __add__(self, other: TypeScore) -> TypeScore:
        return TypeScore(
            self.event,
            self.n_true + other.n_true,
            self.n_opened + other.n_opened,
            self.n_found + other.n_found,
            self.n_directions + other.n_directions,
            self.n_directions_right + other.n_directions_right,
            self.latency_frames + other.latency_frames,
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores over any number of clips; `+` adds them up.

    Attributes:
        types: per event type.
        watched_s: stream time watched, seconds.
    """

    types: dict[str, TypeScore] = field(default_factory=dict)
    watched_s: float = 0.0

    def __add__(self, other: Scores) -> Scores:
        names = dict.fromkeys([*self.types, *other.types])
        types = {
            name: self.types.get(name, TypeScore(name)) + other.types.get(name, TypeScore(name))
            for name in names
        }
        return Scores(types, self.watched_s + other.watched_s)

    @property
    def false_per_minute(self) -> float:
        """False events of all types in a minute of stream time."""
        n_false = sum(score.n_false for score in self.types.values())
        return 60.0 * n_false / self.watched_s if self.watched_s else 0.0


def decisions_of(frames: Iterable[tuple[float, UInt8]], gate: Gate) -> list[GateDecision]:
    """What a gate without a model decides at each frame of a clip.

    Args:
        frames: (stream time in seconds, (height, width, 3) uint8 RGB), in order.
        gate: it is reset first.
    """
    gate.reset()
    detector = MotionDetector()
    decisions: list[GateDecision] = []
    for time_s, pixels in frames:
        small = small_picture(pixels)
        motion = detector.step_small(small, time_s)
        summary = thumbnail_summary(small)
        tokens = summary[:0].reshape(0, 0)
        features = Features(time_s, tokens, summary, motion, motion.is_still)
        dt_s = time_s - decisions[-1].time_s if decisions else None
        decisions.append(gate.step(features, dt_s))
    return decisions


def nearest_pairs(
    found: Sequence[float], true: Sequence[float], tolerance: float
) -> list[tuple[int, int]]:
    """(index of found, index of true) at most `tolerance` apart, nearest first, each used once."""
    pairs = sorted(
        (abs(at - want), i, j)
        for i, at in enumerate(found)
        for j, want in enumerate(true)
        if abs(at - want) <= tolerance
    )
    used_found: set[int] = set()
    used_true: set[int] = set()
    chosen: list[tuple[int, int]] = []
    for _, i, j in pairs:
        if i not in used_found and j not in used_true:
            used_found.add(i)
            used_true.add(j)
            chosen.append((i, j))
    return chosen


def score_events(
    opened: Sequence[Event],
    truth: Sequence[TrueEvent],
    *,
    fps: float,
    watched_s: float,
    scored: Iterable[str],
) -> Scores:
    """Scores of one clip.

    Args:
        opened: events that the gate opened.
        truth: what really happened, each at its first decidable frame.
        fps: sampled frames per second; the tolerance is one sampled frame.
        watched_s: length of the clip, seconds.
        scored: event types that the truth is complete for; others are left out.
    """
    tolerance_s = 1.0 / fps + TOLERANCE_SLACK_S
    types: dict[str, TypeScore] = {}
    for name in scored:
        mine = [event for event in opened if event.event == name]
        true = [event for event in truth if event.event == name]
        near = nearest_pairs([e.opened_s for e in mine], [e.from_s for e in true], tolerance_s)
        pairs = [(mine[i], true[j]) for i, j in near]
        asked = [
            (event.attributes.get("direction"), want.attributes["direction"])
            for event, want in pairs
            if "direction" in want.attributes
        ]
        types[name] = TypeScore(
            name,
            len(true),
            len(mine),
            len(pairs),
            len(asked),
            sum(said == want for said, want in asked),
            tuple(round((event.opened_s - want.from_s) * fps, 3) for event, want in pairs),
        )
    return Scores(types, watched_s)
