"""A bank of muted places to look at: rooms, walls, landscapes, things out of focus.

All have texture nearly everywhere, so that a camera that turns can be seen turning, and no colour
as strong as that of a thing with a colour name.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stage import WORLD_PX

F32 = NDArray[np.float32]
OCTAVES = (3, 6, 12, 24, 48, 96, 168)
CELL_PX = 28
LEAST_TEXTURE = 0.024
"""Standard deviation of luma, [0, 1], that all but a tenth of the cells have at least."""
BANK = 7_919
"""Mixed into the seed of every picture of this bank."""


@cache
def _stretch(k: int, n: int = WORLD_PX) -> F32:
    """(n, k) float32: linear interpolation from k to n points."""
    at = np.linspace(0, k - 1.001, n)
    low = at.astype(int)
    rows = np.zeros((n, k), np.float32)
    rows[np.arange(n), low] = 1 - (at - low)
    rows[np.arange(n), low + 1] += at - low
    return rows


def fractal(rng: np.random.Generator, beta: float, first: int = 0) -> F32:
    """(n, n) float32: noise of all sizes, mean 0, standard deviation 1; more beta is smoother."""
    total = np.zeros((WORLD_PX, WORLD_PX), np.float32)
    for k in OCTAVES[first:]:
        grid = rng.standard_normal((k, k)).astype(np.float32)
        total += np.float32(k ** (-beta)) * (_stretch(k) @ grid @ _stretch(k).T)
    total -= total.mean()
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def muted(rng: np.random.Generator, low: float = 0.12, high: float = 0.9) -> F32:
    """(3,) float32 RGB of little saturation."""
    hue, saturation = rng.random(), 0.34 * rng.random() ** 1.3
    return np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(low, high)), np.float32)


def _gradient(rng: np.random.Generator) -> F32:
    angle = rng.uniform(0, 2 * np.pi)
    at = np.linspace(-0.5, 0.5, WORLD_PX, dtype=np.float32)
    slope = np.cos(angle) * at[None] + np.sin(angle) * at[:, None] + 0.5
    one, two = muted(rng), muted(rng)
    return np.asarray(one + (two - one) * slope[..., None], np.float32)


def _textured(rng: np.random.Generator, picture: F32, amount: float, beta: float) -> F32:
    picture += np.float32(amount) * fractal(rng, beta)[..., None]
    picture += np.float32(amount * 0.3) * fractal(rng, 1.4)[..., None] * (muted(rng) - 0.5)
    return picture


def _rectangles(rng: np.random.Generator, picture: F32, count: int, most: int) -> F32:
    """Boxes with shading and a shadow, as furniture, books and frames have."""
    n = WORLD_PX
    for _ in range(count):
        w, h = (int(s) for s in rng.integers(5, most, 2))
        x, y = (int(s) for s in rng.integers(-10, n - 4, 2))
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, n), min(y + h, n)
        if x1 <= x0 or y1 <= y0:
            continue
        picture[min(y1, n - 3) : y1 + 3, x0:x1] *= 0.7
        picture[y0:y1, min(x1, n - 2) : x1 + 2] *= 0.8
        shade = np.linspace(rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2), x1 - x0)
        patch = picture[y0:y1, x0:x1]
        patch[:] = 0.25 * patch + 0.75 * muted(rng) * shade.astype(np.float32)[None, :, None]
    return picture


def _room(rng: np.random.Generator) -> F32:
    """A wall, a floor, a window, shelves."""
    picture = _textured(rng, _gradient(rng), rng.uniform(0.02, 0.06), 0.8)
    floor = int(rng.uniform(0.45, 0.8) * WORLD_PX)
    depth = np.linspace(0.65, 1.1, WORLD_PX - floor, dtype=np.float32)[:, None, None]
    picture[floor:] = (0.4 * picture[floor:] + 0.6 * muted(rng, 0.2, 0.7)) * depth
    boards = int(rng.integers(6, 22))
    picture[floor:, ::boards] *= 0.8
    if rng.random() < 0.5:
        x, y, w, h = (int(s) for s in rng.integers((10, 10, 40, 40), (220, 80, 110, 120)))
        picture[y : y + h, x : x + w] = 0.8 + 0.2 * muted(rng, 0.6, 0.95)
        picture[y : y + h, x + w // 2 : x + w // 2 + 4] = muted(rng)
        picture[y + h // 3 : y + h // 3 + 3, x : x + w] = muted(rng)
    picture = _rectangles(rng, picture, int(rng.integers(8, 22)), 110)
    shelf = int(rng.integers(30, WORLD_PX - 60))
    for x in range(0, WORLD_PX, int(rng.integers(6, 14))):
        height = int(rng.integers(10, 34))
        picture[shelf - height : shelf, x : x + int(rng.integers(4, 12))] = muted(rng)
    return picture


def _landscape(rng: np.random.Generator) -> F32:
    """Sky, hills and leaves."""
    picture = _textured(rng, _gradient(rng), 0.07, 1.0)
    x = np.arange(WORLD_PX)
    for k in range(int(rng.integers(2, 5))):
        wave = np.cumsum(rng.standard_normal(WORLD_PX)) * rng.uniform(0.5, 2.0)
        line = (WORLD_PX * (0.25 + 0.2 * k) + wave).astype(int)
        below = np.arange(WORLD_PX)[:, None] > line[None, x]
        leaves = fractal(rng, rng.uniform(0.15, 0.7), 2)[..., None] * rng.uniform(0.06, 0.14)
        picture = np.where(below[..., None], muted(rng, 0.2, 0.75) + leaves, picture)
    return np.asarray(picture, np.float32)


def _pattern(rng: np.random.Generator) -> F32:
    """Tiles, stripes, cloth."""
    picture = _textured(rng, _gradient(rng), 0.06, 0.7)
    angle, cells = rng.uniform(0, 2 * np.pi), rng.uniform(8, 34)
    at = np.arange(WORLD_PX, dtype=np.float32) / WORLD_PX
    along = np.cos(angle) * at[None] + np.sin(angle) * at[:, None]
    across = np.cos(angle) * at[:, None] - np.sin(angle) * at[None]
    wave = np.sin(2 * np.pi * cells * along)
    if rng.random() < 0.7:
        wave = wave * np.sin(2 * np.pi * cells * rng.uniform(0.5, 1.5) * across)
    mixed = np.where((wave > 0)[..., None], 0.75 * picture + 0.25 * muted(rng), picture)
    return _rectangles(rng, np.asarray(mixed, np.float32), int(rng.integers(2, 9)), 90)


def _clutter(rng: np.random.Generator) -> F32:
    """Many muted things, round and square."""
    picture = _rectangles(rng, _textured(rng, _gradient(rng), 0.05, 0.9), 30, 80)
    yy, xx = np.mgrid[0:WORLD_PX, 0:WORLD_PX].astype(np.float32)
    for _ in range(int(rng.integers(6, 20))):
        x, y = rng.uniform(0, WORLD_PX, 2)
        w, h = rng.uniform(8, 50, 2)
        inside = ((xx - x) / w) ** 2 + ((yy - y) / h) ** 2
        shade = (1.1 - 0.4 * inside)[..., None]
        picture = np.where((inside < 1)[..., None], muted(rng) * shade, picture)
    return np.asarray(picture, np.float32)


def _cloud(rng: np.random.Generator) -> F32:
    """Noise like that of natural pictures, with soft large forms."""
    picture = _gradient(rng)
    for _ in range(2):
        form = fractal(rng, rng.uniform(0.9, 1.5))
        edge = 1 / (1 + np.exp(-form * rng.uniform(2, 14)))
        picture += edge[..., None] * (muted(rng) - picture) * 0.8
    return _textured(rng, picture, rng.uniform(0.03, 0.1), rng.uniform(0.5, 1.0))


PAINTERS: tuple[Callable[[np.random.Generator], Any], ...] = (
    _room,
    _room,
    _landscape,
    _pattern,
    _clutter,
    _cloud,
)


@lru_cache(maxsize=1024)
def background(number: int) -> NDArray[np.uint8]:
    """(336, 336, 3) uint8 RGB: one place of the bank.

    Cost: about 20 ms the first time; 0.34 MB kept.
    """
    rng = np.random.default_rng([BANK, number])
    picture = PAINTERS[int(rng.integers(len(PAINTERS)))](rng)
    picture += np.float32(0.015) * fractal(rng, 0.1, 4)[..., None]
    level = float(np.median(picture))
    picture = (picture - level) * rng.uniform(0.85, 1.1) + rng.uniform(0.37, 0.52)
    picture = _with_texture(rng, np.clip(picture, 0.1, 0.8))
    return np.asarray(np.clip(picture, 0.04, 0.86) * 255, np.uint8)


def plainness(luma: F32) -> float:
    """Standard deviation of luma in the plainer cells of a picture, [0, 1]."""
    k = WORLD_PX // CELL_PX
    cells = luma.reshape(k, CELL_PX, k, CELL_PX)
    return float(np.quantile(cells.std(axis=(1, 3)), 0.1))


def _with_texture(rng: np.random.Generator, picture: F32) -> F32:
    """Adds texture until nearly every cell has some."""
    form = fractal(rng, rng.uniform(0.2, 0.6), 3)[..., None]
    for _ in range(8):
        if plainness(picture.mean(axis=-1)) >= LEAST_TEXTURE:
            break
        picture = picture + np.float32(0.012) * form
    return picture
