"""The stages of one run: a seam per stage, and what stands there when no model is attached."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .errors import OutputError, SessionMissing
from .forgetting import WIPE_WITHIN_S, Forget, Wipe
from .gate import Gate
from .governor import Governor
from .metrics import Metrics
from .orders import Order, Orders
from .records import Record
from .router import TurnRouter
from .standing import StandingRequests
from .values import (
    Features,
    Float32,
    Frame,
    GateDecision,
    Load,
    Moment,
    Question,
    Response,
    Turn,
)


class Encoder(Protocol):
    """Frames to Features; keeps what it needs of the frame before."""

    def encode(self, frame: Frame) -> Features:
        """Features of this frame; `motion` is always of this frame, tokens may be reused."""
        ...


class Connector(Protocol):
    """Vision tokens to what the language model reads."""

    def step(self, features: Features, decision: GateDecision) -> Float32:
        """Embeds (tokens, dim) float32."""
        ...


class Memory(Protocol):
    """What is kept of the stream, inside a byte budget."""

    def step(self, features: Features, embeds: Float32, decision: GateDecision) -> None:
        """Take one frame in and publish a new view."""
        ...

    def remember(self, said: Sequence[Response]) -> None:
        """Attach what was said to the moments it was about."""
        ...

    def forget_before(self, time_s: float) -> None:
        """Let go of everything about the time before, seconds."""
        ...

    def wipe(self) -> None:
        """Let go of everything, also of what was saved; names stay unique.

        Raises:
            OutputError: something saved cannot be removed.
        """
        ...


class Session(Protocol):
    """The language model; it alone owns its cache."""

    def take(
        self, moment: Moment, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        """Partial texts, then exactly one final for a Turn.

        Nothing for an Observed, but where the session itself decides to speak.

        Args:
            moment: what happened.
            cancelled: polled between two steps of the model; a cut answer ends with a final that
                says so.
            tell: takes the records of events that the session itself opens, and warnings.
        """
        ...


class NoConnector:
    """Vision tokens as they are: nobody reads them."""

    def step(self, features: Features, decision: GateDecision) -> Float32:
        return features.tokens


class NoMemory:
    """Keeps nothing: there is no language model to tell it to."""

    def step(self, features: Features, embeds: Float32, decision: GateDecision) -> None:
        return

    def remember(self, said: Sequence[Response]) -> None:
        return

    def forget_before(self, time_s: float) -> None:
        return

    def wipe(self) -> None:
        return


class NoSession:
    """No language model. Its router makes no Turns, its inbox takes no questions."""

    def take(
        self, moment: Moment, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        raise SessionMissing(
            f"a {type(moment).__name__} reached a run without a language model",
            hint="give the stages a session, or a router that makes no Turns",
        )


@dataclass(slots=True)
class Stages:
    """All stages of one run, with their counters, in the order in which a frame meets them.

    Attributes:
        waiting_frames: frames that may wait for the encoder when live.
        waiting_observed: frames that may wait for the session when live.
        question_cuts_event: a question that waits ends a sentence that nobody asked for.
        standing: what the user wants to be told of whenever it comes true.
        governor: what is left out where the rate aimed at cannot be held; None: nothing ever.
        carriers: parts of the watch that are told of a new load.
        retention_s: nothing older is kept, stream seconds; 0: as long as there is room.
    """

    encoder: Encoder
    gate: Gate
    router: TurnRouter
    metrics: Metrics
    connector: Connector = field(default_factory=NoConnector)
    memory: Memory = field(default_factory=NoMemory)
    session: Session = field(default_factory=NoSession)
    waiting_frames: int = 1
    waiting_observed: int = 16
    question_cuts_event: bool = True
    standing: StandingRequests = field(default_factory=StandingRequests)
    governor: Governor | None = None
    carriers: tuple[Callable[[Load], None], ...] = ()
    retention_s: float = 0.0
    _last_frame_s: float | None = None
    _now_s: float = 0.0
    _wiped_s: float = -1.0
    _let_go_s: float = 0.0

    @property
    def orders(self) -> Orders:
        """What other threads want done between two frames."""
        return self.standing.orders

    def obey(self, orders: Sequence[Order]) -> Iterator[Moment]:
        """Carry out what is wanted, at a frame boundary; yields what the session must know."""
        for order in orders:
            if isinstance(order, Load):
                for carry in self.carriers:
                    carry(order)
                yield order
            elif isinstance(order, Wipe):
                yield self._wiped(order)
            else:
                self.standing.obey(order)

    def _wiped(self, order: Wipe) -> Forget:
        """Wipe the memory; what is still being said about the time before is not remembered."""
        self._wiped_s = self._now_s
        try:
            self.memory.wipe()
        except OutputError as fault:
            order.carried_out(fault)  # whoever wants it is told; the stream goes on
        else:
            order.carried_out()
        return Forget(math.inf)

    def wipe(self, timeout_s: float = WIPE_WITHIN_S) -> None:
        """Forget everything that is kept of the stream; from any other thread than the watch's.

        It is done at the next frame boundary; where the run is over, here and now. What the stages
        have at hand of the last seconds (the gate, the picture to compare with) stays.

        Raises:
            StreamBusy: it could not be done in time, and will be.
            OutputError: something saved cannot be removed.
        """
        order = Wipe()
        if self.orders.put(order):
            order.wait(timeout_s)
        else:
            self.memory.wipe()

    def let_go(self, now_s: float) -> Iterator[Forget]:
        """Let go of what is older than the retention; the session does it once a second."""
        if not self.retention_s:
            return
        before_s = now_s - self.retention_s
        self.memory.forget_before(before_s)
        if now_s - self._let_go_s >= 1.0 and before_s > 0:
            self._let_go_s = now_s
            yield Forget(before_s)

    def govern(self) -> None:
        """Let the governor see what the frames so far took; a new load is an order like others.

        It alone reads a clock here, so what it decides is part of what a run was delivered.
        """
        if self.governor is None:
            return
        before = self.governor.load
        load = self.governor.step(*self.metrics.work())
        if load != before:
            self.orders.put(load)

    def hear(self, said: Sequence[Response]) -> tuple[Record, ...]:
        """Take what was said in, at a frame boundary.

        What answers a check of a standing request is no part of the talk: memory does not see it.

        Returns:
            The records of the standing requests that fire at it.
        """
        talk = [one for one in said if one.cause != "standing" and one.about_s[1] > self._wiped_s]
        if talk:
            self.memory.remember(talk)
        fired = [self.standing.verdict(one) for one in said if one.cause == "standing"]
        return tuple(record for record in fired if record is not None)

    def encode(self, frame: Frame) -> Features:
        """Features of the frame."""
        self.metrics.waited(frame.captured_s)
        with self.metrics.timed("encode"):
            return self.encoder.encode(frame)

    def decide(self, features: Features) -> GateDecision:
        """What the gate says of the frame."""
        since_last_s = None if self._last_frame_s is None else features.time_s - self._last_frame_s
        self._last_frame_s = self._now_s = features.time_s
        with self.metrics.timed("gate"):
            decision = self.gate.step(features, since_last_s)
        self.metrics.saw(features, decision)
        return decision

    def idle(self, time_s: float) -> GateDecision:
        """What the gate says when no frame came: phases time out, nothing opens."""
        self._now_s = max(self._now_s, time_s)
        return self.gate.idle(time_s)

    def connect(self, features: Features, decision: GateDecision) -> Float32:
        """What the language model will read of the frame."""
        return self.connector.step(features, decision)

    def keep(self, features: Features, embeds: Float32, decision: GateDecision) -> None:
        """Take the frame into memory."""
        with self.metrics.timed("memory"):
            self.memory.step(features, embeds, decision)

    def turns(
        self, decision: GateDecision, questions: Sequence[Question], now_s: float
    ) -> Iterator[Turn]:
        """Turns out of what opened and what is due."""
        return self.router.turns(decision, questions, now_s)

    def opened(self, decision: GateDecision) -> tuple[Record, ...]:
        """The records of what opened and closed, and of the standing requests that wait for it."""
        return (*decision.records(), *self.standing.opened(decision))

    def checks(self, decision: GateDecision, now_s: float) -> Iterator[Turn]:
        """Turns that check the standing requests which are due; a question goes before them."""
        for turn in self.router.checks(self.standing.step(now_s, decision), now_s):
            assert turn.question is not None, "a check asks"
            self.standing.asked(turn.question.question_id, turn.turn_id)
            yield turn

    def observed(
        self, features: Features, embeds: Float32, questions: Sequence[Question]
    ) -> Iterator[Moment]:
        """The frame itself, where the session reads every frame.

        Args:
            questions: those about this very frame; they are handed on by `turns`.
        """
        return self.router.observed(features, embeds, is_asked=bool(questions))


def no_embeds() -> Float32:
    """(0, 0) float32: what a frame without a model reads as."""
    return np.zeros((0, 0), np.float32)
