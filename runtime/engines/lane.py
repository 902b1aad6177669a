"""One device, two kinds of work: encoding frames (watch) goes first, decoding (speak) has a share.

    with lane.watch(): ...      # one frame through the encoder
    with lane.speak(): ...      # one step of the decoder, one chunk of a prompt or one eviction

A plain lock starves frames without bound, since the decoder takes it again at once. Here every
thread that waits is counted and has a bell of its own, and whoever leaves hands the lane over.
Where both engines have a core of their own, `OpenLane` lets everybody in.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

from ..metrics import percentile
from .lane_order import Kind, LaneOrder, Ticket

WAITS_KEPT = 1024
"""Latest waits of a kind that percentiles are taken of: 100 s at 10 frames/s."""
HAND_OVER_S = 5e-5
"""Sleep of who hands the lane over, seconds: the other one needs as long to wake up, and if Python
ran on here meanwhile it would wait for the interpreter's lock (measured: 0.5 ms later)."""


class Lanes(Protocol):
    """A lane of either mode."""

    def watch(self) -> AbstractContextManager[None]:
        """The device for one frame."""
        ...

    def speak(self) -> AbstractContextManager[None]:
        """The device for one step of the language model."""
        ...

    def stats(self) -> dict[str, Any]:
        """What was waited and held."""
        ...


class Lane:
    """A device that one holder at a time uses. Safe for any number of threads, none twice at once.

    Whoever comes to an idle lane has it at once; who waits is served in order of arrival within a
    kind. Watch goes before speak, but after a turn of watch that speak waited for, speak goes
    first for its share: a frame waits for one turn of speak at most, unless frames come so fast
    that both kinds want the lane all the time.

    Args:
        speak_share: of the time in which both want the lane, at least this share is speak's,
            [0, 1). 0.25 leaves an encoder three quarters (a choice, not a measurement).
        monotonic: seconds; handed in so that a test can step it.

    Cost: 2 to 4 us to enter and leave an idle lane; 35 us (p99 0.1 ms) until a thread that waits
        has it (two cores, Python 3.11).
    """

    def __init__(
        self, *, speak_share: float = 0.25, monotonic: Callable[[], float] = time.perf_counter
    ) -> None:
        self._order = LaneOrder(speak_share)
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._counts = LaneCounts()
        self._thread: int | None = None
        self._begun_s = 0.0
        self._watch, self._speak = _Door(self, "watch"), _Door(self, "speak")

    def watch(self) -> AbstractContextManager[None]:
        """The lane for one frame: before every speak that waits, unless speak is owed time."""
        return self._watch

    def speak(self) -> AbstractContextManager[None]:
        """The lane for one step of the decoder, one chunk of a prompt or one eviction."""
        return self._speak

    def stats(self) -> dict[str, Any]:
        """See `LaneCounts.as_json`."""
        with self._mutex:
            return self._counts.as_json()

    def waiting(self, kind: Kind) -> int:
        """How many threads wait."""
        with self._mutex:
            return len(self._order.waiting(kind))

    def enter(self, kind: Kind) -> None:
        """Wait until the lane is this thread's; `with lane.watch()` does it and leaves again.

        Raises:
            RuntimeError: this thread has it already and would wait for itself.
        """
        thread = threading.get_ident()
        with self._mutex:
            if self._thread == thread:
                raise RuntimeError(f"this thread already holds the lane and asks to {kind}")
            asked_s = now_s = self._monotonic()
            ticket = self._order.ask(kind, now_s)
            try:
                if ticket is not self._order.holder:
                    self._wait(ticket)
                    now_s = self._monotonic()
                self._counts.entered(kind, now_s - asked_s)
                self._thread, self._begun_s = thread, now_s
            except BaseException:  # Ctrl-C: nobody may wait for a thread that has gone
                self._order.withdraw(ticket, now_s)
                self._ring()
                raise

    def leave(self) -> None:
        """Hand the lane to the next one."""
        with self._mutex:
            now_s, left = self._monotonic(), self._order.holder
            assert left is not None and self._thread == threading.get_ident()
            self._counts.left(left.kind, now_s - self._begun_s)
            self._thread = None
            self._order.leave(now_s)
            self._ring()
            if left.kind == "watch":  # how long the other frames' threads sleep has changed
                for ticket in self._order.waiting("watch"):
                    ticket.bell.notify()
            is_handed_over = self._order.holder is not None
        if is_handed_over:
            time.sleep(HAND_OVER_S)

    def _wait(self, ticket: Ticket) -> None:
        ticket.bell = threading.Condition(self._mutex)
        self._ring()  # this very request may have shown that another one's time has come
        while ticket is not self._order.holder:
            ticket.bell.wait(self._sleep_s(ticket))
            self._order.tick(self._monotonic())
            self._ring(besides=ticket)

    def _sleep_s(self, ticket: Ticket) -> float | None:
        """How long to sleep unless woken, seconds: speak's time ends without anybody's doing."""
        rest_s = self._order.speak_until_s - self._monotonic()
        return max(rest_s, 0.0) if ticket.kind == "watch" and rest_s > 0 else None

    def _ring(self, besides: Ticket | None = None) -> None:
        holder = self._order.holder
        if holder is not None and holder is not besides and holder.bell is not None:
            holder.bell.notify()


