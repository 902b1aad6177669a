"""When a gate last spoke, as it reads it: how long ago, on a bounded logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .values import Float32

LONGEST_S = 120.0
"""Beyond it a silence is as if the gate had never spoken."""
NEVER = 1.0
"""What a gate reads that has not spoken yet."""


def spoken_of(since_s: NDArray[np.float64] | float) -> Float32:
    """What a gate reads of a silence: log1p(s) / log1p(120) of its seconds, at most 120.

    Args:
        since_s: of any shape, since the gate last spoke, seconds; inf where it never has.

    Returns:
        Of the same shape, in [0, 1].
    """
    bounded = np.clip(np.asarray(since_s, np.float64), 0.0, LONGEST_S)
    return np.asarray(np.log1p(bounded) / np.log1p(LONGEST_S), np.float32)


def spoken_along(
    times_s: Sequence[float] | NDArray[np.float64], speaks: NDArray[np.bool_]
) -> Float32:
    """What a gate reads along a stream in which it is known when it spoke.

    Args:
        times_s: (T,) of the frames, rising, seconds.
        speaks: (T,) the gate speaks at this frame, and knows of it from the next one on.

    Returns:
        (T,) as `LastSpoke` has it frame by frame.
    """
    times = np.asarray(times_s, np.float64)
    before = np.concatenate([[-np.inf], np.where(speaks, times, -np.inf)])[: len(times)]
    return spoken_of(times - np.maximum.accumulate(before))


@dataclass(slots=True)
class LastSpoke:
    """When a gate last spoke. State: one time.

    Attributes:
        spoke_s: stream time, seconds; None where it has not spoken yet.
    """

    spoke_s: float | None = None

    def at(self, time_s: float) -> float:
        """What the gate reads at a frame of this time, in [0, 1]."""
        return NEVER if self.spoke_s is None else float(spoken_of(time_s - self.spoke_s))

    def step(self, time_s: float, *, speaks: bool) -> None:
        """A frame of this time was decided on."""
        if speaks:
            self.spoke_s = time_s
