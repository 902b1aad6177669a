"""Which frames of a source are looked at: the first one at or after each point of an even grid."""

from __future__ import annotations

import math

# Matroska and FLV round times to 1 ms, once at the first frame and once at each later one: without
# this allowance a 30 fps Matroska file sampled at 30 fps would lose a third of its frames.
TIME_ROUNDING_S = 0.001


class Sampler:
    """Takes the first frame at or after each grid point k / fps.

    The grid hangs on stream time 0, so errors do not add up. A gap skips its grid points: nothing
    is taken twice. A source slower than `fps` gives every frame.

    Args:
        fps: grid points per second of stream time; finite, more than 0.
    """

    def __init__(self, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be finite and more than 0, got {fps}")
        self._fps = fps
        self._next_point = 0

    def reset(self) -> None:
        """Start again at the first grid point."""
        self._next_point = 0

    def takes(self, time_s: float) -> bool:
        """Whether this frame is sampled; asked once per frame, in order.

        Args:
            time_s: stream time of the frame, seconds; 0 or more, not less than the last one.
        """
        point = math.floor((time_s + TIME_ROUNDING_S) * self._fps)
        if point < self._next_point:
            return False
        self._next_point = point + 1
        return True
