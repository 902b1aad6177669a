"""The outlet: the one place where records leave the stream, in the order of their emission.

Source, watch and speak put records in; one drain sends them to every sink. So an event never waits
behind a long answer, and a slow sink never holds up a live stream.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .mailbox import DropRule, Mailbox, block_at, keep_results
from .metrics import Metrics
from .records import Record, StampedRecord
from .running import Running
from .sinks import Sink

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The wall clock of a real run."""
    return datetime.now(timezone.utc)


def wall_text(moment: datetime) -> str:
    """A moment as records have it: RFC 3339, UTC, milliseconds; such texts sort by time."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utf8_text(text: str) -> str:
    """The text as UTF-8 can say it: a file's name may hold any byte, and Python then keeps it so.

    Each byte that is no UTF-8 becomes U+FFFD.
    """
    if text.isascii():
        return text
    try:
        return os.fsencode(text).decode("utf-8", "replace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return text.encode("utf-8", "replace").decode("utf-8")


def _utf8(value: Any) -> Any:
    """A JSON value with every text in it as UTF-8 can say it."""
    if isinstance(value, str):
        return utf8_text(value)
    if isinstance(value, Mapping):
        return {key: _utf8(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_utf8(one) for one in value]
    return value


class Outlet:
    """Stamps records and sends them on. Safe for any number of senders.

    A sink whose reader has gone falls away, and the run ends when none is left. A sink that fails
    ends the run; the others still get every record that is emitted, also the last ones.

    State: time of the last record; at most `capacity` records on their way; the sinks that fell
    away.

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
        self._camera = utf8_text(camera)
        self._clock = clock
        self._wall = wall
        self._capacity = capacity
        self._order = threading.Lock()
        self._last_time_s = 0.0
        self._mailbox: Mailbox[StampedRecord] | None = None
        self._gone: list[Sink] = []

    def start(self, running: Running, *, is_live: bool, metrics: Metrics) -> None:
        """Send from a thread of `running` if it has threads, else directly from `put`.

        Args:
            running: the run that owns the thread.
            is_live: a slow sink costs records; otherwise the stream waits for it.
            metrics: counts each record that was let go, under `records`.
        """
        if not running.in_threads:
            return
        rule: DropRule[StampedRecord] = (
            keep_results(self._capacity) if is_live else block_at(self._capacity)
        )
        self._mailbox = Mailbox(
            rule, metrics.drop, lambda stamped: metrics.not_told(stamped.record)
        )
        running.drain(self._mailbox, self._send)

    def put(self, record: Record) -> None:
        """Emit one record now.

        Raises:
            OutputError: a sink cannot write (in a threaded run, the run raises it instead).
            BrokenPipeError: the reader of the last sink has gone.
        """
        with self._order:
            stamped = self._stamped(record)
            if self._mailbox is None:
                self._send(stamped)
            else:
                self._mailbox.put(stamped)

    def put_all(self, records: Iterable[Record]) -> None:
        """Emit several, in order."""
        for record in records:
            self.put(record)

    def put_last(self, records: Iterable[Record]) -> None:
        """Emit the last words of a run, in order; none is dropped, and none drops another.

        Raises:
            OutputError: as `put`, when all have been emitted.
        """
        fault: Exception | None = None
        for record in records:
            with self._order:
                stamped = self._stamped(record)
                if self._mailbox is not None:
                    self._mailbox.put_last(stamped)
                    continue
                try:
                    self._send(stamped)
                except Exception as error:  # raised when the other sinks have the rest
                    fault = fault or error
        if fault is not None:
            raise fault

    def _stamped(self, record: Record) -> StampedRecord:
        self._last_time_s = max(self._last_time_s, self._clock())
        wall = wall_text(self._wall())
        safe = Record(record.type, _utf8(record.body))
        return StampedRecord(safe, self._camera, self._last_time_s, wall)

    def _send(self, stamped: StampedRecord) -> None:
        """Send to every sink that is well, then raise what ends the run."""
        fault: Exception | None = None
        for sink in self._sinks:
            if sink in self._gone:
                continue
            try:
                sink.send(stamped)
            except Exception as error:  # raised when the other sinks have this record
                self._gone.append(sink)
                if isinstance(error, BrokenPipeError) and len(self._gone) < len(self._sinks):
                    continue
                if fault is not None:
                    log.error("a second sink failed: %r", error)
                fault = fault or error
        if fault is not None:
            raise fault
