"""Positions of tokens for decoders that count on several axes (mRoPE: time, height, width).

Text goes on by one on every axis. A frame that begins at b lies there as the picture that it is:
its tokens, row by row, have the positions (b, b + row, b + column). What follows begins at one more
than the greatest of them.

Source: Qwen2-VL (arXiv 2409.12191), section 2.1, images; `get_rope_index` of transformers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InputMismatch

Int64 = NDArray[np.int64]
Grid: TypeAlias = "tuple[int, int]"
AXES = 3


def halved(grid: Grid) -> Grid:
    """Rows and columns after neighbours along the longer side have become one; half, rounded up."""
    rows, columns = grid
    return (rows, -(-columns // 2)) if columns >= rows else (-(-rows // 2), columns)


def grid_of(count: int, grid: Grid) -> Grid:
    """Rows and columns of a frame of which so many tokens are left.

    Args:
        count: tokens.
        grid: of a whole frame.

    Raises:
        InputMismatch: a frame is never of so many tokens.
    """
    left = grid
    while left[0] * left[1] > max(count, 1):
        left = halved(left)
    if left[0] * left[1] != count:
        raise InputMismatch(
            f"got a frame of {count} tokens, expected {grid[0]} x {grid[1]}, or these halved"
        )
    return left


def positions_of(parts: Iterable[tuple[int, bool]], grid: Grid, first: int = 0) -> Int64:
    """Positions [3, tokens] of texts and frames that follow each other.

    Args:
        parts: (tokens, whether it is a frame) of each.
        grid: of a whole frame.
        first: where they begin.

    Raises:
        InputMismatch: as `grid_of`.
    """
    found = [np.zeros((AXES, 0), np.int64)]
    for count, is_frame in parts:
        if is_frame:
            rows, columns = grid_of(count, grid)
            height, width = np.divmod(np.arange(count), columns)
            found.append(first + np.stack([np.zeros_like(height), height, width]))
            first += max(rows, columns)
        else:
            found.append(np.broadcast_to(first + np.arange(count), (AXES, count)))
            first += count
    return np.concatenate(found, axis=1)
