"""Mailboxes between threads, and the drop rules: what waits, what is let go and what blocks.

A rule is pure: it sees what waits and what comes, and says who goes or that the sender waits. The
mailbox alone holds the lock. Every item that a rule lets go is reported by name, so that it can be
counted; a tick (None) carries nothing and is not counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

from .records import StampedRecord
from .values import Frame, Moment, Observed, Turn

Item = TypeVar("Item")


class Wait(Enum):
    """The verdict that the sender waits until there is room."""

    FOR_ROOM = "wait"


@dataclass(frozen=True, slots=True)
class LetGo:
    """The verdict that the new item waits with the others, and that these are let go.

    Attributes:
        indices: into what waits, oldest first, with the new item behind it: it may go as well.
    """

    indices: tuple[int, ...] = ()


Verdict: TypeAlias = "Wait | LetGo"
NOTHING = LetGo()


@dataclass(frozen=True, slots=True)
class DropRule(Generic[Item]):
    """A named rule.

    Attributes:
        name: for messages.
        judge: (waiting, oldest first; item) -> verdict. Pure.
        counted_as: under which name a dropped item is counted; None for what carries nothing.
    """

    name: str
    judge: Callable[[Sequence[Item], Item], Verdict]
    counted_as: Callable[[Item], str | None]


def _first(waiting: Sequence[Item], wanted: Callable[[Item], bool]) -> int | None:
    return next((index for index, item in enumerate(waiting) if wanted(item)), None)


def keep_all() -> DropRule[Item]:
    """Nothing is ever dropped; the sender bounds what waits."""
    return DropRule("keep all", lambda waiting, item: NOTHING, lambda item: None)


def block_at(capacity: int) -> DropRule[Item]:
    """Nothing is dropped; beyond `capacity` items the sender waits. For files."""
    return DropRule(
        f"block at {capacity}",
        lambda waiting, item: Wait.FOR_ROOM if len(waiting) >= capacity else NOTHING,
        lambda item: None,
    )


def keep_newest_frame(waiting_frames: int = 1) -> DropRule[Frame | None]:
    """The newest frames stay, so latency never grows; a tick never displaces a frame."""

    def judge(waiting: Sequence[Frame | None], item: Frame | None) -> LetGo:
        if item is None:
            return LetGo((len(waiting),)) if waiting else NOTHING
        tick = _first(waiting, lambda other: other is None)
        if tick is not None:
            return LetGo((tick,))
        return LetGo((0,)) if len(waiting) >= waiting_frames else NOTHING

    return DropRule(
        f"keep the newest {waiting_frames}", judge, lambda item: None if item is None else "frames"
    )


def newest_event_all_questions(waiting_observed: int = 16) -> DropRule[Moment]:
    """A newer event takes the place of a waiting one; the newest frames stay, and all else.

    Questions and checks are never dropped: the inbox bounds how many questions wait, and of each
    standing request one check at most is under way.
    """

    def judge(waiting: Sequence[Moment], item: Moment) -> LetGo:
        if isinstance(item, Observed):
            frames = sum(isinstance(other, Observed) for other in waiting)
            oldest = _first(waiting, lambda other: isinstance(other, Observed))
            return NOTHING if frames < waiting_observed or oldest is None else LetGo((oldest,))
        if not (isinstance(item, Turn) and item.cause == "event"):
            return NOTHING
        older = _first(waiting, lambda other: isinstance(other, Turn) and other.cause == "event")
        return NOTHING if older is None else LetGo((older,))

    return DropRule(
        "newest event, all questions",
        judge,
        lambda item: "observed frames" if isinstance(item, Observed) else "event turns",
    )


def keep_results(capacity: int) -> DropRule[StampedRecord]:
    """Beyond `capacity` records those go first that are missed least.

    In this order, the oldest of a kind first: a partial or stats; a `drop`, if a newer one of the
    same thing comes (its count has to be told again); an event, as a whole (`opened` with its
    `closed`, never one of them alone); a final; any `drop`; a warning; a camera state; a standing
    request that fired. What is left are halves of events, at most two for each event that is open
    at once: they wait beyond `capacity`. A sink that is slower than the stream must not hold up the
    watch.
    """

    def judge(waiting: Sequence[StampedRecord], item: StampedRecord) -> LetGo:
        if len(waiting) < capacity:
            return NOTHING
        line = (*waiting, item)
        passing = _first(line, lambda other: other.record.type in ("partial", "stats"))
        if passing is not None:
            return LetGo((passing,))
        told_again = _first(waiting, lambda other: _are_drops_of_one_thing(other, item))
        if told_again is not None:
            return LetGo((told_again,))
        whole_event = _oldest_whole_event(line)
        if whole_event is not None:
            return LetGo(whole_event)
        for kind in ("final", "drop", "warning", "camera", "standing"):
            oldest = _first(line, lambda other, kind=kind: other.record.type == kind)  # type: ignore[misc]
            if oldest is not None:
                return LetGo((oldest,))
        return NOTHING

    return DropRule(
        f"keep {capacity} results",
        judge,
        lambda item: None if item.record.type == "drop" else "records",
    )


def _are_drops_of_one_thing(one: StampedRecord, other: StampedRecord) -> bool:
    is_drop = one.record.type == "drop" == other.record.type
    return is_drop and one.record.body["what"] == other.record.body["what"]


def _oldest_whole_event(line: Sequence[StampedRecord]) -> tuple[int, int] | None:
    """Indices of the oldest `opened` whose `closed` waits too, and of that."""
    opened: dict[str, int] = {}
    whole: list[tuple[int, int]] = []
    for index, stamped in enumerate(line):
        event_id = str(stamped.record.body.get("event_id"))
        if stamped.record.type == "opened":
            opened[event_id] = index
        elif stamped.record.type == "closed" and event_id in opened:
            whole.append((opened[event_id], index))
    return min(whole, default=None)


class Mailbox(Generic[Item]):
    """A queue between two threads that follows one drop rule. Safe for any number of senders.

    State: what waits (bounded by the rule), closed or not.

    Args:
        rule: what happens when an item comes.
        on_drop: called, under the mailbox's lock, with the name of every counted drop.
        on_uncounted: the same, with every item let go that its rule gives no name.
    """

    def __init__(
        self,
        rule: DropRule[Item],
        on_drop: Callable[[str], None] = lambda what: None,
        on_uncounted: Callable[[Item], None] = lambda item: None,
    ) -> None:
        self._rule = rule
        self._on_drop = on_drop
        self._on_uncounted = on_uncounted
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
                if isinstance(verdict, LetGo):
                    self._follow(verdict, item)
                    self._changed.notify_all()
                    return True
                self._changed.wait()
            return False

    def put_last(self, item: Item) -> bool:
        """Hand an item in that nothing has to make room for, beyond what the rule allows.

        For the few last words of a run. Returns False if the mailbox is closed.
        """
        with self._changed:
            if not self._closed:
                self._waiting.append(item)
                self._changed.notify_all()
            return not self._closed

    def _follow(self, verdict: LetGo, item: Item) -> None:
        self._waiting.append(item)
        gone = [self._waiting[index] for index in verdict.indices]
        for index in sorted(verdict.indices, reverse=True):
            del self._waiting[index]
        for one in gone:
            what = self._rule.counted_as(one)
            if what is None:
                self._on_uncounted(one)
            else:
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
