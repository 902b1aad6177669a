"""Codes of 4 bits that are chosen by what a layer reads: GPTQ, as pure arithmetic.

The columns of a matrix are rounded one after another, and what each rounding costs is taken up by
the columns that are still to come, as far as the layer's inputs go together. Scales are those of
rounding to the nearest (`numerics.py`), so the bytes are the same kind and the engine the same.

Source: Frantar et al., "GPTQ", arXiv 2210.17323, algorithm 1, with its dampening of 1 %.
Differs: scales are of the original weights, not of the updated ones, and columns keep their order,
so that the operator needs no table of columns; all sums are float64.

A proof on another machine: the inputs of a layer come out of float32 products, whose last digits
differ between processors; one code at a tie would change all that come after it. So stored codes
are not made again and compared: `misfits` follows the algorithm *with the stored codes* and counts
those that are not the nearest to what it asks for at their place. A code that was changed is found
there, and by what it does to its row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import WeightsInvalid
from .numerics import Blocks, quantize_int4_blocks

Float64: TypeAlias = NDArray[np.float64]

DAMPENING = 0.01
"""Share of the mean square input that is added to each: inputs that hardly vary stay invertible."""
PANEL = 64
"""Columns whose error is collected before the columns behind them are updated, for speed."""
SLACK = 0.02
"""Of a step, beyond half a step: what float32 inputs of another processor may move a weight."""


def quantize_int4_gptq(
    weights: NDArray[np.floating], block: int, hessian: Float64, name: str = "weights"
) -> Blocks:
    """The 4-bit codes that lose least of what a layer says, and the scales of a MatMulNBits.

    Args:
        weights: (out, in), as PyTorch keeps them; blocks run along `in`, the last may be short.
        block: weights that share a scale.
        hessian: (in, in), mean of x·xᵀ over what the layer reads; its scale does not matter.
        name: of the tensor, for errors.

    Raises:
        WeightsInvalid: NaN or infinity in weights or inputs.

    Cost: that of inverting `hessian` and of one product with it: 0.1 s for 576 x 1536 on one core.
    """
    nearest = quantize_int4_blocks(weights, block, name)
    codes = np.empty(nearest.codes.shape, np.uint8)

    def choose(column: int, wanted: Float64) -> Float64:
        codes[:, column] = chosen = np.clip(np.floor(wanted + 0.5), 0, 15)
        return chosen

    _follow(weights, nearest, block, hessian, choose, name)
    return Blocks(codes, nearest.scales, nearest.zero_point)


def misfits(
    weights: NDArray[np.floating],
    block: int,
    hessian: Float64,
    stored: Blocks,
    name: str = "weights",
) -> int:
    """How many stored codes are not what GPTQ asks for, given the stored codes before them.

    Args:
        weights, block, hessian, name: as for `quantize_int4_gptq`.
        stored: codes and scales of a file.
    """
    found = 0

    def compare(column: int, wanted: Float64) -> Float64:
        nonlocal found
        kept = stored.codes[:, column].astype(np.float64)
        found += int((np.abs(np.clip(wanted, 0, 15) - kept) > 0.5 + SLACK).sum())
        return kept

    _follow(weights, stored, block, hessian, compare, name)
    return found


def weighted_error(
    original: NDArray[np.floating], approximation: NDArray[np.floating], hessian: Float64
) -> float:
    """Mean square of what a layer says wrongly: trace of E·H·Eᵀ, E being the weights' error."""
    error = approximation.astype(np.float64) - original.astype(np.float64)
    return float(np.einsum("oi,oi->", error @ hessian, error))


def _follow(
    weights: NDArray[np.floating],
    scaled: Blocks,
    block: int,
    hessian: Float64,
    choose: Callable[[int, Float64], Float64],
    name: str,
) -> None:
    """Column by column: `choose` is told the codes that are wanted, unrounded, and gives codes."""
    factor = _factor(hessian, weights.shape[1], name)
    left = weights.astype(np.float64)
    scales, zero_point = scaled.scales.astype(np.float64), scaled.zero_point
    with np.errstate(divide="ignore"):
        inverse = np.where(scales == 0, 0.0, 1.0 / scales)
    for first in range(0, left.shape[1], PANEL):
        last = min(first + PANEL, left.shape[1])
        panel = left[:, first:last]
        errors = np.empty_like(panel)
        for at in range(last - first):
            group = (first + at) // block
            codes = choose(first + at, panel[:, at] * inverse[:, group] + zero_point)
            error = panel[:, at] - (codes - zero_point) * scales[:, group]
            errors[:, at] = error / factor[first + at, first + at]
            panel[:, at:] -= np.outer(errors[:, at], factor[first + at, first + at : last])
        left[:, last:] -= errors @ factor[first:last, last:]


def _factor(hessian: Float64, columns: int, name: str) -> Float64:
    """U, upper triangular, with Uᵀ·U the inverse of the dampened Hessian."""
    if hessian.shape != (columns, columns):
        raise ValueError(f"{name}: got a Hessian {hessian.shape} for rows of {columns}")
    if not np.isfinite(hessian).all():
        raise WeightsInvalid(f"{name}: what the layer reads in calibration is not finite")
    dampened = hessian.astype(np.float64)
    diagonal = np.einsum("ii->i", dampened)  # a view
    diagonal[diagonal <= 0] = 1.0  # never anything but zero: no error matters, none is passed on
    diagonal += DAMPENING * diagonal.mean()
    return np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(dampened)).T)
