"""Records of a queue that wait in memory, because the disk takes none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .segments import blank, line_of


class WaitingInMemory:
    """Records in order. State: (delivery id, record) of each, and their size as lines, bytes.

    One that was erased keeps its place, without its record.
    """

    def __init__(self) -> None:
        self._records: deque[tuple[str, bytes]] = deque()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def append(self, delivery_id: str, body: bytes) -> None:
        """One more at the end."""
        self._records.append((delivery_id, body))
        self.n_bytes += len(line_of(delivery_id, body))

    def at(self, index: int) -> tuple[str, bytes]:
        """One of them; 0 is the oldest."""
        return self._records[index]

    def line(self) -> bytes:
        """What is written to the disk of the oldest: a blank line where it was erased."""
        delivery_id, body = self._records[0]
        line = line_of(delivery_id, body)
        return line if body else blank(line)

    def pop(self) -> bytes:
        """Take the oldest away; its record, empty where it was erased."""
        delivery_id, body = self._records.popleft()
        self.n_bytes -= len(line_of(delivery_id, body))
        return body

    def erase(self, is_one: Callable[[bytes], bool]) -> int:
        """Forget the records of which this is true; how many there were."""
        kept, self._records, self.n_bytes, erased = self._records, deque(), 0, 0
        for delivery_id, body in kept:
            is_erased = bool(body) and is_one(body)
            erased += is_erased
            self.append(delivery_id, b"" if is_erased else body)
        return erased
