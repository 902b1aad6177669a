"""What each scheme makes of a weight: the reference that every engine must match, bit for bit.

Two forms, both symmetric, float32 in and float32 scales out:

- a scale per channel, int8: `scale = max |w| / 127`, code = w / scale to the nearest, ties to even
  (onnxruntime/python/tools/quantization/quant_utils.py: `compute_scale_zp`, `quantize_nparray`);
- a scale per block of a row, 4 or 8 bits: the weight of the largest magnitude becomes code 0, so
  `scale = -peak / 8` (or 128) may be negative; code = w · (1 / scale) + 8 to the nearest, ties
  upwards, cut to 15 (onnxruntime/core/mlas/lib/q4_dq.cpp: `BlockwiseQuantizer`). Weights of the
  other sign beyond 7.5 / 8 of the peak are cut: the only error larger than half a scale.

All is IEEE float32, each operation rounded by itself. A compiler that fuses the multiply and the
add (arm64) may move a code by one at an exact tie; x86-64 wheels of onnxruntime do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import WeightsInvalid
from .schemes import Scheme

Float32: TypeAlias = NDArray[np.float32]
Bits: TypeAlias = Literal[4, 8]

# Rows are taken in portions of this many weights, so that temporaries stay near 100 MB even for
# the 136 million weights of a language model's head.
PORTION = 1 << 22


class Channels(NamedTuple):
    """A matrix with a scale per channel.

    Attributes:
        codes: the shape of the weights, int8 in [-127, 127].
        scales: (channels,) float32; 1 for a channel of zeros.
    """

    codes: NDArray[np.int8]
    scales: Float32


class Blocks(NamedTuple):
    """A matrix with a scale per block of each row.

    Attributes:
        codes: (out, in) uint8, in [0, 15] for 4 bits and [0, 255] for 8.
        scales: (out, blocks) float32, of either sign; ±0 for a block of zeros.
        zero_point: the code of zero: 8 for 4 bits, 128 for 8.
    """

    codes: NDArray[np.uint8]
    scales: Float32
    zero_point: int


def float32_weights(weights: NDArray[Any], name: str = "weights") -> Float32:
    """The weights as float32, checked; float16 and bfloat16 are converted exactly.

    Raises:
        WeightsInvalid: it holds NaN or infinity, is empty, or is not made of floating numbers.
    """
    if weights.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise WeightsInvalid(f"{name}: got {weights.dtype} {weights.shape}, expected float weights")
    if not weights.size:
        raise WeightsInvalid(f"{name}: got no weights at all, shape {weights.shape}")
    with np.errstate(over="ignore"):  # a float64 too large becomes infinity, and is refused as such
        converted = np.asarray(weights, dtype=np.float32)
    if not np.isfinite(converted).all():
        where = np.argwhere(~np.isfinite(converted))
        first = tuple(int(index) for index in where[0])
        raise WeightsInvalid(
            f"{name}: got {len(where)} of {weights.size} weights that are NaN or infinite, "
            f"the first one ({converted[first]}) at {first}",
            hint="the checkpoint is damaged or its training diverged: take an earlier one",
        )
    return converted


def quantize_int8_per_channel(
    weights: NDArray[Any], axis: int = 0, name: str = "weights"
) -> Channels:
    """The int8 codes and scales that `quantize_dynamic(per_channel=True)` writes.

    Args:
        weights: any shape of one axis or more.
        axis: the one along which each index has its own scale: 0 for a PyTorch (out, in) weight,
            1 for an ONNX MatMul's (in, out).
        name: of the tensor, for errors.

    Raises:
        WeightsInvalid: see `float32_weights`.
    """
    moved = np.moveaxis(float32_weights(weights, name), axis, 0)
    rows = moved.reshape(len(moved), -1)
    codes = np.empty(rows.shape, np.int8)
    scales = np.empty(len(rows), np.float32)
    for part in _portions(rows.shape):
        peaks = np.abs(rows[part]).max(axis=1).astype(np.float64)
        exact = 2 * peaks / 254  # as upstream: the range (-peak, peak) over the 254 steps between
        exact[exact < np.finfo(np.float32).tiny] = 1.0  # and all codes are 0
        scales[part] = exact
        ratio = rows[part] / scales[part, None]
        codes[part] = np.clip(np.round(ratio), -128, 127)
    shaped = np.moveaxis(codes.reshape(moved.shape), 0, axis)
    return Channels(np.ascontiguousarray(shaped), scales)


def dequantize_int8_per_channel(quantized: Channels, axis: int = 0) -> Float32:
    """The weights that the codes stand for: code · scale, in the shape of the codes."""
    codes, scales = quantized
    shape = [1] * codes.ndim
    shape[axis] = -1
    return np.multiply(codes, scales.reshape(shape), dtype=np.float32)


def quantize_int4_blocks(weights: NDArray[Any], block: int, name: str = "weights") -> Blocks:
    """The 4-bit codes and scales of an onnxruntime MatMulNBits.

    Args:
        weights: (out, in), as PyTorch keeps them; blocks run along `in`, the last may be short.
        block: weights that share a scale.
        name: of the tensor, for errors.

    Raises:
        WeightsInvalid: see `float32_weights`.
    """
    return _quantize_blocks(float32_weights(weights, name), block, 4)


def quantize_int8_blocks(weights: NDArray[Any], block: int, name: str = "weights") -> Blocks:
    """The same as `quantize_int4_blocks` with 8 bits: codes in [0, 255], zero point 128."""
    return _quantize_blocks(float32_weights(weights, name), block, 8)


def dequantize_blocks(quantized: Blocks, block: int) -> Float32:
    """The weights that the codes stand for: (code - zero point) · scale, (out, in) float32."""
    codes, scales, zero_point = quantized
    weights = np.empty(codes.shape, np.float32)
    for part in _portions(codes.shape):
        spread = np.repeat(scales[part], block, axis=1)[:, : codes.shape[1]]
        weights[part] = codes[part]
        weights[part] -= np.float32(zero_point)
        weights[part] *= spread
    return weights


def fake_quantized(weights: NDArray[Any], scheme: Scheme, name: str = "weights") -> Float32:
    """What the engine multiplies with: quantized by the scheme and back, (out, in) float32.

    Args:
        weights: (out, in), as PyTorch keeps them.
        scheme: how; `fp32` gives the weights themselves. Codes are the nearest ones, also where
            the scheme would choose them by data.
        name: of the tensor, for errors.

    Raises:
        WeightsInvalid: see `float32_weights`.

    Cost: about 0.1 s for 10 million weights; 2.5 times their float32 bytes, the result included.
    """
    if scheme.weights == "float32":
        return np.array(float32_weights(weights, name))
    if scheme.block is None:
        return dequantize_int8_per_channel(quantize_int8_per_channel(weights, 0, name))
    if scheme.weights == "nf4":
        raise ValueError("NF4 is in nf4.py")
    quantize = quantize_int4_blocks if scheme.weights == "int4" else quantize_int8_blocks
    return dequantize_blocks(quantize(weights, scheme.block, name), scheme.block)


class SignalToNoise:
    """Signal to noise of numbers that come in portions."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, original: NDArray[Any], approximation: NDArray[Any]) -> None:
        """More of both, of one shape."""
        if original.shape != approximation.shape:
            raise ValueError(f"snr_db of shapes {original.shape} and {approximation.shape}")
        flat, near = original.reshape(-1), approximation.reshape(-1)
        for start in range(0, flat.size, PORTION):
            true = flat[start : start + PORTION].astype(np.float64)
            error = near[start : start + PORTION].astype(np.float64) - true
            self._signal += float(true @ true)
            self._noise += float(error @ error)

    @property
    def db(self) -> float:
        """10 · log10(sum of squares / sum of squared differences), dB.

        Infinite where nothing differs; minus infinity where something was made of nothing.
        """
        if self._noise == 0:
            return float("inf")
        return float(10 * np.log10(self._signal / self._noise)) if self._signal else float("-inf")


