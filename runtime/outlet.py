"""The outlet: the one place where records leave the stream, in the order of their emission.

Source, watch and speak put records in; one drain sends them to every sink. So an event never waits
behind a long answer, and a slow sink never holds up a live stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone

from .mailbox import DropRule, Mailbox, block_at, keep_results
from .records import Record, StampedRecord
from .running import Running
from .sinks import Sink


def utc_now() -> datetime:
    """The wall clock of a real run."""
    return datetime.now(timezone.utc)


class Outlet:
    """Stamps records and sends them on. Safe for any number of senders.

    State: time of the last record; at most `capacity` records on their way.

    Args:
        sinks: where records go, each in turn.
        camera: the name of the source.
        clock: stream time now, seconds.
        wall: the wall clock; handed in so that a test can step it.
        capacity: records that may wait for a slow sink.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        camera: str,
        clock: Callable[[], float],
        wall: Callable[[], datetime] = utc_now,
        capacity: int = 1024,
    ) -> None:
        self._sinks = tuple(sinks)
        self._camera = camera
        self._clock = clock
        self._wall = wall
        self._capacity = capacity
        self._order = threading.Lock()
        self._last_time_s = 0.0
        self._mailbox: Mailbox[StampedRecord] | None = None
        self._failed: list[Sink] = []

    def start(self, running: Running, *, is_live: bool, on_drop: Callable[[str], None]) -> None:
        """Send from a thread of `running` if it has threads, else directly from `put`.

        Args:
            running: the run that owns the thread.
            is_live: a slow sink costs records; otherwise the stream waits for it.
            on_drop: called with `records` for each one that was let go.
        """
        if not running.in_threads:
            return
        rule: DropRule[StampedRecord] = (
            keep_results(self._capacity) if is_live else block_at(self._capacity)
        )
        self._mailbox = Mailbox(rule, on_drop)
        running.drain(self._mailbox, self._send)

    def put(self, record: Record) -> None:
        """Emit one record now.

        Raises:
            OutputError: a sink cannot write (in a threaded run, the run raises it instead).
        """
        with self._order:
            self._last_time_s = max(self._last_time_s, self._clock())
            wall = self._wall().isoformat(timespec="milliseconds").replace("+00:00", "Z")
            stamped = StampedRecord(record, self._camera, self._last_time_s, wall)
            if self._mailbox is None:
                self._send(stamped)
            else:
                self._mailbox.put(stamped)

    def put_all(self, records: Iterable[Record]) -> None:
        """Emit several, in order."""
        for record in records:
            self.put(record)

    def _send(self, stamped: StampedRecord) -> None:
        for sink in self._sinks:
            if sink in self._failed:
                continue  # its error is on its way to the caller; once is enough
            try:
                sink.send(stamped)
            except BaseException:
                self._failed.append(sink)
                raise
