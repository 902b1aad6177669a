"""What a queue on disk takes, gives and counts: plain values."""

from __future__ import annotations

from dataclasses import dataclass

SEGMENTS = 16
"""Of so many parts is a full queue: the oldest go a part at a time."""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may wait.

    Attributes:
        most_bytes: of all files together, bytes.
        most_records: that wait.
        memory_bytes: of what waits in memory while the disk takes nothing.
    """

    most_bytes: int = 32_000_000
    most_records: int = 100_000
    memory_bytes: int = 1_000_000

    @property
    def segment_bytes(self) -> int:
        """Size from which a new file is begun; no record may be larger."""
        return self.most_bytes // SEGMENTS


@dataclass(frozen=True, slots=True)
class Entry:
    """One record that waits.

    Attributes:
        number: its place in this run's count; the next one's is greater.
        delivery_id: the same whenever this record is sent, and no other record's.
        body: the record, JSON.
    """

    number: int
    delivery_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What a queue holds and has lost.

    Attributes:
        records: that wait.
        disk_bytes: of all files together.
        memory_bytes: of records that wait in memory.
        dropped: records that went beyond the bounds, since the start.
        damaged: records that could not be read again.
        fault: why the disk takes nothing; empty where it does.
    """

    records: int
    disk_bytes: int
    memory_bytes: int
    dropped: int
    damaged: int
    fault: str
