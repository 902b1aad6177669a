"""Rotary positions: by which angle each pair of a key's numbers is turned at a position.

The first half of a head pairs with the second (Llama, Qwen2, Mistral). With mRoPE a position has
three numbers (time, height, width), and each pair of the head listens to one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .manifest import Positions
from .values import Float32


class Rotary:
    """The angles of one decoder.

    Args:
        positions: axes, base and mRoPE sections; its key `interleaved` (in `extra`) says that the
            axes take turns (Qwen3-VL) instead of standing in sections (Qwen2.5-VL).
        head_dim: even.

    Attributes:
        axes: numbers of a position.
        frequencies: (head_dim / 2,) float64, radians a position.
        axis_of_pair: (head_dim / 2,) int64, which number of a position turns the pair.

    Raises:
        ValueError: head_dim is odd, or the sections do not add up to its half.
    """

    def __init__(self, positions: Positions, head_dim: int) -> None:
        if head_dim % 2:
            raise ValueError(f"got heads of {head_dim} numbers, expected an even size")
        half = head_dim // 2
        self.axes = positions.axes
        self.frequencies: NDArray[np.float64] = positions.theta ** (-np.arange(half) / half)
        self.axis_of_pair = _axis_of_pair(positions, half)

    def tables(self, shift: NDArray[np.int64]) -> tuple[Float32, Float32]:
        """Cosine and sine of the angles of some positions or differences of positions.

        Args:
            shift: (axes, count).

        Returns:
            (count, head_dim / 2) each; the angles are computed in float64.
        """
        # In rows that lie in one piece, as an engine wants them.
        angles = np.multiply(shift[self.axis_of_pair].T, self.frequencies, order="C")
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _axis_of_pair(positions: Positions, half: int) -> NDArray[np.int64]:
    if positions.axes == 1:
        return np.zeros(half, np.int64)
    sections = positions.sections or ()
    if len(sections) != positions.axes or sum(sections) != half:
        raise ValueError(
            f"got the mRoPE sections {list(sections)}, expected {positions.axes} that add up to "
            f"{half}, half of a head"
        )
    axes = np.arange(positions.axes)
    if not positions.extra.get("interleaved", False):
        return np.repeat(axes, sections)
    axis_of_pair = np.zeros(half, np.int64)
    for axis in axes[1:]:
        axis_of_pair[axis : positions.axes * sections[axis] : positions.axes] = axis
    return axis_of_pair
