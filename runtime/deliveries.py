"""The delivery log: what each step of a run received, in order, and the same run played again.

Threads decide only *when* things are delivered. Written down and delivered again in the same
order, without threads, they must give the same output; the tests hold the pipeline to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from .orders import Order
from .values import Frame, Moment, Question, Response


class Asked(Protocol):
    """What `watch` sees of the inbox."""

    def clock(self) -> float:
        """Stream time now, seconds."""
        ...

    def due(self, before: float, *, inclusive: bool = False) -> tuple[Question, ...]:
        """Questions whose time has come."""
        ...


class Heard(Protocol):
    """What `watch` sees of what was said."""

    def take(self) -> tuple[Response, ...]:
        """All finals since the last call."""
        ...


@dataclass(slots=True)
class DeliveryLog:
    """Everything that `watch` and `speak` received. Grows with the run: for tests and reports.

    Attributes:
        watched: (kind, value) in the order in which `watch` received them; kinds are frame
            (None for a tick), orders, heard, clock and due.
        spoken: Moments in the order in which `speak` received them.
        polls: how often `speak` looked whether to stop, and heard that it need not, before it was
            told to; one number for each of `spoken`, None for what was never told to stop.
        last_heard: what was said after the last frame.
        last_orders: those that came after it.
    """

    watched: list[tuple[str, Any]] = field(default_factory=list)
    spoken: list[Moment] = field(default_factory=list)
    polls: list[int | None] = field(default_factory=list)
    last_heard: tuple[Response, ...] = ()
    last_orders: tuple[Order, ...] = ()
    _polled: int = 0
    _is_on: bool = True

    @classmethod
    def off(cls) -> DeliveryLog:
        """A log that writes nothing down and stands in nobody's way."""
        return cls(_is_on=False)

    def frames(self, frames: Iterable[Frame | None]) -> Iterable[Frame | None]:
        """The same frames, written down."""
        return self._watched(frames) if self._is_on else frames

    def _watched(self, frames: Iterable[Frame | None]) -> Iterator[Frame | None]:
        for frame in frames:
            self.watched.append(("frame", frame))
            yield frame

    def moments(self, moments: Iterable[Moment]) -> Iterable[Moment]:
        """The same Moments, written down."""
        return self._spoken(moments) if self._is_on else moments

    def _spoken(self, moments: Iterable[Moment]) -> Iterator[Moment]:
        for moment in moments:
            self.spoken.append(moment)
            self.polls.append(None)
            self._polled = 0
            yield moment

    def cuts(self, cut: Callable[[Moment], bool]) -> Callable[[Moment], bool]:
        """The same answers to "shall this stop?"; the first yes to each Moment is written down."""
        return partial(self._cut, cut) if self._is_on else cut

    def _cut(self, cut: Callable[[Moment], bool], moment: Moment) -> bool:
        if not cut(moment):
            self._polled += 1
            return False
        if self.polls[-1] is None:
            self.polls[-1] = self._polled
        return True

    def heard(self, heard: Heard) -> Heard:
        """The same mailbox; what is taken from it is written down."""
        return _LoggedHeard(heard, self.watched) if self._is_on else heard

    def at_the_end(
        self, orders: tuple[Order, ...], said: tuple[Response, ...]
    ) -> tuple[tuple[Order, ...], tuple[Response, ...]]:
        """What `watch` has not taken any more, written down."""
        if self._is_on:
            self.last_orders, self.last_heard = orders, said
        return orders, said

    def orders(self, orders: Callable[[], tuple[Order, ...]]) -> Callable[[], tuple[Order, ...]]:
        """The same orders, written down."""
        return partial(self._ordered, orders) if self._is_on else orders

    def _ordered(self, orders: Callable[[], tuple[Order, ...]]) -> tuple[Order, ...]:
        taken = orders()
        self.watched.append(("orders", taken))
        return taken

    def asked(self, asked: Asked) -> Asked:
        """The same inbox; what is read from it is written down."""
        return _LoggedAsked(asked, self.watched) if self._is_on else asked


@dataclass(frozen=True, slots=True)
class _LoggedHeard:
    heard: Heard
    watched: list[tuple[str, Any]]

    def take(self) -> tuple[Response, ...]:
        said = self.heard.take()
        self.watched.append(("heard", said))
        return said


@dataclass(frozen=True, slots=True)
class _LoggedAsked:
    asked: Asked
    watched: list[tuple[str, Any]]

    def clock(self) -> float:
        now_s = self.asked.clock()
        self.watched.append(("clock", now_s))
        return now_s

    def due(self, before: float, *, inclusive: bool = False) -> tuple[Question, ...]:
        questions = self.asked.due(before, inclusive=inclusive)
        self.watched.append(("due", questions))
        return questions


class Replay:
    """The deliveries of a log, again: it stands in for frames, inbox and what was heard.

    Args:
        watched: `DeliveryLog.watched` of the run to repeat.

    A step that asks for something else than the log holds is an AssertionError: the run differs.
    """

    def __init__(self, watched: Iterable[tuple[str, Any]]) -> None:
        self._left = list(watched)
        self._left.reverse()

    def frames(self) -> Iterator[Frame | None]:
        """Frames and ticks as they were delivered."""
        while self._left:
            yield self._next("frame")

    def orders(self) -> tuple[Order, ...]:
        """The orders that were carried out at this step."""
        orders: tuple[Order, ...] = self._next("orders")
        return orders

    def take(self) -> tuple[Response, ...]:
        """What had been heard at this step."""
        said: tuple[Response, ...] = self._next("heard")
        return said

    def clock(self) -> float:
        """What the clock said at this step."""
        now_s: float = self._next("clock")
        return now_s

    def due(self, before: float, *, inclusive: bool = False) -> tuple[Question, ...]:
        """The questions that were due at this step."""
        questions: tuple[Question, ...] = self._next("due")
        return questions

    def _next(self, kind: str) -> Any:
        found, value = self._left.pop()
        assert found == kind, f"the step asked for {kind}, the log holds {found}"
        return value


class ReplayedCuts:
    """The Moments of a log and, for each, the same moment to stop.

    Args:
        log: of the run to repeat.
    """

    def __init__(self, log: DeliveryLog) -> None:
        self._spoken = log.spoken
        self._polls = log.polls
        self._left: int | None = None

    def moments(self) -> Iterator[Moment]:
        """Moments as they were delivered."""
        for moment, polls in zip(self._spoken, self._polls, strict=True):
            self._left = polls
            yield moment

    def cut(self, moment: Moment) -> bool:
        """Whether the run was told to stop here."""
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0
