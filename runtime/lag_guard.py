"""What to do with the next packet of a live stream, so that latency never grows."""

from __future__ import annotations

from enum import Enum

CATCH_UP_S = 1.0
"""How long reading on may take to catch up by itself. A network that halts for a moment gives all
at once afterwards, and decoding that costs less than waiting for a key frame."""

WAITED_S = 0.01
"""A packet that was waited for so long had not been lying here. More than a thread waits for its
turn, less than half the time between two pictures at 30 a second."""

LEAST_GAIN = 0.1
"""Seconds of lag that skipping must save a second; packets that lie here are read much faster."""


class Verdict(Enum):
    """What to do with one packet."""

    DECODE = "decode"
    SKIP = "skip"  # do not decode it
    JOIN = "join"  # a key frame after skipped packets: forget the decoder's state, then decode
    ANCHOR = "anchor"  # the same; and the lag lies before this device, so the best case has moved


class LagGuard:
    """Skips packets up to a key frame where decoding cannot keep up.

    Skipping that saves nothing shows that packets do not lie here but come late: the camera's
    clock or the network has become slower, and what was the best case has moved.

    State: since when it lags or skips, with which lag, when a packet was last waited for.

    Args:
        max_lag_s: more lag than this is too much, seconds.
    """

    def __init__(self, max_lag_s: float) -> None:
        self._max_lag_s = max_lag_s
        self.reset()

    def reset(self) -> None:
        """Forget everything, as on a new connection."""
        self._lags_since_s: float | None = None
        self._skips_since_s: float | None = None
        self._lag_before_s = 0.0
        self._waited_at_s: float | None = None

    def step(
        self, arrived_s: float, waited_s: float, lag_s: float | None, is_key_frame: bool
    ) -> Verdict:
        """Judge the next packet.

        Args:
            arrived_s: when it came, seconds of a monotonic clock.
            waited_s: how long reading it took, seconds.
            lag_s: its lag, seconds; None where it has no time stamp: then as long as no packet had
                to be waited for counts as lag, since so long there was always one more.
            is_key_frame: it can be decoded without those before it.
        """
        if self._waited_at_s is None or waited_s >= WAITED_S:
            self._waited_at_s = arrived_s
        if lag_s is None:
            lag_s = arrived_s - self._waited_at_s
        is_late = lag_s > self._max_lag_s
        if self._skips_since_s is not None:
            return self._skipping(arrived_s, lag_s, is_late, is_key_frame)
        if not is_late:
            self._lags_since_s = None
            return Verdict.DECODE
        if self._lags_since_s is None:
            self._lags_since_s = arrived_s
        if arrived_s - self._lags_since_s <= CATCH_UP_S:
            return Verdict.DECODE
        self._skips_since_s, self._lag_before_s = arrived_s, lag_s
        return Verdict.SKIP

    def _skipping(
        self, arrived_s: float, lag_s: float, is_late: bool, is_key_frame: bool
    ) -> Verdict:
        assert self._skips_since_s is not None
        skipped_for_s = arrived_s - self._skips_since_s
        gain_s = self._lag_before_s - lag_s
        is_vain = skipped_for_s > CATCH_UP_S and gain_s < LEAST_GAIN * skipped_for_s
        if not is_key_frame or (is_late and not is_vain):
            return Verdict.SKIP
        self._lags_since_s = self._skips_since_s = None
        if not is_late:
            return Verdict.JOIN
        self._waited_at_s = arrived_s
        return Verdict.ANCHOR
