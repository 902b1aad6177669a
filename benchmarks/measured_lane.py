"""A lane whose every wait and turn is written down, and a plain lock to compare it with."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from edgestream.runtime.engines.lane import Lane, Lanes, OpenLane


class PlainLock:
    """One lock for both: whoever is faster has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def watch(self) -> AbstractContextManager[Any]:
        """The lock."""
        return self._lock

    def speak(self) -> AbstractContextManager[Any]:
        """The same lock."""
        return self._lock

    def stats(self) -> dict[str, Any]:
        """Nothing."""
        return {}


LANES: dict[str, tuple[Callable[[], Lanes], int]] = {
    "lane": (Lane, 2),
    "split": (OpenLane, 1),
    "no lane": (OpenLane, 2),
    "plain lock": (PlainLock, 2),
}
"""Way of sharing two cores → lane, and threads of each engine. `lane` and `split` are the two that
the setting `engine.lane` offers; the others are what they are measured against."""


class MeasuredLane:
    """A lane whose every wait and turn is written down under the name of what is done in it.

    Attributes:
        speaking: `step`, `chunk` or `eviction`, set by the thread that speaks.
    """

    def __init__(self, lane: Lanes) -> None:
        self._lane = lane
        self.speaking = "chunk"
        self.waits_s: defaultdict[str, list[float]] = defaultdict(list)
        self.turns_s: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """As the lane's own."""
        with self._measured(self._lane.watch(), "frame"):
            yield

    @contextmanager
    def speak(self) -> Iterator[None]:
        """As the lane's own."""
        with self._measured(self._lane.speak(), self.speaking):
            yield

    def stats(self) -> dict[str, Any]:
        """The lane's own."""
        return self._lane.stats()

    @contextmanager
    def _measured(self, turn: AbstractContextManager[Any], what: str) -> Iterator[None]:
        asked_s = time.perf_counter()
        with turn:
            begun_s = time.perf_counter()
            yield
            ended_s = time.perf_counter()
        self.waits_s[what].append(begun_s - asked_s)
        self.turns_s[what].append(ended_s - begun_s)
