"""Fewer tokens of a frame for the language model: neighbours in a row become their mean."""

from __future__ import annotations

import numpy as np

from .values import Float32


def pooled(embeds: Float32, share: float) -> Float32:
    """The embeds with about that share of their rows; each row is the mean of its neighbours.

    Pairs are averaged once for a half, twice for a quarter; an odd last row stays as it is.

    Args:
        embeds: (tokens, hidden) float32.
        share: 1 for the very array, 0.5, 0.25, …; what lies between is as the next larger one.

    Returns:
        (tokens', hidden) float32, one row at least where there was one.
    """
    while share <= 0.5 and len(embeds) > 1:
        even = len(embeds) - len(embeds) % 2
        pairs = embeds[:even].reshape(even // 2, 2, -1).mean(axis=1, dtype=np.float32)
        embeds = np.concatenate([pairs, embeds[even:]])
        share *= 2
    return embeds
