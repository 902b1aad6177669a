"""The values that move through the stream: frozen, checked when made, arrays read-only.

Time is a field of the value, in seconds of stream time, never read from a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .governor import Load as Load
from .motion_value import Motion as Motion
from .records import Record
from .response import Cause as Cause
from .response import EndedBy as EndedBy
from .response import Response as Response

Float32: TypeAlias = NDArray[np.float32]
UInt8: TypeAlias = NDArray[np.uint8]
Array = TypeVar("Array", bound=NDArray[Any])

Phase = Literal["quiet", "opened", "ongoing", "closed"]
Route = Literal["describe", "answer", "check"]


def _time(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of seconds, 0 or more, got {value}")


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return cast(Array, view)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One sampled picture.

    Attributes:
        index: running number of sampled frames, from 0.
        time_s: stream time, seconds from the first picture of the source.
        pixels: (height, width, 3) uint8 RGB, read-only.
        captured_s: wall time of capture, seconds since 1970; None for a file.
    """

    index: int
    time_s: float
    pixels: UInt8
    captured_s: float | None = None

    def __post_init__(self) -> None:
        _time("Frame.time_s", self.time_s)
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"Frame.pixels must be (height, width, 3) uint8, got {shape} {dtype}")
        object.__setattr__(self, "pixels", _read_only(self.pixels))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the encoder says of one frame.

    Attributes:
        time_s: time of the frame, seconds.
        tokens: (tokens, dim) float32; no rows where no model is attached.
        summary: (dim,) float32 of unit length (all zero for a picture without any texture).
        motion: what moved since the frame before.
        is_still: nothing changed since the frame before.
        is_fresh: `tokens` were computed from this very frame, not taken over from an earlier one.
        deep_tokens: (layers, tokens, dim) float32 for families that inject them; None otherwise.
        small: (112, 112, 3) uint8 RGB, the picture that stage 0 looked at; None where none did.
    """

    time_s: float
    tokens: Float32
    summary: Float32
    motion: Motion
    is_still: bool
    is_fresh: bool = False
    deep_tokens: Float32 | None = None
    small: UInt8 | None = None

    def __post_init__(self) -> None:
        _time("Features.time_s", self.time_s)
        if self.tokens.ndim != 2 or self.summary.ndim != 1:
            raise ValueError(
                "Features need tokens (tokens, dim) and summary (dim,), "
                f"got {self.tokens.shape} and {self.summary.shape}"
            )
        object.__setattr__(self, "tokens", _read_only(self.tokens))
        object.__setattr__(self, "summary", _read_only(self.summary))


@dataclass(frozen=True, slots=True)
class Event:
    """One event from its opening to its closing.

    Attributes:
        event_id: unique in its stream.
        event: its type, for example `cut`.
        opened_s: time of the frame at which it opened, seconds.
        closed_s: time at which it was over, seconds, which is told a hold later; None while open.
        scores: score per event type at that moment, in [0, 1].
        attributes: for example {"direction": "left"}.
    """

    event_id: str
    event: str
    opened_s: float
    closed_s: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _time("Event.opened_s", self.opened_s)
        if self.closed_s is not None and self.closed_s < self.opened_s:
            raise ValueError(f"Event closes at {self.closed_s} s, before {self.opened_s} s")
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def record(self) -> Record:
        """An `opened` record while it is open, a `closed` record afterwards."""
        body: dict[str, Any] = {
            "event_id": self.event_id,
            "event": self.event,
            "scores": {name: round(score, 4) for name, score in self.scores.items()},
            "attributes": dict(self.attributes),
        }
        if self.closed_s is None:
            return Record("opened", {**body, "about_s": [self.opened_s, self.opened_s]})
        return Record("closed", {**body, "about_s": [self.opened_s, self.closed_s]})


@dataclass(frozen=True, slots=True, eq=False)
class GateDecision:
    """What the gate decided at one frame, or at one tick without a frame.

    Attributes:
        time_s: stream time of the decision, seconds.
        phases: phase per event type.
        scores: raw score per event type, in [0, 1]; empty at a tick.
        opened: events that opened now.
        closed: events that closed now.
        state_summary: (dim,) float32 for the connector; None for a gate without a model.
        speaks: what opened makes a Turn; False: it is told as records alone.
    """

    time_s: float
    phases: Mapping[str, Phase] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    opened: tuple[Event, ...] = ()
    closed: tuple[Event, ...] = ()
    state_summary: Float32 | None = None
    speaks: bool = True

    def __post_init__(self) -> None:
        _time("GateDecision.time_s", self.time_s)
        object.__setattr__(self, "phases", MappingProxyType(dict(self.phases)))
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))

    def records(self) -> tuple[Record, ...]:
        """Closings first, then openings: an event ends before the next one begins."""
        return tuple(event.record() for event in (*self.closed, *self.opened))


@dataclass(frozen=True, slots=True)
class Question:
    """A question from the user.

    Attributes:
        question_id: unique in its stream.
        text: what was asked.
        time_s: stream time it is about and from which it is due, seconds.
    """

    question_id: str
    text: str
    time_s: float

    def __post_init__(self) -> None:
        _time("Question.time_s", self.time_s)
        if not self.text.strip():
            raise ValueError("Question.text is empty")


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """A frame on its way into a continuous session.

    Attributes:
        features: of the frame.
        embeds: (tokens, dim) float32, what the language model reads.
        is_asked: a question about this very frame follows: its answer takes the place of a
            sentence that the session would speak of its own accord.
    """

    features: Features
    embeds: Float32
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A reason to speak.

    Attributes:
        turn_id: unique in its stream.
        cause: event, question, or standing: a check of a standing request, which nobody reads.
        time_s: stream time it is about, seconds.
        route: what the language model is asked to do.
        question: of a question Turn, or what a check asks.
        events: of an event Turn: all that opened at one frame, so that they are told in one go.
    """

    turn_id: str
    cause: Cause
    time_s: float
    route: Route
    question: Question | None = None
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        _time("Turn.time_s", self.time_s)
        if (self.cause != "event") != (self.question is not None):
            raise ValueError(f"a Turn of cause {self.cause!r} got question={self.question}")
        if (self.cause == "event") != bool(self.events):
            raise ValueError(f"a Turn of cause {self.cause!r} got events={self.events}")


Moment: TypeAlias = Observed | Turn | Load
"""What a session is handed, in order: frames, reasons to speak, and what it is told to spare."""
