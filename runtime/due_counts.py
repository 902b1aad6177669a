"""Counts that are told now and then: of each name the first at once, further ones not too often."""

from __future__ import annotations

import math
from collections import Counter


class DueCounts:
    """Counts per name that were not told yet.

    State: counts, and when each name was last told; names are few and known to the caller.

    Args:
        every_s: between two tellings of one name, at least, seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._counts: Counter[str] = Counter()
        self._told_at_s: dict[str, float] = {}

    def add(self, name: str, count: int = 1) -> None:
        """Count more of a name."""
        self._counts[name] += count

    def due(self, now_s: float, *, is_last: bool = False) -> list[tuple[str, int]]:
        """Take the (name, count) pairs whose time has come, by name.

        Args:
            now_s: seconds of a monotonic clock.
            is_last: also those whose time has not come.
        """
        told = [
            (name, count)
            for name, count in sorted(self._counts.items())
            if count and (is_last or now_s - self._told_at_s.get(name, -math.inf) >= self._every_s)
        ]
        for name, _ in told:
            del self._counts[name]
            self._told_at_s[name] = now_s
        return told
