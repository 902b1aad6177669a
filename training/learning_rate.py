"""The learning rate of a stage: up in a few steps, then down along a cosine."""

from __future__ import annotations

import math

LEAST = 0.01
"""Share of the rate that is left at the end, so that the last steps are not for nothing."""


def rate_at(rate: float, step: int, progress: float, warm_up_steps: int) -> float:
    """The learning rate of one step.

    Args:
        rate: the highest.
        step: 0 for the first.
        progress: share of the stage that is done; what is beyond 1 counts as 1.
        warm_up_steps: over which it rises in equal parts.
    """
    rising = min(1.0, (step + 1) / max(1, warm_up_steps))
    falling = 0.5 + 0.5 * math.cos(math.pi * min(max(progress, 0.0), 1.0))
    return rate * rising * (falling * (1.0 - LEAST) + LEAST)
