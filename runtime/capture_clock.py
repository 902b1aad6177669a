"""When a picture was taken: a camera's own time stamps laid onto the clock of this device.

A network delays pictures unevenly, but never below the way it takes at best. The time stamps are
even. So a picture was taken at its time stamp plus the smallest delay seen: arrival times without
their jitter. What a picture is later than that is its lag, which grows where something cannot
keep up.
"""

from __future__ import annotations

from dataclasses import dataclass

DRIFT = 5e-4
"""Seconds a second by which a camera's clock may be slower than ours and still be followed. Quartz
is within 1e-4, a rate that is told rounded (29.97 as 30) is 1e-3 off. At this speed a true lag of
1.5 s would be taken for the best case after 50 minutes."""

BACK_S = 1.0
"""A step back of more is a clock that began again; less is a picture out of order (a guess)."""

AHEAD_S = 1.0
"""Time stamps that leap ahead by more than the best delay allows began again too."""


@dataclass(frozen=True, slots=True)
class Captured:
    """When one picture was taken.

    Attributes:
        at_s: on this device's monotonic clock, seconds; never less than for the picture before,
            never after its arrival.
        lag_s: how much later than the best case it arrived, seconds; 0 where it has no time stamp.
        is_rebased: its time stamp does not go on from the one before; the best case is sought anew.
    """

    at_s: float
    lag_s: float
    is_rebased: bool = False


class CaptureClock:
    """Gives each picture the time at which it was taken.

    State: the best delay, the last time stamp and arrival, the last time given.
    """

    def __init__(self) -> None:
        self._last_at_s: float | None = None
        self.anchor()

    def anchor(self) -> None:
        """Seek the best delay anew, as on a new connection; times still never go back."""
        self._offset_s: float | None = None  # from the camera's clock to ours, at best
        self._last_pts_s = 0.0
        self._last_arrived_s = 0.0

    def lag_s(self, pts_s: float | None, arrived_s: float) -> float:
        """How much later than the best case something arrived; asking changes nothing.

        Args:
            pts_s: its time stamp, seconds; None where it has none.
            arrived_s: when it came, seconds of the monotonic clock.
        """
        if pts_s is None or self._offset_s is None:
            return 0.0
        return max(0.0, arrived_s - pts_s - self._offset_s)

    def step(self, pts_s: float | None, arrived_s: float) -> Captured:
        """Place the next picture, in the order of display.

        Args:
            pts_s: its time stamp, seconds, finite; None where it has none: then it was taken when
                it came.
            arrived_s: when it came, seconds of the monotonic clock; never goes back.
        """
        if pts_s is None:
            return self._given(arrived_s, 0.0, False)
        is_rebased = self._follow(pts_s, arrived_s)
        assert self._offset_s is not None
        at_s = min(pts_s + self._offset_s, arrived_s)  # the sum may be off by its rounding
        return self._given(at_s, arrived_s - at_s, is_rebased)

    def _follow(self, pts_s: float, arrived_s: float) -> bool:
        """Move the best delay on; whether the time stamps began again."""
        delay_s, best_s = arrived_s - pts_s, self._offset_s
        is_first = best_s is None
        is_rebased = False
        if best_s is None:
            self._offset_s = delay_s
        else:
            leaked_s = best_s + DRIFT * max(0.0, arrived_s - self._last_arrived_s)
            has_begun_again = pts_s < self._last_pts_s - BACK_S
            is_rebased = has_begun_again or delay_s < best_s - AHEAD_S
            self._offset_s = delay_s if has_begun_again else min(leaked_s, delay_s)
        # A picture out of order must not make the next one look like a leap back.
        restarts = is_first or is_rebased
        self._last_pts_s = pts_s if restarts else max(pts_s, self._last_pts_s)
        self._last_arrived_s = arrived_s
        return is_rebased

    def _given(self, at_s: float, lag_s: float, is_rebased: bool) -> Captured:
        self._last_at_s = at_s if self._last_at_s is None else max(at_s, self._last_at_s)
        return Captured(self._last_at_s, lag_s, is_rebased)
