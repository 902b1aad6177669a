"""The brush of the scripted clips: shapes with soft edges and natural texture, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .values import Float32

Colour = tuple[int, int, int]


def smooth_noise(rng: np.random.Generator, rows: int, columns: int, cell: float) -> Float32:
    """(rows, columns) float32 in [-1, 1]: random values every `cell` points, bilinear between."""
    coarse_rows, coarse_columns = int(rows / cell) + 3, int(columns / cell) + 3
    grid = rng.uniform(-1, 1, (coarse_rows, coarse_columns)).astype(np.float32)
    y = np.linspace(0, coarse_rows - 1.01, rows, dtype=np.float32)
    x = np.linspace(0, coarse_columns - 1.01, columns, dtype=np.float32)
    y0, x0 = y.astype(np.intp), x.astype(np.intp)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    upper = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x0 + 1] * fx
    lower = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, x0 + 1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy, np.float32)


def natural_noise(rng: np.random.Generator, rows: int, columns: int, cell: float) -> Float32:
    """Four octaves of smooth noise, the coarsest with the given cell: plaster, cloud, leaf."""
    total = np.zeros((rows, columns), np.float32)
    weight = 0.5
    for _ in range(4):
        total += np.float32(weight) * smooth_noise(rng, rows, columns, max(cell, 1.5))
        cell, weight = cell / 2, weight * 0.7
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A picture that is being painted; lengths are shares of `unit_px`, from the upper left corner.

    Attributes:
        pixels: (rows, columns, 3) float32, grey levels 0 to 255; painted in place.
        cover: (rows, columns) float32, opacity in [0, 1]; painted in place.
        unit_px: the height of the view, px.
    """

    pixels: Float32
    cover: Float32
    unit_px: int

    @classmethod
    def blank(cls, width: float, height: float, unit_px: int) -> Canvas:
        """An empty canvas of a size in units."""
        rows, columns = max(round(height * unit_px), 2), max(round(width * unit_px), 2)
        return cls(
            np.zeros((rows, columns, 3), np.float32), np.zeros((rows, columns), np.float32), unit_px
        )

    def noise(self, rng: np.random.Generator, cell: float, amount: float) -> Float32:
        """Texture for the whole canvas: cell size in units, amount as a share of the light."""
        rows, columns = self.cover.shape
        # A third is made and mirrored on: nobody sees it, and a scene is painted in half the time.
        part = columns // 3 + 1
        texture = np.float32(amount) * natural_noise(rng, rows, part, cell * self.unit_px)
        return np.pad(texture, ((0, 0), (0, columns - part)), mode="symmetric")

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        colour: Colour,
        *,
        round_by: float = 0.0,
        texture: Float32 | None = None,
        shade: float = 0.0,
    ) -> None:
        """A rectangle, its corners rounded by a radius; `shade` darkens it towards the bottom."""
        middle = ((left + right) / 2, (top + bottom) / 2)
        half = ((right - left) / 2 - round_by, (bottom - top) / 2 - round_by)
        window, x, y = self._window(left, top, right, bottom)
        away_x, away_y = np.abs(x - middle[0]) - half[0], np.abs(y - middle[1]) - half[1]
        outside = np.hypot(np.maximum(away_x, 0), np.maximum(away_y, 0))
        distance = outside + np.minimum(np.maximum(away_x, away_y), 0) - round_by
        light = 1 - shade * (y - top) / max(bottom - top, 1e-6)
        self._lay(window, distance, colour, texture, light)

    def ellipse(
        self,
        x: float,
        y: float,
        across: float,
        along: float,
        colour: Colour,
        *,
        texture: Float32 | None = None,
        shade: float = 0.0,
    ) -> None:
        """An ellipse of two radii; `shade` makes it round, lit from the upper left."""
        window, px, py = self._window(x - across, y - along, x + across, y + along)
        u, v = (px - x) / across, (py - y) / along
        radius = np.hypot(u, v)
        light = 1 - shade * (0.35 * u + 0.5 * v + 0.3 * radius**2)
        self._lay(window, (radius - 1) * min(across, along), colour, texture, light)

    def _window(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[tuple[slice, slice], Float32, Float32]:
        rows, columns = self.cover.shape
        y0, y1 = (int(np.clip(v * self.unit_px + d, 0, rows)) for v, d in ((top, -2), (bottom, 3)))
        x0, x1 = (
            int(np.clip(v * self.unit_px + d, 0, columns)) for v, d in ((left, -2), (right, 3))
        )
        unit = np.float32(self.unit_px)
        x: Float32 = (np.arange(x0, x1, dtype=np.float32) + np.float32(0.5))[None, :] / unit
        y: Float32 = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5))[:, None] / unit
        return (slice(y0, y1), slice(x0, x1)), x, y

    def _lay(
        self,
        window: tuple[slice, slice],
        distance: Float32,
        colour: Colour,
        texture: Float32 | None,
        light: Float32 | float,
    ) -> None:
        alpha = np.clip(0.5 - distance * self.unit_px, 0, 1)
        if texture is not None:
            light = light * (1 + texture[window])
        paint = np.asarray(colour, np.float32) * np.broadcast_to(light, alpha.shape)[..., None]
        old = self.pixels[window]
        self.pixels[window] = old + (paint - old) * alpha[..., None]
        self.cover[window] = np.maximum(self.cover[window], alpha)
