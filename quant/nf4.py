"""NF4: 16 levels at the quantiles of a normal distribution, with the largest weight of each block.

The layout of onnxruntime's MatMulBnb4 and, bit by bit, of `bitsandbytes.functional.quantize_4bit`
with `quant_type="nf4"` and plain statistics: the rows of (out, in) one after another, cut into
blocks; two codes in a byte, the first one in the high half.

Source: Dettmers et al., "QLoRA", arXiv 2305.14314, appendix E; bitsandbytes csrc/kernels.cu
(`dQuantizeNF4`), onnxruntime/core/mlas/../blockwise_quant_block_bnb4.h.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .numerics import PORTION, Float32, float32_weights

LEVELS = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
# As upstream writes them: halfway between two levels, rounded otherwise than float32 would.
BORDERS = np.array(
    [
        -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544,
        -0.23460740596055984, -0.13791173323988914, -0.045525018125772476, 0.03979014977812767,
        0.1202552504837513, 0.2035212516784668, 0.2920137718319893, 0.3893125355243683,
        0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
    ],
    np.float32,
)  # fmt: skip


class Nf4(NamedTuple):
    """A matrix in NF4.

    Attributes:
        packed: (out · in / 2,) uint8.
        peaks: (blocks,) float32, the largest magnitude of each block.
    """

    packed: NDArray[np.uint8]
    peaks: Float32


def quantize_nf4(weights: NDArray[Any], block: int, name: str = "weights") -> Nf4:
    """The bytes and scales of an onnxruntime MatMulBnb4.

    Args:
        weights: (out, in), as PyTorch keeps them.
        block: weights that share a scale, in the order of rows; they must fill whole blocks.
        name: of the tensor, for errors.

    Raises:
        ValueError: rows do not fill whole blocks, which upstream reads wrongly on a CPU.
        WeightsInvalid: see `float32_weights`.
    """
    given = float32_weights(weights, name)
    if given.ndim != 2 or given.shape[1] % block:
        raise ValueError(f"NF4 needs rows of whole blocks of {block}, got {given.shape}")
    blocks = given.reshape(-1, block)
    peaks = np.abs(blocks).max(axis=1)
    codes = np.empty(blocks.shape, np.uint8)
    many = max(1, PORTION // block)
    for part in (slice(at, at + many) for at in range(0, len(blocks), many)):
        with np.errstate(divide="ignore"):
            inverse = np.where(peaks[part] == 0, np.float32(0), np.float32(1) / peaks[part])
        scaled = blocks[part] * inverse[:, None]
        codes[part] = np.searchsorted(BORDERS, scaled)
    flat = codes.reshape(-1)
    return Nf4(np.bitwise_or(flat[0::2] << 4, flat[1::2], dtype=np.uint8), peaks)


def dequantize_nf4(quantized: Nf4, block: int, shape: tuple[int, int]) -> Float32:
    """The weights that the codes stand for: level · peak, (out, in) float32."""
    packed, peaks = quantized
    codes = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1, block)
    return (LEVELS[codes] * peaks[:, None]).astype(np.float32).reshape(shape)
