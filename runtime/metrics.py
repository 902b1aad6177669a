"""Counters and stage times of one run, bounded, and the `stats` and `drop` records made of them."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from .records import Record
from .values import Features, GateDecision, Response

Item = TypeVar("Item")

# Latest stage times that percentiles are taken of: 17 minutes at 4 frames/s, 64 kB for four stages.
LATENCIES_KEPT = 4096


def rss_bytes() -> int:
    """Resident memory of this process, bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def percentile(sorted_values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed.

    Args:
        sorted_values: at least one, smallest first.
        share: 0 to 1.
    """
    n = len(sorted_values)
    lowest = max(1, int(share * n))  # the product may be off by its rounding: 0.07 * 100 is not 7
    rank = next(rank for rank in range(lowest, n + 1) if rank / n >= share)
    return sorted_values[rank - 1]


class Latencies:
    """The latest times of one stage, in a ring that takes all its memory at once.

    One that fills for a quarter of an hour looks like a leak (measured: 2.6 MB of four cameras).
    """

    def __init__(self) -> None:
        self._ring = array("d", bytes(8 * LATENCIES_KEPT))
        self._count = 0

    def append(self, seconds: float) -> None:
        """One more; beyond LATENCIES_KEPT it takes the place of the oldest."""
        self._ring[self._count % LATENCIES_KEPT] = seconds
        self._count += 1

    def values(self) -> array[float]:
        """Those that are kept, in no order."""
        return self._ring[: min(self._count, LATENCIES_KEPT)]


class Metrics:
    """What a run counts. Safe for several threads.

    State: one counter per name, the latest stage times and their sum, drops not yet reported and
    since when.

    Args:
        fps_target: sampled frames a second that the run aims at.
        stats_every_s: stream seconds between two `stats` records.
        monotonic: for stage times and up time; handed in so that a test can step it.
        wall: the time of day, seconds since 1970, for how long frames wait.
        gauges: field of a `stats` record → what it is now, for what others count.
    """

    def __init__(
        self,
        *,
        fps_target: float,
        stats_every_s: float = 60.0,
        monotonic: Callable[[], float] = time.perf_counter,
        wall: Callable[[], float] = time.time,
        gauges: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        self._gauges = dict(gauges or {})
        self._fps_target = fps_target
        self._stats_every_s = stats_every_s
        self._monotonic, self._wall = monotonic, wall
        self._started = monotonic()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._latencies: dict[str, Latencies] = {}
        self._busy_s = 0.0
        self._notices: list[Record] = []
        self._unreported_since_s: dict[str, float] = {}
        self._drops_reported_s = 0.0
        self._stats_reported_s = 0.0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent in the block to `stage`."""
        begun = self._monotonic()
        yield
        took_s = self._monotonic() - begun
        self._busy_s += took_s  # stages are timed in the thread that watches alone
        self._add_latency(stage, took_s)

    def work(self) -> tuple[float, int, float]:
        """(now, frames so far, time that watching them took), seconds; for the watching thread."""
        return self._monotonic(), self._counts["seen"], self._busy_s

    def add_gauge(self, name: str, read: Callable[[], Any]) -> None:
        """Have a `stats` record tell one more thing that others count; before the run."""
        self._gauges[name] = read

    def timed_items(self, stage: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time each took to come is added to `stage`."""
        while True:
            begun = self._monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            if item is not None:
                self._add_latency(stage, self._monotonic() - begun)
            yield item

    def waited(self, captured_s: float | None) -> None:
        """Count how long a frame waited from when it was taken; nothing of a file.

        Args:
            captured_s: wall time, seconds since 1970. A wall clock that was set back meanwhile
                counts as no wait.
        """
        if captured_s is not None:
            self._add_latency("wait", max(0.0, self._wall() - captured_s))

    def _add_latency(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._latencies.setdefault(stage, Latencies()).append(seconds)

    def saw(self, features: Features, decision: GateDecision) -> None:
        """Count one frame and what each step of the cascade made of it."""
        with self._lock:
            self._counts["seen"] += 1
            self._counts["still"] += features.is_still
            self._counts["encoded"] += features.is_fresh
            self._counts["gated"] += bool(decision.opened)

    def spoke(self, final: Response) -> None:
        """Count one Turn that was answered, and how long its first token took; a check is none."""
        if final.cause == "standing":
            return
        with self._lock:
            self._counts["turns"] += 1
        if final.first_token_ms is not None:
            self._add_latency("first_token", final.first_token_ms / 1e3)

    def opened(self) -> None:
        """Count one frame at which the language model itself opened an event."""
        with self._lock:
            self._counts["gated"] += 1

    def drop(self, what: str) -> None:
        """Count one dropped item; it will be in a `drop` record."""
        with self._lock:
            self._dropped[what] += 1
            self._unreported[what] += 1

    def notice(self, record: Record) -> None:
        """Have a record of the watching thread's parts told at the next frame boundary."""
        with self._lock:
            self._notices.append(record)

    def due(self, time_s: float) -> tuple[Record, ...]:
        """Notices, and the `drop` and `stats` records whose time has come.

        Drops are gathered for a second, so that a device that is too slow is not drowned in them.
        """
        with self._lock:
            records, self._notices = self._notices, []
        if self._unreported and time_s - self._drops_reported_s >= 1.0:
            records += self.drops(time_s)
        if time_s - self._stats_reported_s >= self._stats_every_s:
            self._stats_reported_s = time_s
            records.append(self.stats())
        return tuple(records)

    def drops(self, time_s: float) -> tuple[Record, ...]:
        """One `drop` record per name for all that was not reported yet."""
        with self._lock:
            unreported, self._unreported = self._unreported, Counter()
            since_s = {what: self._unreported_since_s.get(what, 0.0) for what in unreported}
            self._unreported_since_s.update(dict.fromkeys(unreported, time_s))
            self._drops_reported_s = time_s
        return tuple(
            Record("drop", {"what": what, "count": count, "since_s": round(since_s[what], 3)})
            for what, count in sorted(unreported.items())
        )

    def not_told(self, drop: Record) -> None:
        """This `drop` record never went out: the next one tells its count too."""
        what, since_s = drop.body["what"], drop.body["since_s"]
        with self._lock:
            self._unreported[what] += drop.body["count"]
            self._unreported_since_s[what] = min(since_s, self._unreported_since_s.get(what, 0.0))

    def stats(self) -> Record:
        """A `stats` record of the run so far."""
        with self._lock:
            uptime_s = max(self._monotonic() - self._started, 1e-9)
            body: dict[str, Any] = {
                "frames_seen": self._counts["seen"],
                "frames_still": self._counts["still"],
                "frames_encoded": self._counts["encoded"],
                "frames_gated": self._counts["gated"],
                "turns": self._counts["turns"],
                "fps": round(self._counts["seen"] / uptime_s, 2),
                "fps_target": self._fps_target,
                "stage_ms": {stage: _summary(kept) for stage, kept in self._latencies.items()},
                "bytes_kept": 0,
                "bytes_budget": None,
                "rss_bytes": rss_bytes(),
                "dropped": dict(self._dropped),
                "uptime_s": round(uptime_s, 3),
            }
        return Record("stats", {**body, **{name: read() for name, read in self._gauges.items()}})


def _summary(latencies: Latencies) -> dict[str, float]:
    ordered = sorted(latencies.values())
    return {
        "p50": round(percentile(ordered, 0.5) * 1e3, 3),
        "p99": round(percentile(ordered, 0.99) * 1e3, 3),
        "n": len(ordered),
    }
