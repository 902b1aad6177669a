"""Pixels of a clip: background, things, blur, light and camera, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .backgrounds import F32, background
from .rules import SIDE_PX, WorldRules
from .sensor import Sensor, sensor_of, taken
from .simulate import FrameState, Item
from .sprites import SPRITE_PX, sprite
from .stage import WORLD_PX

_GRID = np.arange(SIDE_PX, dtype=np.float32) + 0.5
SMEAR_SAMPLES = 5


def sampled(picture: NDArray[np.uint8] | F32, down: F32, across: F32) -> F32:
    """Bilinear samples at a grid of rows and columns.

    Args:
        picture: (height, width, channels), uint8 or float32.
        down: (rows,) float32, rising, px; outside the border repeats.
        across: (columns,) float32, rising.

    Returns:
        (rows, columns, channels) float32.
    """
    y0, y1, fy = _neighbours(down, picture.shape[0])
    x0, x1, fx = _neighbours(across, picture.shape[1])
    low, high = int(x0[0]), int(x1[-1]) + 1
    strip = picture[:, low:high]
    rows: F32 = strip.take(y0, 0).astype(np.float32)
    rows += (strip.take(y1, 0) - rows) * fy[:, None, None]
    found = rows.take(x0 - low, 1)
    found += (rows.take(x1 - low, 1) - found) * fx[None, :, None]
    return found


def _neighbours(at: F32, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], F32]:
    low = np.floor(at)
    part = (at - low).astype(np.float32)
    first = low.astype(np.intp)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), part


class Painter:
    """Paints the frames of one clip in order.

    Args:
        seed: of the clip.
        rules: of the clip.
        bar_px: height of its black bars.
    """

    def __init__(self, seed: int, rules: WorldRules, bar_px: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        self._rules, self._bar_px = rules, bar_px
        self._sensor: Sensor = sensor_of(self._rng, rules)
        self._scene: int | None = None
        self._place: NDArray[np.uint8] = np.zeros((1, 1, 3), np.uint8)
        self._view: tuple[object, ...] = ()
        self._ground: F32 = np.zeros((1, 1, 3), np.float32)

    def paint(self, state: FrameState) -> NDArray[np.uint8]:
        """(112, 112, 3) uint8 RGB of the next frame."""
        if state.fade <= 0.0:
            picture = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32)
            return taken(picture, self._sensor, self._rng, 1.0)
        if state.scene != self._scene:
            self._scene, self._place, self._view = state.scene, _place(state.scene, self._rules), ()
        picture = self._ground_of(state).copy()
        for item in state.items:
            self._put(picture, item)
        if state.smear != (0.0, 0.0):
            picture = _smeared(picture, state.smear)
        radius = max(state.blur, 0.6 if self._sensor.is_soft else 0.0)
        if radius:
            picture = _blurred(picture, radius)
        if state.shadow:
            left, width = state.shadow
            inside = np.clip((np.minimum(_GRID - left, left + width - _GRID) / 6 + 0.5), 0, 1)
            picture *= (1 - 0.4 * inside)[None, :, None].astype(np.float32)
        gain = state.light * state.fade
        stored = taken(picture, self._sensor, self._rng, gain)
        if self._bar_px:
            stored[: self._bar_px] = 0
            stored[-self._bar_px :] = 0
        return stored

    def _ground_of(self, state: FrameState) -> F32:
        view = (state.x, state.y, state.zoom)
        if view != self._view:
            self._view = view
            at = (_GRID - SIDE_PX / 2) / np.float32(state.zoom) - np.float32(0.5)
            self._ground = sampled(self._place, at + np.float32(state.y), at + np.float32(state.x))
        return self._ground

    def _put(self, picture: F32, item: Item) -> None:
        x0, y0 = max(int(np.floor(item.left)), 0), max(int(np.floor(item.top)), 0)
        x1, y1 = min(int(np.ceil(item.right)), SIDE_PX), min(int(np.ceil(item.bottom)), SIDE_PX)
        if x1 <= x0 or y1 <= y0:
            return
        rules = self._rules
        image = sprite(item.thing, item.pose, rules.first_look, rules.looks)
        down = (_GRID[y0:y1] - np.float32(item.top)) * np.float32(
            SPRITE_PX / (item.bottom - item.top)
        )
        across = (_GRID[x0:x1] - np.float32(item.left)) * np.float32(
            SPRITE_PX / (item.right - item.left)
        )
        above = sampled(image, down - np.float32(0.5), across - np.float32(0.5))
        below = picture[y0:y1, x0:x1]
        below *= 1 - above[..., 3:] * np.float32(1 / 255)
        below += above[..., :3]


def _place(scene: int, rules: WorldRules) -> NDArray[np.uint8]:
    """The background of a scene: one of the bank, or two, mirrored, tinted."""
    rng = np.random.default_rng([scene, 11])
    place = background(rules.first_look + int(rng.integers(rules.looks)))
    if rng.random() < 0.4:
        other = background(rules.first_look + int(rng.integers(rules.looks)))
        edge = int(rng.integers(WORLD_PX // 4, 3 * WORLD_PX // 4))
        place = place.copy()
        if rng.random() < 0.5:
            place[:, edge:] = other[:, edge:]
        else:
            place[edge:] = other[edge:]
    if rng.random() < 0.5:
        place = place[:, ::-1]
    if rng.random() < 0.2:
        place = place[::-1]
    tint = 1 + (rng.random(3) - 0.5) * 0.2
    tables = np.clip(np.arange(256)[:, None] * tint, 0, 255).astype(np.uint8)
    return np.stack([tables[:, c].take(place[..., c]) for c in range(3)], axis=-1)


def _smeared(picture: F32, smear: tuple[float, float]) -> F32:
    """Mean of the picture along a line: motion blur."""
    total = np.zeros_like(picture)
    at = np.arange(SIDE_PX)
    for part in np.linspace(-0.5, 0.5, SMEAR_SAMPLES):
        rows = np.clip(at + round(part * smear[1]), 0, SIDE_PX - 1)
        columns = np.clip(at + round(part * smear[0]), 0, SIDE_PX - 1)
        total += picture.take(rows, 0).take(columns, 1)
    total *= np.float32(1 / SMEAR_SAMPLES)
    return total


def _blurred(picture: F32, radius: float) -> F32:
    """Defocus: a mean over (2 radius + 1) pixels, twice each way."""
    once = _matrix(round(radius * 4) / 4)
    flat = once @ picture.reshape(SIDE_PX, -1)
    turned = flat.reshape(SIDE_PX, SIDE_PX, 3).transpose(1, 0, 2).reshape(SIDE_PX, -1)
    return np.ascontiguousarray((once @ turned).reshape(SIDE_PX, SIDE_PX, 3).transpose(1, 0, 2))


_KERNELS: dict[float, F32] = {}


def _matrix(radius: float) -> F32:
    """(112, 112) float32: a triangle of this radius around each pixel, rows sum to 1."""
    if radius not in _KERNELS:
        apart = abs(np.arange(SIDE_PX)[:, None] - np.arange(SIDE_PX)[None])
        rows = np.clip(1.0 + radius - apart, 0, None) * (apart <= radius + 0.999)
        _KERNELS[radius] = (rows / rows.sum(1, keepdims=True)).astype(np.float32)
    return _KERNELS[radius]


def painted(
    states: Iterable[FrameState], seed: int, rules: WorldRules, bar_px: int
) -> NDArray[np.uint8]:
    """(frames, 112, 112, 3) uint8 RGB of a clip."""
    painter = Painter(seed, rules, bar_px)
    return np.stack([painter.paint(state) for state in states])
