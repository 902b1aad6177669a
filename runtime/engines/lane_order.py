"""Whose turn it is on a device that two kinds of work share: watch first, speak its share.

Pure: every step is handed the time. After a turn of watch that speak had to wait for, the next
moments belong to speak: share / (1 - share) times as long as it waited meanwhile. They pass
whether speak uses them or thinks between two steps, so the debt never exceeds that of one turn.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["watch", "speak"]


@dataclass(slots=True, eq=False)
class Ticket:
    """One request for the lane.

    Attributes:
        kind: of work.
        asked_s: when it was made, seconds.
        granted_s: when the lane became its own, seconds; None while it waits.
        bell: what wakes the thread that waits with it; None where no thread does.
    """

    kind: Kind
    asked_s: float
    granted_s: float | None = None
    bell: Any = None


@dataclass(slots=True)
class LaneOrder:
    """The queues of one lane; its state is all here, as large as there are threads that wait.

    No call takes a ticket away from its holder. While speak waits, the lane is never idle; watch
    waits at an idle lane only for `speak_until_s`, and then `tick` gives it the lane.

    Attributes:
        speak_share: of the time in which both want the lane, this share at least is speak's,
            [0, 1).
        holder: whose turn it is; None when idle.
        speak_until_s: until then speak goes before watch, seconds.
    """

    speak_share: float
    holder: Ticket | None = None
    speak_until_s: float = -math.inf
    _watch: deque[Ticket] = field(default_factory=deque)
    _speak: deque[Ticket] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if not 0 <= self.speak_share < 1:
            raise ValueError(f"speak_share must be at least 0 and below 1, got {self.speak_share}")

    def ask(self, kind: Kind, now_s: float) -> Ticket:
        """A ticket; it is the holder at once, or waits behind the others of its kind."""
        ticket = Ticket(kind, now_s)
        self._queue(kind).append(ticket)
        self.tick(now_s)
        return ticket

    def leave(self, now_s: float) -> None:
        """The holder is done; the next one has the lane before anybody else can ask for it."""
        left = self.holder
        assert left is not None and left.granted_s is not None
        if left.kind == "watch" and self._speak:
            waited_s = now_s - max(left.granted_s, self._speak[0].asked_s)
            self.speak_until_s = now_s + waited_s * self.speak_share / (1 - self.speak_share)
        self.holder = None
        self.tick(now_s)

    def withdraw(self, ticket: Ticket, now_s: float) -> None:
        """The ticket's thread was interrupted: it waits no longer, or gives the lane back."""
        if ticket is self.holder:
            self.leave(now_s)
        else:
            self._queue(ticket.kind).remove(ticket)
            self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Give an idle lane to the next one, if there is one by now."""
        if self.holder is not None:
            return
        is_speaks_time = now_s < self.speak_until_s
        if self._speak and (is_speaks_time or not self._watch):
            self.holder = self._speak.popleft()
        elif self._watch and not is_speaks_time:
            self.holder = self._watch.popleft()
        if self.holder is not None:
            self.holder.granted_s = now_s

    def waiting(self, kind: Kind) -> tuple[Ticket, ...]:
        """Those who wait, first come first."""
        return tuple(self._queue(kind))

    def _queue(self, kind: Kind) -> deque[Ticket]:
        return self._watch if kind == "watch" else self._speak