class _Door:
    """The `with` block of one kind of work; the lane knows who is inside."""

    __slots__ = ("_kind", "_lane")

    def __init__(self, lane: Lane, kind: Kind) -> None:
        self._lane, self._kind = lane, kind

    def __enter__(self) -> None:
        self._lane.enter(self._kind)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lane.leave()


class OpenLane:
    """A lane that nobody waits at, for engines that have cores of their own; it only counts.

    Args:
        monotonic: seconds; handed in so that a test can step it.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.perf_counter) -> None:
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._counts = LaneCounts()

    def watch(self) -> AbstractContextManager[None]:
        """At once."""
        return _OpenDoor(self, "watch")

    def speak(self) -> AbstractContextManager[None]:
        """At once."""
        return _OpenDoor(self, "speak")

    def stats(self) -> dict[str, Any]:
        """See `LaneCounts.as_json`; every wait is 0, and turns may overlap."""
        with self._mutex:
            return self._counts.as_json()

    def enter(self, kind: Kind) -> float:
        """Count a turn that begins; its time, seconds."""
        with self._mutex:
            self._counts.entered(kind, 0.0)
        return self._monotonic()

    def leave(self, kind: Kind, begun_s: float) -> None:
        """Count a turn that ends."""
        held_s = self._monotonic() - begun_s
        with self._mutex:
            self._counts.left(kind, held_s)


class _OpenDoor:
    """One `with` block: several may be inside, each with a time of its own."""

    __slots__ = ("_begun_s", "_kind", "_lane")

    def __init__(self, lane: OpenLane, kind: Kind) -> None:
        self._lane, self._kind = lane, kind

    def __enter__(self) -> None:
        self._begun_s = self._lane.enter(self._kind)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lane.leave(self._kind, self._begun_s)


class LaneCounts:
    """Waits and turns of both kinds. State: two windows of waits and six numbers."""

    def __init__(self) -> None:
        self._waits_s: dict[Kind, deque[float]] = {
            "watch": deque(maxlen=WAITS_KEPT),
            "speak": deque(maxlen=WAITS_KEPT),
        }
        self._holds: dict[Kind, int] = {"watch": 0, "speak": 0}
        self._busy_s: dict[Kind, float] = {"watch": 0.0, "speak": 0.0}
        self._longest_s: dict[Kind, float] = {"watch": 0.0, "speak": 0.0}

    def entered(self, kind: Kind, waited_s: float) -> None:
        """A turn began."""
        self._waits_s[kind].append(waited_s)

    def left(self, kind: Kind, held_s: float) -> None:
        """A turn ended."""
        self._holds[kind] += 1
        self._busy_s[kind] += held_s
        self._longest_s[kind] = max(self._longest_s[kind], held_s)

    def as_json(self) -> dict[str, Any]:
        """`watch` and `speak`, each with holds, busy_s, longest_hold_ms and wait_ms (p50, p99 and
        max of the latest n waits; None before the first), and `speak_share` of the busy time.
        """
        busy_s = self._busy_s["watch"] + self._busy_s["speak"]
        share = round(self._busy_s["speak"] / busy_s, 4) if busy_s else None
        return {"watch": self._of("watch"), "speak": self._of("speak"), "speak_share": share}

    def _of(self, kind: Kind) -> dict[str, Any]:
        waits_ms = sorted(round(1e3 * wait_s, 3) for wait_s in self._waits_s[kind])
        return {
            "holds": self._holds[kind],
            "busy_s": round(self._busy_s[kind], 4),
            "longest_hold_ms": round(1e3 * self._longest_s[kind], 3),
            "wait_ms": {
                "p50": percentile(waits_ms, 0.5) if waits_ms else None,
                "p99": percentile(waits_ms, 0.99) if waits_ms else None,
                "max": max(waits_ms, default=None),
                "n": len(waits_ms),
            },
        }
