"""How the codes of blocks lie in memory: the layout of onnxruntime's MatMulNBits.

(out, blocks, block · bits / 8) uint8: two 4-bit codes in a byte, the first one in the low half;
one 8-bit code in a byte. A short last block is filled up; the fill takes part in no product, and
is zero here. Upstream also leaves zero bytes there, except for the high half beside the last code
of a row of odd length, which it leaves at whatever it was.

Source: onnxruntime/core/mlas/lib/q4_dq.cpp (`BlockwiseQuantizer::quantizeAndTranspose`), the
operator com.microsoft.MatMulNBits in docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numerics import Bits


def packed_blocks(codes: NDArray[Any], block: int, bits: Bits = 4) -> NDArray[np.uint8]:
    """The bytes of a MatMulNBits weight.

    Args:
        codes: (out, in) whole numbers in [0, 2 ** bits).
        block: codes that share a scale, an even number.
        bits: of a code.

    Returns:
        (out, blocks, block · bits / 8) uint8.
    """
    if codes.ndim != 2 or block < 2 or block % 2:
        raise ValueError(f"packing needs codes (out, in), got {codes.shape}, block {block}")
    if codes.size and (codes.min() < 0 or codes.max() >= 1 << bits):
        raise ValueError(f"codes of {bits} bits go to {codes.min()} .. {codes.max()}")
    filled = np.pad(codes.astype(np.uint8), ((0, 0), (0, -codes.shape[1] % block)))
    if bits == 4:
        filled = np.bitwise_or(filled[:, 0::2], filled[:, 1::2] << 4, dtype=np.uint8)
    return filled.reshape(len(codes), -1, block * bits // 8)


def codes_from_packed(packed: NDArray[np.uint8], in_dim: int, bits: Bits = 4) -> NDArray[np.uint8]:
    """The codes (out, in) uint8 of the bytes of a MatMulNBits weight.

    Args:
        packed: (out, blocks, block · bits / 8) uint8.
        in_dim: how many codes of each row are meant; the fill behind them is dropped.
        bits: of a code.
    """
    if packed.ndim != 3 or packed.dtype != np.uint8:
        raise ValueError(f"packed codes are (out, blocks, bytes) uint8, got {packed.shape}")
    rows = packed.reshape(len(packed), -1)
    if bits == 4:
        rows = np.stack([rows & 15, rows >> 4], axis=-1).reshape(len(packed), -1)
    if not rows.shape[1] >= in_dim > rows.shape[1] - packed.shape[2] * 8 // bits:
        raise ValueError(f"{rows.shape[1]} packed codes a row, for a row of {in_dim}")
    return np.ascontiguousarray(rows[:, :in_dim])
