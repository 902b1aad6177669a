"""A queue on disk: records wait there for a peer, also while the process is dead.

How to think about it: `put` appends a checked line to the newest of some segment files; one sender
reads from the oldest, and says `done` when the peer has a record. Then the place behind it is
saved. What was sent and not yet saved as done is sent again by the next run, under the same
delivery id: at least once, in order.

A record is in the file when `put` returns, so a killed process loses none. The disk is made to hold
it by `flush`, which the sender calls every second or so: a power cut costs what came since then.
Where the disk takes nothing, records wait in memory, bounded, until it does again. Beyond the
bounds the oldest go first, and are counted.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ....runtime.errors import OutputUnwritable
from .queue_folder import ANOTHER, Place, locked_folder, write_place
from .queue_memory import WaitingInMemory
from .queue_opening import left_in
from .queue_values import Entry, QueueBounds, QueueCounts
from .segments import (
    SUFFIX,
    Segment,
    SegmentReader,
    SegmentWriter,
    erase_in,
    line_of,
    sync_files,
)


class DiskQueue:
    """Records in the order of `put`. Any thread may put; one sender takes.

    State: the segments; the numbers of the last record that is done (`_head`) and of the one that
    comes next; what waits in memory; the place that was last saved; counters.

    Args:
        folder: made where it is not there, with its parents; one process holds it at a time.
        bounds: of what may wait.

    Raises:
        OutputUnwritable: the folder cannot be used, or another process holds it.

    Cost: opening reads every file; memory is a few hundred bytes a segment.
    """

    def __init__(self, folder: Path, bounds: QueueBounds | None = None) -> None:
        self.folder = folder
        self._bounds = bounds or QueueBounds()
        self._changed = threading.Condition()
        self._writer, self._reader = SegmentWriter(), SegmentReader()
        self._epoch, self._serial = secrets.token_hex(6), 0
        self._memory = WaitingInMemory()
        self._dropped, self._fault, self._is_closed = 0, "", False
        self._lock = locked_folder(folder)
        try:
            left = left_in(folder)
        except (OSError, OutputUnwritable) as error:
            os.close(self._lock)
            if isinstance(error, OutputUnwritable):
                raise
            why = (error.strerror or str(error)).lower()
            raise OutputUnwritable(
                f"the queue {folder} cannot be read: {why}", hint=ANOTHER
            ) from error
        self._segments, self._saved = left.segments, left.saved
        self._next_segment, self._head = left.next_segment, left.head
        self._must_roll, self._damaged = left.must_roll, left.lost
        self._next = self._last_on_disk() + 1
        self._records = sum(one.readable_in(self._head + 1, one.last) for one in self._segments)

    def put(self, body: bytes) -> None:
        """Let a record wait; never raises for the disk's sake, and waits for no peer.

        Args:
            body: JSON on one line.

        Cost: one write to the end of a file.
        """
        with self._changed:
            if self._is_closed:
                return
            self._serial += 1
            delivery_id = f"{self._epoch}-{self._serial}"
            line = line_of(delivery_id, body)
            if len(line) > self._bounds.segment_bytes:
                self._dropped += 1
                return
            self._records += 1
            self._next += 1
            # What waits in memory goes to the disk first; `flush` tries that now and then.
            if self._memory or not self._written(line, self._next - 1):
                self._memory.append(delivery_id, body)
                while self._memory.n_bytes > self._bounds.memory_bytes:
                    self._drop_oldest()
            while self._records > self._bounds.most_records:
                self._advance(self._head + 1, is_drop=True)
            self._changed.notify_all()

    def next_after(self, number: int, timeout_s: float = 0.0) -> Entry | None:
        """The first record that waits behind this number; None where none comes in time.

        Args:
            number: of the record that was taken last; 0 for the oldest that waits.
            timeout_s: how long to wait for one, seconds.
        """
        with self._changed:
            found = self._found(number)
            if found is None and timeout_s > 0 and not self._is_closed:
                self._changed.wait(timeout_s)
                found = self._found(number)
            return found

    def done(self, number: int) -> None:
        """The peer has this record and all before it."""
        with self._changed:
            if not self._is_closed:
                self._advance(number, is_drop=False)

    def is_waiting(self, number: int) -> bool:
        """Whether this record has neither been done nor dropped."""
        with self._changed:
            return self._head < number < self._next

    def counts(self) -> QueueCounts:
        """What waits and what was lost, now."""
        with self._changed:
            lost = self._dropped, self._damaged
            sizes = self._disk_bytes(), self._memory.n_bytes
            return QueueCounts(self._records, *sizes, *lost, self._fault)

    def erase(self, is_one: Callable[[bytes], bool]) -> int:
        """Forget the records of which this is true, those among them that were sent already.

        Returns:
            how many waited.

        Raises:
            OSError: the disk does not let go of one; those before it are gone.

        Cost: every file is read.
        """
        with self._changed:
            self._reader.close()  # it may have read on beyond the line it gave
            waited = self._memory.erase(is_one)
            self._records -= waited
            for segment in self._segments:
                erased = sum(number > self._head for number in erase_in(segment, is_one))
                self._records -= erased
                waited += erased
            return waited

    def wake(self) -> None:
        """Have a `next_after` that waits return now."""
        with self._changed:
            self._changed.notify_all()

    def flush(self) -> None:
        """Have the disk hold what waits and what is done; try it again where it took nothing.

        Called by the sender, now and then: it may wait for the disk, and no `put` waits for it.
        """
        with self._changed:
            if self._is_closed:
                return
            self._write_memory()
            paths, place = self._writer.unsynced(), self._place()
        fault = ""
        try:
            sync_files(paths)
            if place != self._saved:
                write_place(self.folder, place)
                self._saved = place
        except OSError as error:
            fault = error.strerror or type(error).__name__
        with self._changed:
            if fault:
                self._writer.not_synced(paths)
            if fault or not self._memory:
                self._fault = fault

    def close(self) -> None:
        """Save what can be saved and let go of the folder; calling it twice is harmless."""
        self.flush()
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._writer.close()
            self._reader.close()
            os.close(self._lock)
            self._changed.notify_all()

    # Below, the caller holds the lock.

    def _last_on_disk(self) -> int:
        return self._segments[-1].last if self._segments else self._head

    def _disk_bytes(self) -> int:
        return sum(one.size_bytes for one in self._segments)

    def _place(self) -> Place:
        if not self._segments:
            return Place(self._next_segment, 0)
        oldest = self._segments[0]
        return Place(oldest.number, max(0, self._head - oldest.first + 1))

    def _found(self, number: int) -> Entry | None:
        number = max(number, self._head) + 1
        while not self._is_closed and number < self._next:
            in_memory = number - (self._next - len(self._memory))
            if in_memory >= 0:
                delivery_id, body = self._memory.at(in_memory)
                if body:
                    return Entry(number, delivery_id, body)
                number += 1
                continue
            segment = next(one for one in self._segments if number <= one.last)
            if number not in segment.damaged:
                if (found := self._reader.line(segment, number)) is not None:
                    return Entry(number, *found)
                segment.damaged.add(number)
                self._records -= 1
                self._damaged += 1
            number += 1
        return None

    def _advance(self, number: int, *, is_drop: bool) -> None:
        """Let go of all records up to a number, and of the files that hold no others."""
        number = min(number, self._next - 1)
        gone = sum(one.readable_in(self._head + 1, number) for one in self._segments)
        while self._memory and self._next - len(self._memory) <= number:
            gone += bool(self._memory.pop())
        self._head = max(self._head, number)
        self._records -= gone
        self._dropped += gone if is_drop else 0
        while self._segments and self._segments[0].last <= self._head:
            if len(self._segments) == 1 and not self._must_roll:
                return  # it goes on being written
            self._removed(self._segments.popleft())

    def _removed(self, segment: Segment) -> None:
        self._reader.close()
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:  # it stays, and what it holds comes again in the next run
            self._fault = error.strerror or type(error).__name__

    def _drop_oldest(self) -> None:
        """Make room in memory: a whole file goes, for that makes room on the disk as well."""
        waits = [one for one in self._segments if one.last > self._head]
        first_in_memory = self._next - len(self._memory)
        self._advance(waits[0].last if waits else first_in_memory, is_drop=True)

    def _write_memory(self) -> None:
        while self._memory:
            number, line = self._next - len(self._memory), self._memory.line()
            if not self._written(line, number):
                return
            if not self._memory.pop():
                self._segments[-1].damaged.add(number)
                self._segments[-1].erased.add(number)

    def _written(self, line: bytes, number: int) -> bool:
        """Whether the record of this number is on the disk now."""
        while self._segments and self._disk_bytes() + len(line) > self._bounds.most_bytes:
            self._must_roll = self._must_roll or len(self._segments) == 1
            self._advance(self._segments[0].last, is_drop=True)
        newest = self._segments[-1] if self._segments else None
        segment = newest
        if (
            segment is None
            or self._must_roll
            or segment.last + 1 != number
            or segment.size_bytes + len(line) > self._bounds.segment_bytes
        ):
            segment = Segment(self.folder / f"{self._next_segment:012d}{SUFFIX}", number)
            self._next_segment += 1
        try:
            self._writer.append(segment, line)
        except OSError as error:
            self._fault, self._must_roll = error.strerror or type(error).__name__, True
            if segment is not newest:
                with suppress(OSError):  # an empty file is read as one that holds nothing
                    segment.path.unlink(missing_ok=True)
            return False
        self._must_roll = False
        if segment is not newest:
            self._segments.append(segment)
        return True
