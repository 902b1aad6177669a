"""Mailboxes between threads, and the drop rules: what waits, what is let go and what blocks.

A rule is pure: it sees what waits and what comes, and answers with one of four verdicts. The
mailbox alone holds the lock. Every item that a rule lets go is reported by name, so that it can be
counted; a tick (None) carries nothing and is not counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from .records import StampedRecord
from .values import Frame, Moment, Observed, Turn

Item = TypeVar("Item")


class Verdict(Enum):
    """What a rule says of an item that comes."""

    ADD = "it waits with the others"
    SKIP = "it is let go"
    WAIT = "the sender waits until there is room"


@dataclass(frozen=True, slots=True)
class Replace:
    """The verdict that the waiting item at `index` is let go and the new one is added."""

    index: int


@dataclass(frozen=True, slots=True)
class DropRule(Generic[Item]):
    """A named rule.

    Attributes:
        name: for messages.
        judge: (waiting, oldest first; item) -> verdict. Pure.
        counted_as: under which name a dropped item is counted; None for what carries nothing.
    """

    name: str
    judge: Callable[[Sequence[Item], Item], Verdict | Replace]
    counted_as: Callable[[Item], str | None]


def _first(waiting: Sequence[Item], wanted: Callable[[Item], bool]) -> int | None:
    return next((index for index, item in enumerate(waiting) if wanted(item)), None)


def keep_all() -> DropRule[Item]:
    """Nothing is ever dropped; the sender bounds what waits."""
    return DropRule("keep all", lambda waiting, item: Verdict.ADD, lambda item: None)


def block_at(capacity: int) -> DropRule[Item]:
    """Nothing is dropped; beyond `capacity` items the sender waits. For files."""
    return DropRule(
        f"block at {capacity}",
        lambda waiting, item: Verdict.WAIT if len(waiting) >= capacity else Verdict.ADD,
        lambda item: None,
    )


def keep_newest_frame(waiting_frames: int = 1) -> DropRule[Frame | None]:
    """The newest frames stay, so latency never grows; a tick never displaces a frame."""

    def judge(waiting: Sequence[Frame | None], item: Frame | None) -> Verdict | Replace:
        if item is None:
            return Verdict.SKIP if waiting else Verdict.ADD
        tick = _first(waiting, lambda other: other is None)
        if tick is not None:
            return Replace(tick)
        return Replace(0) if len(waiting) >= waiting_frames else Verdict.ADD

    return DropRule(
        f"keep the newest {waiting_frames}", judge, lambda item: None if item is None else "frames"
    )


def newest_event_all_questions(waiting_observed: int = 16) -> DropRule[Moment]:
    """A newer event takes the place of a waiting one; questions stay; the newest frames stay."""

    def judge(waiting: Sequence[Moment], item: Moment) -> Verdict | Replace:
        if isinstance(item, Observed):
            frames = sum(isinstance(other, Observed) for other in waiting)
            oldest = _first(waiting, lambda other: isinstance(other, Observed))
            return Verdict.ADD if frames < waiting_observed or oldest is None else Replace(oldest)
        if item.cause != "event":
            return Verdict.ADD
        older = _first(waiting, lambda other: isinstance(other, Turn) and other.cause == "event")
        return Verdict.ADD if older is None else Replace(older)

    return DropRule(
        "newest event, all questions",
        judge,
        lambda item: "observed frames" if isinstance(item, Observed) else f"{item.cause} turns",
    )


def keep_results(capacity: int) -> DropRule[StampedRecord]:
    """Beyond `capacity` records the oldest partial or stats goes, then the oldest of all.

    A sink that is slower than the stream must not hold up the watch.
    """

    def judge(waiting: Sequence[StampedRecord], item: StampedRecord) -> Verdict | Replace:
        if len(waiting) < capacity:
            return Verdict.ADD
        passing = _first(waiting, lambda other: other.record.type in ("partial", "stats"))
        return Replace(0 if passing is None else passing)

    return DropRule(f"keep {capacity} results", judge, lambda item: "records")


class Mailbox(Generic[Item]):
    """A queue between two threads that follows one drop rule. Safe for any number of senders.

    State: what waits (bounded by the rule), closed or not.

    Args:
        rule: what happens when an item comes.
        on_drop: called, under the mailbox's lock, with the name of every counted drop.
    """

    def __init__(
        self, rule: DropRule[Item], on_drop: Callable[[str], None] = lambda what: None
    ) -> None:
        self._rule = rule
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        self._closed = False

    def put(self, item: Item) -> bool:
        """Hand an item in; waits only if the rule says so.

        Returns:
            False if the mailbox is closed: the sender should stop.
        """
        with self._changed:
            while not self._closed:
                verdict = self._rule.judge(self._waiting, item)
                if verdict is not Verdict.WAIT:
                    self._follow(verdict, item)
                    self._changed.notify_all()
                    return True
                self._changed.wait()
            return False

    def _follow(self, verdict: Verdict | Replace, item: Item) -> None:
        gone: Item | None = None
        if isinstance(verdict, Replace):
            gone = self._waiting[verdict.index]
            del self._waiting[verdict.index]
        elif verdict is Verdict.SKIP:
            gone = item
        if verdict is not Verdict.SKIP:
            self._waiting.append(item)
        what = self._rule.counted_as(gone) if gone is not None else None
        if what is not None:
            self._on_drop(what)

    def take(self) -> tuple[Item, ...]:
        """All that waits now, oldest first; never blocks."""
        with self._changed:
            items = tuple(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return items

    def __iter__(self) -> Iterator[Item]:
        """Items as they come, until the mailbox is closed and empty."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                item = self._waiting.popleft()
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """Take nothing more; what waits can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Take nothing more and forget what waits: nobody will read it."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
