"""What a camera does to a picture: white balance, vignette, noise, bars, JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .backgrounds import F32
from .rules import SIDE_PX, WorldRules

UInt8 = NDArray[np.uint8]
BLOCK = 8
SHOULDER, ROLL_OFF = 170.0, 110.0
"""Grey levels from which highlights roll off, and how fast."""
# The tables of the JPEG standard, annex K, at quality 50.
LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMA = np.full((BLOCK, BLOCK), 99, np.float32)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32
)
FROM_YCC = np.linalg.inv(TO_YCC).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """How the camera of one clip sees.

    Attributes:
        gain: (3,) float32, white balance.
        vignette: (112, 112, 1) float32 or None.
        noise: standard deviation, grey levels.
        jpeg: quality, 0 for none.
        stamp: (y, x) of a faint inscription, px; None without one.
        is_soft: the lens is not sharp.
    """

    gain: F32
    vignette: F32 | None
    noise: float
    jpeg: int
    stamp: tuple[int, int] | None
    is_soft: bool


def sensor_of(rng: np.random.Generator, rules: WorldRules) -> Sensor:
    """A camera at random."""
    vignette = None
    if rng.random() < 0.25:
        at = np.linspace(-1, 1, SIDE_PX, dtype=np.float32)
        fall = rng.uniform(0.05, 0.25) * (at[:, None] ** 2 + at[None] ** 2)
        vignette = np.asarray(1 - fall, np.float32)[..., None]
    stamp = None
    if rng.random() < 0.1:
        y, x = rng.integers(4, (SIDE_PX - 10, SIDE_PX - 34))
        stamp = (int(y), int(x))
    return Sensor(
        gain=(1 + (rng.random(3) - 0.5) * 0.14).astype(np.float32),
        vignette=vignette,
        noise=float(rng.uniform(0.5, 8.0)) if rng.random() < rules.noisy else 0.0,
        jpeg=int(rng.integers(15, 75)) if rng.random() < rules.jpeg else 0,
        stamp=stamp,
        is_soft=bool(rng.random() < 0.15),
    )


@lru_cache(maxsize=1)
def grain() -> NDArray[np.float32]:
    """(224, 224, 3) float32 normal noise; a frame takes a piece of it."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((2 * SIDE_PX, 2 * SIDE_PX, 3)).astype(np.float32)


@lru_cache(maxsize=1)
def inscription() -> NDArray[np.bool_]:
    """(6, 28, 1) bool: what a date in the corner looks like from afar."""
    return np.random.default_rng(5).random((6, 28, 1)) > 0.5


def taken(picture: F32, sensor: Sensor, rng: np.random.Generator, gain: float) -> UInt8:
    """The picture as the camera stores it.

    Args:
        picture: (112, 112, 3) float32, [0, 255] at gain 1; it is changed.
        sensor: of the clip.
        rng: for noise.
        gain: of light, fade and exposure.
    """
    if sensor.stamp:
        y, x = sensor.stamp
        picture[y : y + 6, x : x + 28] += inscription() * np.float32(60 / max(gain, 0.2))
    picture *= sensor.gain * np.float32(gain)
    if sensor.vignette is not None:
        picture *= sensor.vignette
    if sensor.noise:
        y, x = rng.integers(0, SIDE_PX, 2)
        picture += grain()[y : y + SIDE_PX, x : x + SIDE_PX] * np.float32(sensor.noise)
    if gain > 1.2:
        # Highlights roll off: a camera keeps some of what is too bright.
        over = np.maximum(picture - SHOULDER, 0)
        picture -= over
        picture += (255 - SHOULDER) * (1 - np.exp(over * np.float32(-1 / ROLL_OFF)))
    np.clip(picture, 0, 255, out=picture)
    stored = picture.astype(np.uint8)
    return jpeg_round_trip(stored, sensor.jpeg) if sensor.jpeg else stored


@lru_cache(maxsize=1)
def _cosines() -> F32:
    k = np.arange(BLOCK)
    rows = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * BLOCK)) * 0.5
    rows[0] *= 0.5**0.5
    return rows.astype(np.float32)


@lru_cache(maxsize=128)
def _tables(quality: int) -> tuple[F32, F32]:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return tuple(np.clip(np.floor((t * scale + 50) / 100), 1, 255) for t in (LUMA, CHROMA))  # type: ignore[return-value]


def jpeg_round_trip(picture: UInt8, quality: int) -> UInt8:
    """What JPEG leaves of a picture: blocks quantised, chroma at half the size.

    Args:
        picture: (height, width, 3) uint8 RGB, sides divisible by 16.
        quality: 1 to 99, as in the standard's reference encoder.

    Cost: about 0.5 ms for 112 x 112. No library: the same bytes everywhere and no dependency.
    """
    height, width = picture.shape[:2]
    luma_table, chroma_table = _tables(quality)
    ycc = picture.reshape(-1, 3).astype(np.float32) @ TO_YCC.T
    ycc = ycc.reshape(height, width, 3)
    y = _quantised(ycc[..., 0] - 128, luma_table) + 128
    half = (height // 2, 2, width // 2, 2)
    chroma = [
        _quantised(np.ascontiguousarray(ycc[..., c]).reshape(half).mean((1, 3)), chroma_table)
        for c in (1, 2)
    ]
    whole = np.empty((height, width, 3), np.float32)
    whole[..., 0] = y
    for c, plane in enumerate(chroma, 1):
        whole.reshape(*half, 3)[..., c] = plane[:, None, :, None]
    rgb = whole.reshape(-1, 3) @ FROM_YCC.T
    return np.asarray(np.clip(rgb + 0.5, 0, 255), np.uint8).reshape(height, width, 3)


def _quantised(plane: F32, table: F32) -> F32:
    """A plane after its 8 x 8 blocks went through cosines, the table and back."""
    height, width = plane.shape
    cosines = _cosines()
    blocks = plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))  # (down, across, 8, 8)
    shape = blocks.shape
    # Rows, then columns: one large product each instead of many small ones.
    half = (blocks.reshape(-1, BLOCK) @ cosines.T).reshape(-1, BLOCK, BLOCK).transpose(0, 2, 1)
    whole = np.ascontiguousarray(half).reshape(-1, BLOCK) @ cosines.T
    table_t = table.T
    steps = np.rint(whole.reshape(-1, BLOCK, BLOCK) / table_t) * table_t
    back = (steps.reshape(-1, BLOCK) @ cosines).reshape(-1, BLOCK, BLOCK).transpose(0, 2, 1)
    plain = (np.ascontiguousarray(back).reshape(-1, BLOCK) @ cosines).reshape(shape)
    return np.ascontiguousarray(plain.transpose(0, 2, 1, 3)).reshape(height, width)
