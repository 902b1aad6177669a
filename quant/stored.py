"""A matrix as its operator takes it, by scheme: one pure function in, one out, for every writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .gptq import Float64, misfits, quantize_int4_gptq, weighted_error
from .nf4 import Nf4, dequantize_nf4, quantize_nf4
from .numerics import (
    Bits,
    Blocks,
    Float32,
    dequantize_blocks,
    quantize_int4_blocks,
    quantize_int8_blocks,
)
from .packing import codes_from_packed, packed_blocks
from .schemes import Scheme


class Stored(NamedTuple):
    """A matrix in a file.

    Attributes:
        codes: bytes; MatMulNBits: (out, blocks, block · bits / 8), MatMulBnb4: (out · in / 2,).
        scales: MatMulNBits: (out, blocks) float32, MatMulBnb4: (blocks,) float32.
    """

    codes: NDArray[np.uint8]
    scales: Float32


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator of com.microsoft that multiplies by a stored matrix, and its words.

    Attributes:
        op_type: of the node.
        suffixes: of the names of codes, scales, and of the node, behind those of the float matrix.
        attributes: but for K and N, which are in and out.
    """

    op_type: str
    suffixes: tuple[str, str, str]
    attributes: tuple[tuple[str, int], ...]


# Of MatMulNBits: int8 as far as the processor has products of it; or float32, as they come.
ACCURACY_LEVELS = {"int8": 4, "float32": 1}
NF4_TYPE = 1


def operator_of(scheme: Scheme) -> Operator:
    """What runs a matrix of a scheme with blocks; ValueError for one without."""
    if scheme.block is None:
        raise ValueError(f"{scheme.name} has no blocks, and no operator that takes them")
    if scheme.weights == "nf4":
        return Operator(
            "MatMulBnb4",
            ("_Bnb4", "_absmax", "_Bnb4"),
            (("block_size", scheme.block), ("quant_type", NF4_TYPE)),
        )
    bits = bits_of(scheme)
    level = ACCURACY_LEVELS[scheme.activations]
    words = (("accuracy_level", level), ("bits", bits), ("block_size", scheme.block))
    return Operator("MatMulNBits", (f"_Q{bits}", "_scales", f"_Q{bits}"), words)


def bits_of(scheme: Scheme) -> Bits:
    """Of a code of int4 or int8."""
    return 4 if scheme.weights == "int4" else 8


def quantized_matrix(
    weights: NDArray[Any], scheme: Scheme, hessian: Float64 | None = None, name: str = "weights"
) -> Stored:
    """What a file holds of a matrix.

    Rows do not depend on each other: packed projections may be quantized one by one and joined.

    Args:
        weights: (out, in), as PyTorch keeps them.
        scheme: with blocks.
        hessian: (in, in), mean of x·xᵀ of what the layer reads; for a data-aware scheme.
        name: of the tensor, for errors.

    Raises:
        ValueError: a data-aware scheme without a Hessian, or a scheme without blocks.
        WeightsInvalid: see `numerics.float32_weights`.
    """
    block = _block(scheme)
    if scheme.weights == "nf4":
        return Stored(*quantize_nf4(weights, block, name))
    if scheme.method == "gptq":
        if hessian is None:
            raise ValueError(f"{name}: {scheme.name} needs what the layer reads in calibration")
        blocks = quantize_int4_gptq(weights, block, hessian, name)
    elif scheme.weights == "int4":
        blocks = quantize_int4_blocks(weights, block, name)
    else:
        blocks = quantize_int8_blocks(weights, block, name)
    return Stored(packed_blocks(blocks.codes, block, bits_of(scheme)), blocks.scales)


def restored_matrix(stored: Stored, scheme: Scheme, shape: tuple[int, int]) -> Float32:
    """What the engine multiplies with, (out, in) float32."""
    block = _block(scheme)
    if scheme.weights == "nf4":
        return dequantize_nf4(Nf4(*stored), block, shape)
    return dequantize_blocks(_blocks(stored, scheme, shape[1]), block)


def differing(
    stored: Stored,
    weights: NDArray[Any],
    scheme: Scheme,
    hessian: Float64 | None = None,
    name: str = "weights",
) -> int:
    """How many stored numbers are not what our own arithmetic makes of the original.

    Of a data-aware scheme the scales must be equal, and each code the one that is asked for after
    the codes before it (see `gptq.misfits`).
    """
    if scheme.method == "nearest":
        made = quantized_matrix(weights, scheme, name=name)
        return unequal(stored.codes, made.codes) + unequal(stored.scales, made.scales)
    if hessian is None:
        raise ValueError(f"{name}: {scheme.name} needs what the layer reads in calibration")
    block = _block(scheme)
    scales = quantize_int4_blocks(weights, block, name).scales
    if wrong := unequal(stored.scales, scales):
        return wrong
    blocks = _blocks(stored, scheme, weights.shape[1])
    if wrong := unequal(stored.codes, packed_blocks(blocks.codes, block, bits_of(scheme))):
        return wrong  # in the fill behind a short block
    return misfits(weights, block, hessian, blocks, name)


def gain_db(weights: NDArray[Any], restored: Float32, scheme: Scheme, hessian: Float64) -> float:
    """How much less than rounding to the nearest a data-aware matrix loses of its outputs, dB."""
    block = _block(scheme)
    rounded = dequantize_blocks(quantize_int4_blocks(weights, block), block)
    ours, theirs = (weighted_error(weights, one, hessian) for one in (restored, rounded))
    if theirs == 0:
        return 0.0 if ours == 0 else float("-inf")
    return float("inf") if ours == 0 else float(10 * np.log10(theirs / ours))


def joined(parts: Sequence[Stored]) -> Stored:
    """The rows of several matrices, one after another."""
    codes, scales = zip(*parts, strict=True)
    return Stored(np.concatenate(codes), np.concatenate(scales))


def rows_of(stored: Stored, first: int, last: int, rows: int) -> Stored:
    """Rows `first` to `last` of `rows` that are joined."""
    return Stored(*(_share(array, first, last, rows) for array in stored))


def unequal(one: NDArray[Any], other: NDArray[Any]) -> int:
    """Elements that differ; all of the larger one where the shapes do."""
    if one.shape != other.shape:
        return max(one.size, other.size)
    return int((one != other).sum())


def _share(array: NDArray[Any], first: int, last: int, rows: int) -> NDArray[Any]:
    each = len(array) // rows
    return array[first * each : last * each]


def _blocks(stored: Stored, scheme: Scheme, in_dim: int) -> Blocks:
    bits = bits_of(scheme)
    return Blocks(codes_from_packed(stored.codes, in_dim, bits), stored.scales, 1 << (bits - 1))


def _block(scheme: Scheme) -> int:
    if scheme.block is None:
        raise ValueError(f"{scheme.name} stores no blocks")
    return scheme.block
