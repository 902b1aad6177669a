"""Stream time from raw time stamps: it starts at 0 and never goes back."""

from __future__ import annotations

import math
from dataclasses import dataclass

LATE_WITHIN_S = 1.0
"""A step back of up to this much is one frame out of order; more is a clock that started again.

Reordering in a damaged file is a few frames wide; restarted clocks seen in recordings of cameras
fall back by minutes. The number between is a guess.
"""


ROUNDING_S = 1e-6
"""Less than any container's unit of time: a difference this small is arithmetic, no step back."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one frame belongs.

    Attributes:
        time_s: stream time, seconds; None for a frame that comes too late and is dropped.
        rebased_by_s: what was added to the raw clock because it started again, seconds; else None.
    """

    time_s: float | None
    rebased_by_s: float | None = None


class Timeline:
    """Gives each frame its stream time.

    A frame up to LATE_WITHIN_S behind the one before is dropped and counted. One further behind
    means that the clock started again: stream time goes on one interval after the last frame.
    A frame without a time stamp comes one interval after the last frame.

    Args:
        interval_s: nominal time between two frames of the source, seconds.
    """

    def __init__(self, interval_s: float) -> None:
        if not (math.isfinite(interval_s) and interval_s > 0):
            raise ValueError(f"interval_s must be finite and more than 0, got {interval_s}")
        self._interval_s = interval_s
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._last_s: float | None = None
        self._origin_s: float | None = None  # raw time stamp at stream time 0
        self._late_count = 0
        self._late_since_s = 0.0

    @property
    def last_s(self) -> float:
        """Stream time of the last frame placed, seconds; 0 before the first."""
        return self._last_s or 0.0

    @property
    def late_count(self) -> int:
        """Frames dropped because they came too late."""
        return self._late_count

    @property
    def late_since_s(self) -> float:
        """Stream time at which the first of them was dropped, seconds."""
        return self._late_since_s

    def step(self, pts_s: float | None) -> Placed:
        """Place the next frame.

        Args:
            pts_s: its raw time stamp, seconds, finite; None where the container gives none.
        """
        if pts_s is None:
            return self._placed(self._following_s())
        if self._origin_s is None:
            self._origin_s = pts_s - self._following_s()
        time_s = pts_s - self._origin_s
        behind_s = self.last_s - time_s
        if behind_s > LATE_WITHIN_S:
            moved_s = self._following_s() - time_s
            self._origin_s -= moved_s
            return self._placed(self._following_s(), moved_s)
        if behind_s > ROUNDING_S:
            if self._late_count == 0:
                self._late_since_s = self.last_s
            self._late_count += 1
            return Placed(None)
        return self._placed(time_s)

    def _following_s(self) -> float:
        return 0.0 if self._last_s is None else self._last_s + self._interval_s

    def _placed(self, time_s: float, rebased_by_s: float | None = None) -> Placed:
        self._last_s = max(time_s, self.last_s)
        return Placed(self._last_s, rebased_by_s)
