"""The schemes written as loops, straight from their definitions, one number at a time."""

from __future__ import annotations

import math

import numpy as np

F = np.float32


def to_nearest_upwards(value: float) -> int:
    """Ties go up: 2.5 is 3, -2.5 is -2 (which is cut to 0 anyway)."""
    return math.floor(value + 0.5)  # in float64, where no float32 is rounded by the sum


def int8_per_channel(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of (channels, weights)."""
    codes, scales = np.zeros(rows.shape, np.int8), np.zeros(len(rows), np.float32)
    for i, row in enumerate(rows):
        scale = 2.0 * max(abs(float(weight)) for weight in row) / 254.0
        scales[i] = 1.0 if scale < 2.0**-126 else scale
        for j, weight in enumerate(row):
            codes[i, j] = max(-128, min(127, round(float(weight / scales[i]))))  # ties to even
    return codes, scales


def blocks(weights: np.ndarray, block: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of (out, in), a scale per block."""
    zero, top = 1 << (bits - 1), (1 << bits) - 1
    out_dim, in_dim = weights.shape
    codes = np.zeros(weights.shape, np.uint8)
    scales = np.zeros((out_dim, math.ceil(in_dim / block)), np.float32)
    for i in range(out_dim):
        for b in range(scales.shape[1]):
            members = range(b * block, min((b + 1) * block, in_dim))
            peak = weights[i, members[0]]
            for j in members:
                is_larger = abs(weights[i, j]) > abs(peak)
                if is_larger or (weights[i, j] == -abs(peak) and peak > 0):
                    peak = weights[i, j]
            scale = scales[i, b] = -peak / F(zero)
            with np.errstate(over="ignore", invalid="ignore"):
                inverse = F(1) / scale if scale else F(0)
                for j in members:
                    fitted = weights[i, j] * inverse + F(zero)
                    if math.isnan(fitted):
                        codes[i, j] = 0
                    else:
                        cut = max(0.0, min(float(top), float(fitted)))
                        codes[i, j] = min(top, to_nearest_upwards(cut))
    return codes, scales