def snr_db(original: NDArray[Any], approximation: NDArray[Any]) -> float:
    """Signal to noise of a whole array, dB; see `SignalToNoise`."""
    both = SignalToNoise()
    both.add(original, approximation)
    return both.db


def _quantize_blocks(weights: Float32, block: int, bits: Bits) -> Blocks:
    if weights.ndim != 2 or block < 1:
        raise ValueError(f"blocks need a matrix (out, in), got {weights.shape}, block {block}")
    out_dim, in_dim = weights.shape
    padding = -in_dim % block
    zero_point = 1 << (bits - 1)
    codes = np.empty(weights.shape, np.uint8)
    scales = np.empty((out_dim, (in_dim + padding) // block), np.float32)
    for part in _portions(weights.shape):
        padded = np.pad(weights[part], ((0, 0), (0, padding)))  # zeros are never the peak
        blocked = padded.reshape(len(padded), -1, block)
        scales[part] = -_peaks(blocked) / np.float32(zero_point)
        fitted = _codes(blocked, scales[part], zero_point)
        codes[part] = fitted.reshape(padded.shape)[:, :in_dim]
    return Blocks(codes, scales, zero_point)


def _peaks(blocked: Float32) -> Float32:
    """The weight of the largest magnitude of each block; of two equal ones, the negative."""
    least, most = blocked.min(axis=-1), blocked.max(axis=-1)
    peaks = np.where(np.abs(most) > np.abs(least), most, least)
    # Upstream keeps the sign of the first zero of a block of zeros, and so the sign of its scale.
    return np.where(peaks == 0, blocked[..., 0], peaks)


def _codes(blocked: Float32, scales: Float32, zero_point: int) -> Float32:
    """Whole numbers in [0, 2 · zero point), still float32, in place of a copy of the weights."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = np.where(scales == 0, np.float32(0), np.float32(1) / scales)[..., None]
        codes = blocked * inverse
        codes += np.float32(zero_point)
    if not np.isfinite(inverse).all():  # a scale under 3e-39: its inverse is infinite, and
        codes[np.isnan(codes)] = 0  # 0 · infinity is what upstream makes code 0
    np.clip(codes, 0, 2 * zero_point - 1, out=codes)
    whole: Float32 = np.floor(codes)
    whole += codes - whole >= 0.5  # exact, where floor(x + 0.5) would round the sum
    return whole


def _portions(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows of at most `PORTION` weights (one row at least)."""
    rows = max(1, PORTION // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))
