"""A peer: somebody outside who gets records; what every kind of it can say of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ....runtime.records import StampedRecord
from .queue_values import QueueCounts


@dataclass(frozen=True, slots=True)
class PeerStats:
    """What a peer has got so far, for counters.

    Attributes:
        queued: records that wait.
        queued_bytes: of the files and of memory that they wait in.
        sent: records that the peer took, since the start.
        failed: records that it refused, and that were given up.
        dropped: records that the queue had no room for, or could not read again.
        retried: tries that came to nothing and were made again.
        is_connected: whether the last try reached it.
    """

    queued: int
    queued_bytes: int
    sent: int
    failed: int
    dropped: int
    retried: int
    is_connected: bool


class Peer(Protocol):
    """A sink for several cameras that never raises and never waits for who is behind it."""

    name: str

    def send(self, record: StampedRecord) -> None:
        """Take one record, from any thread."""
        ...

    def stats(self) -> PeerStats:
        """The counters now, from any thread."""
        ...

    def erase(self, is_one: Callable[[bytes], bool]) -> int:
        """Forget the records of the queue of which this is true; how many still waited.

        Raises:
            OSError: the disk does not let go of one.
        """
        ...

    def close(self, within_s: float = ...) -> None:
        """Send what can be sent in so many seconds; what is left stays on disk."""
        ...


def is_for(record: StampedRecord, name: str, types: frozenset[str]) -> bool:
    """Whether a peer is told of a record.

    Args:
        record: one that says in `sinks` whom it is for is for these alone; for all where it names
            none.
        name: of the peer.
        types: of records that the peer takes.
    """
    named = record.record.body.get("sinks")
    return record.record.type in types and (not named or name in named)


def body_of(record: StampedRecord) -> bytes:
    """The record as it is sent: JSON, UTF-8, one line."""
    return json.dumps(record.as_json(), ensure_ascii=False, allow_nan=False).encode()


def stats_of(
    counts: QueueCounts, *, sent: int, failed: int, retried: int, is_connected: bool
) -> PeerStats:
    """The counters of a peer and its queue together."""
    size = counts.disk_bytes + counts.memory_bytes
    lost = counts.dropped + counts.damaged
    return PeerStats(counts.records, size, sent, failed, lost, retried, is_connected)
