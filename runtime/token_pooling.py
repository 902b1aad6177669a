"""Fewer tokens of a frame for the language model: neighbours become their mean."""

from __future__ import annotations

import numpy as np

from .frame_positions import Grid, grid_of, halved
from .values import Float32


def pooled(embeds: Float32, share: float, grid: Grid | None = None) -> Float32:
    """The embeds with about that share of their rows; each row is the mean of its neighbours.

    Pairs are averaged once for a half, twice for a quarter; an odd last one stays as it is. Where
    the tokens lie in a grid they are neighbours along its longer side, so that what is left is the
    grid of a smaller picture.

    Args:
        embeds: (tokens, hidden) float32, in a grid row by row.
        share: 1 for the very array, 0.5, 0.25, …; what lies between is as the next larger one.
        grid: rows and columns of a whole frame; None for tokens in one row.

    Returns:
        (tokens', hidden) float32, one row at least where there was one.

    Raises:
        InputMismatch: the embeds are not of such a grid.
    """
    if share > 0.5 or len(embeds) < 2:
        return embeds
    left = (1, len(embeds)) if grid is None else grid_of(len(embeds), grid)
    while share <= 0.5 and len(embeds) > 1:
        before, left = left, halved(left)
        axis = 1 if left[0] == before[0] else 0
        embeds = _halved(embeds.reshape(*before, -1), axis).reshape(left[0] * left[1], -1)
        share *= 2
    return embeds


def _halved(picture: Float32, axis: int) -> Float32:
    """Pairs along one side of (rows, columns, hidden) averaged; an odd last one stays."""
    lines = np.moveaxis(picture, axis, 0)
    even = len(lines) - len(lines) % 2
    pairs = lines[:even].reshape(even // 2, 2, *lines.shape[1:]).mean(axis=1, dtype=np.float32)
    return np.moveaxis(np.concatenate([pairs, lines[even:]]), 0, axis)
