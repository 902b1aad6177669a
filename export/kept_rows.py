"""What a scheme keeps of a decoder's matrix, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ..models.decoder_weights import DecoderWeights
from ..quant.numerics import (
    Blocks,
    dequantize_blocks,
    quantize_int4_blocks,
    quantize_int8_blocks,
)
from ..quant.packing import packed_blocks
from ..quant.schemes import Scheme
from ..quant.stored import bits_of
from ..runtime.values import Float32

PORTION = 1 << 24
"""Weights that are read and quantized at once."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptRows:
    """Rows of a matrix, before and after.

    Attributes:
        rows: which.
        original: (rows, in) float32.
        blocks: codes and scales; None where they are kept as they are.
        scheme: how they are kept.
    """

    rows: slice
    original: Float32
    blocks: Blocks | None
    scheme: Scheme

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        """What the graph gets: packed codes (rows, blocks, bytes) uint8 and scales (rows, blocks)
        float32; the rows themselves where they are kept as they are."""
        if self.blocks is None or self.scheme.block is None:
            return (self.original,)
        packed = packed_blocks(self.blocks.codes, self.scheme.block, bits_of(self.scheme))
        return packed, self.blocks.scales

    @property
    def kept(self) -> Float32:
        """What the engine multiplies with, (rows, in) float32."""
        if self.blocks is None or self.scheme.block is None:
            return self.original
        return dequantize_blocks(self.blocks, self.scheme.block)


def kept_rows(
    weights: DecoderWeights, parameter: str, scheme: Scheme, portion: int = PORTION
) -> Iterator[KeptRows]:
    """One matrix as a scheme keeps it.

    Args:
        weights: of the decoder.
        parameter: canonical name.
        scheme: float32, or int8 or int4 in blocks.
        portion: weights that are taken at once.

    Raises:
        WeightsInvalid: a weight is NaN or infinite.
    """
    quantize = quantize_int4_blocks if scheme.weights == "int4" else quantize_int8_blocks
    height, width = weights.shape.parameters()[parameter]
    step = max(1, portion // width)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        original = weights.tensor(parameter, rows)
        blocks = None
        if scheme.block is not None:
            blocks = quantize(original, scheme.block, parameter)
        yield KeptRows(rows, original, blocks, scheme)
