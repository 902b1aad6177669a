"""What the reader of a live source and its consumer share: newest frame, state, what is to be told.

One lock, one condition. The reader never waits for the consumer, and the consumer never for the
reader: that is what keeps a slow consumer from making pictures old, and a camera that hangs from
holding up the pipeline.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from .due_counts import DueCounts
from .records import Record, camera_state, warning
from .values import Frame

State = Literal["connecting", "open", "lost", "paused", "ended"]

TELL_EVERY_S = 1.0
"""Between two `drop` records of one thing: a device that is too slow is not drowned in them."""

WARN_EVERY_S = 60.0
"""Between two warnings of one code: a bad line damages something every second, for hours."""

RECORDS_KEPT = 64
"""Camera records that may wait for the consumer, who takes them ten times a second."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """How a live source is.

    Attributes:
        state: connecting (not one picture yet), open, lost (it is tried again), paused, ended.
        reason: one sentence; holds no secret.
        since_s: since when, seconds of the monotonic clock.
        decoded: pictures since the beginning.
        attempts: connections tried since the last picture.
        lag_s: how much later than the best case the last picture came, seconds.
    """

    state: State
    reason: str
    since_s: float
    decoded: int = 0
    attempts: int = 0
    lag_s: float = 0.0


class LiveLink:
    """The shared part of a live source. Safe for several threads.

    State: the link's state, one frame, records to be told, counts not told yet, the wishes of the
    user (pause, stop), until when the reader must have shown a sign of life.

    Args:
        monotonic: a clock that never goes back, seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._state = LinkState("connecting", "nobody has asked for frames yet", monotonic())
        self._frame: Frame | None = None
        self._records: deque[Record] = deque()
        self._dropped = DueCounts(TELL_EVERY_S)
        self._dropped_since_s: dict[str, float] = {}
        self._faults = DueCounts(WARN_EVERY_S)
        self._sentences: dict[str, Callable[[int], str]] = {}
        self._is_paused = False
        self._is_stopped = False
        self._error: BaseException | None = None
        self._sign_until_s = math.inf

    # What the reader calls.

    def move(self, state: State, reason: str) -> None:
        """The link is in another state now, or in the same for another reason; told once."""
        with self._changed:
            if not (self._is_paused and state != "ended"):
                self._move(state, reason)

    def _move(self, state: State, reason: str) -> None:
        if (state, reason) == (self._state.state, self._state.reason):
            return
        self._state = replace(
            self._state, state=state, reason=reason, since_s=self._monotonic(), lag_s=0.0
        )
        if len(self._records) == RECORDS_KEPT:  # nobody takes them: the newest say how it is
            self._records.popleft()
            self._dropped.add("records")
        self._records.append(camera_state(state, reason))

    def note(self, record: Record) -> None:
        """Have a record told that changes no state."""
        with self._changed:
            if len(self._records) == RECORDS_KEPT:
                self._dropped.add("records")
                return
            self._records.append(record)

    def tried(self) -> None:
        """One more connection is tried."""
        with self._changed:
            self._state = replace(self._state, attempts=self._state.attempts + 1)

    def decoded(self, lag_s: float) -> None:
        """One more picture came, that much later than the best case."""
        with self._changed:
            before = self._state
            self._state = replace(before, decoded=before.decoded + 1, attempts=0, lag_s=lag_s)

    def put(self, frame: Frame) -> None:
        """The newest frame; one that nobody has taken is let go and counted."""
        with self._changed:
            if self._is_paused or self._is_stopped:
                return
            self._dropped.add("frames", self._frame is not None)
            self._frame = frame
            self._changed.notify_all()

    def drop(self, what: str, count: int = 1) -> None:
        """Count what is left out; a `drop` record tells it."""
        with self._changed:
            self._dropped.add(what, count)

    def fault(self, code: str, count: int, message: Callable[[int], str]) -> None:
        """Count faults; a `warning` tells how many, at most once a minute.

        Args:
            code: of the warning.
            count: how many more.
            message: the sentence, of how many there were since the last.
        """
        with self._changed:
            self._faults.add(code, count)
            self._sentences[code] = message

    def fail(self, error: BaseException) -> None:
        """The reader itself broke: the consumer raises this."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def expect_sign(self, within_s: float) -> None:
        """The reader calls something that may block; it will be back by then."""
        with self._changed:
            self._sign_until_s = self._monotonic() + within_s

    def sleep(self, seconds: float) -> None:
        """Wait; ends early when the user pauses, goes on or stops."""
        with self._changed:
            self._sign_until_s = math.inf
            was_paused = self._is_paused
            self._changed.wait_for(
                lambda: self._is_stopped or self._is_paused != was_paused, seconds
            )

    def wait_unpaused(self) -> bool:
        """Wait while the user pauses; whether to go on at all."""
        with self._changed:
            self._sign_until_s = math.inf
            self._changed.wait_for(lambda: self._is_stopped or not self._is_paused)
            return not self._is_stopped

    def is_leaving(self) -> bool:
        """Whether the connection is to be closed: paused or stopped."""
        return self._is_stopped or self._is_paused

    # What the consumer and the user call.

    def state(self) -> LinkState:
        """How the source is."""
        with self._changed:
            return self._state

    def pause(self) -> None:
        """Close the connection and give no frames, until `resume`."""
        with self._changed:
            if not (self._is_paused or self._state.state == "ended"):
                self._is_paused = True
                self._frame = None
                self._move("paused", "paused by the user")
                self._changed.notify_all()

    def resume(self) -> None:
        """Connect again; nothing happens where it is not paused."""
        with self._changed:
            if self._is_paused:
                self._is_paused = False
                self._move("connecting", "going on after a pause")
                self._changed.notify_all()

    def stop(self) -> None:
        """The consumer leaves."""
        with self._changed:
            self._is_stopped = True
            self._frame = None
            self._changed.notify_all()

    def take(self, within_s: float) -> Frame | None:
        """The newest frame, waiting that long for one.

        Raises:
            BaseException: whatever broke the reader.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._frame is not None or self._error is not None, within_s
            )
            if self._error is not None:
                raise self._error
            frame, self._frame = self._frame, None
            return frame

    def is_overdue(self) -> bool:
        """Whether the reader should have shown a sign of life; said once for each time."""
        with self._changed:
            if self._monotonic() <= self._sign_until_s:
                return False
            self._sign_until_s = math.inf
            return True

    def records(self, time_s: float, *, is_last: bool = False) -> list[Record]:
        """What is to be told now.

        Args:
            time_s: stream time now, seconds, from which the next drops are counted.
            is_last: also what would wait for its second or minute.
        """
        with self._changed:
            told = list(self._records)
            self._records.clear()
            now_s = self._monotonic()
            for what, count in self._dropped.due(now_s, is_last=is_last):
                since_s = self._dropped_since_s.get(what, 0.0)
                self._dropped_since_s[what] = time_s
                told.append(Record("drop", {"what": what, "count": count, "since_s": since_s}))
            for code, count in self._faults.due(now_s, is_last=is_last):
                told.append(warning(code, self._sentences[code](count)))
            return told
