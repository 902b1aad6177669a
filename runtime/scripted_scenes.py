"""The scenes of the scripted clips, painted from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scripted_paint import Canvas, Colour, smooth_noise
from .values import Float32

WORLD_WIDTH, WORLD_HEIGHT = 4.3, 1.8
"""Size of a painted scene in heights of the view: room for the camera to turn."""

BOOK_COLOURS: tuple[Colour, ...] = (
    (150, 48, 42),
    (36, 78, 120),
    (208, 172, 84),
    (62, 104, 70),
    (226, 218, 200),
    (96, 60, 110),
    (196, 110, 50),
    (50, 52, 60),
)


def paint_scene(name: str, seed: int, unit_px: int) -> Float32:
    """A whole scene.

    Args:
        name: one of SCENES.
        seed: of its texture and details.
        unit_px: height of the view, px.

    Returns:
        (1.8 units, 4.3 units, 3) float32, grey levels 0 to 255.
    """
    canvas = Canvas.blank(WORLD_WIDTH, WORLD_HEIGHT, unit_px)
    rng = np.random.default_rng([seed, list(SCENES).index(name)])
    SCENES[name](canvas, rng)
    grain = 1 + canvas.noise(rng, 0.03, 0.05)
    return np.asarray(np.clip(canvas.pixels * grain[..., None], 0, 255), np.float32)


def _boards(canvas: Canvas, rng: np.random.Generator) -> Float32:
    """Wood: grain that runs along the boards."""
    rows, columns = canvas.cover.shape
    fine = smooth_noise(rng, rows, max(columns // 16, 2), 0.006 * canvas.unit_px)
    return 0.16 * fine[:, np.minimum(np.arange(columns) // 16, fine.shape[1] - 1)]


def _room(canvas: Canvas, rng: np.random.Generator) -> None:
    plaster = canvas.noise(rng, 0.2, 0.10)
    canvas.box(0, 0, WORLD_WIDTH, 1.25, (206, 190, 166), texture=plaster)
    for i in range(43):
        canvas.box(i * 0.1, 0, i * 0.1 + 0.045, 1.25, (194, 172, 146), texture=plaster)
    wood = _boards(canvas, rng)
    for i in range(8):
        tone = int(rng.integers(-14, 14))
        top = 1.25 + i * 0.07
        canvas.box(0, top, WORLD_WIDTH, top + 0.066, (134 + tone, 92 + tone, 60), texture=wood)
    canvas.box(0, 1.2, WORLD_WIDTH, 1.25, (238, 232, 222), shade=0.2)
    _window_with_sky(canvas, rng, 0.35, 0.3)
    _bookshelf(canvas, rng, 2.75, 0.28)
    for x, y, size in ((1.45, 0.42, 0.14), (1.8, 0.5, 0.1), (2.4, 0.36, 0.12), (3.95, 0.5, 0.14)):
        _framed_picture(canvas, rng, x, y, size)
    _sofa(canvas, rng, 1.35, 0.9)
    canvas.box(2.45, 0.66, 2.475, 1.28, (70, 60, 52))
    canvas.ellipse(2.46, 1.29, 0.1, 0.025, (60, 52, 46))
    canvas.box(2.36, 0.5, 2.56, 0.68, (240, 214, 150), round_by=0.03, shade=0.25)
    canvas.ellipse(2.0, 1.56, 0.75, 0.14, (148, 62, 58), texture=canvas.noise(rng, 0.06, 0.3))
    canvas.ellipse(2.0, 1.56, 0.55, 0.09, (216, 186, 140), texture=canvas.noise(rng, 0.05, 0.3))


def _window_with_sky(canvas: Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    canvas.box(x - 0.04, y - 0.04, x + 0.74, y + 0.64, (240, 236, 228))
    canvas.box(x, y, x + 0.7, y + 0.6, (134, 178, 214), texture=canvas.noise(rng, 0.3, 0.25))
    for _ in range(14):
        leaf_x, leaf_y = rng.uniform(x + 0.05, x + 0.6), rng.uniform(y + 0.35, y + 0.57)
        tone = int(rng.integers(-20, 20))
        canvas.ellipse(leaf_x, leaf_y, 0.05, 0.035, (70 + tone, 112 + tone, 64), shade=0.4)
    for bar in (0.225, 0.46):
        canvas.box(x + bar, y, x + bar + 0.02, y + 0.6, (240, 236, 228))
    canvas.box(x, y + 0.29, x + 0.7, y + 0.31, (240, 236, 228))
    cloth = canvas.noise(rng, 0.05, 0.2)
    for side in (x - 0.14, x + 0.62):
        for fold in range(5):
            left = side + fold * 0.045
            canvas.box(
                left, y - 0.08, left + 0.05, y + 0.8, (170 - 14 * (fold % 2), 84, 70), texture=cloth
            )


def _bookshelf(canvas: Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    canvas.box(x, y, x + 1.0, y + 1.0, (92, 62, 42), texture=_boards(canvas, rng))
    for shelf in range(4):
        floor = y + 0.235 + shelf * 0.245
        canvas.box(x + 0.03, floor - 0.205, x + 0.97, floor, (52, 36, 28))
        at = x + 0.04
        while at < x + 0.92:
            width, height = rng.uniform(0.02, 0.055), rng.uniform(0.12, 0.19)
            colour = BOOK_COLOURS[int(rng.integers(len(BOOK_COLOURS)))]
            canvas.box(at, floor - height, at + width, floor, colour, shade=0.15)
            canvas.box(at, floor - height * 0.8, at + width, floor - height * 0.72, (232, 222, 190))
            at += width + (0.06 if rng.random() < 0.08 else 0.003)


def _framed_picture(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    canvas.box(x - size, y - size, x + size, y + size, (74, 52, 38), shade=0.3)
    inner = size * 0.82
    canvas.box(x - inner, y - inner, x + inner, y + inner, (232, 226, 210))
    for _ in range(6):
        colour = BOOK_COLOURS[int(rng.integers(len(BOOK_COLOURS)))]
        away_x, away_y = rng.uniform(-0.5, 0.5, 2) * size
        radius = float(rng.uniform(0.12, 0.3)) * size
        canvas.ellipse(x + away_x, y + away_y, radius, radius, colour, shade=0.3)


def _sofa(canvas: Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    cloth = canvas.noise(rng, 0.02, 0.22)
    blue: Colour = (74, 106, 124)
    canvas.box(x, y, x + 0.95, y + 0.42, blue, round_by=0.06, texture=cloth, shade=0.3)
    canvas.box(x - 0.06, y + 0.16, x + 0.08, y + 0.46, (64, 94, 112), round_by=0.05, texture=cloth)
    canvas.box(x + 0.87, y + 0.16, x + 1.01, y + 0.46, (64, 94, 112), round_by=0.05, texture=cloth)
    for i in range(3):
        left = x + 0.09 + i * 0.26
        canvas.box(
            left, y + 0.2, left + 0.25, y + 0.34, (88, 122, 140), round_by=0.03, texture=cloth
        )
    canvas.box(x + 0.12, y + 0.08, x + 0.32, y + 0.26, (206, 152, 66), round_by=0.03, texture=cloth)
    canvas.box(x + 0.62, y + 0.1, x + 0.8, y + 0.27, (158, 66, 62), round_by=0.03, texture=cloth)


def _garden(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0, 0, WORLD_WIDTH, 1.0, (150, 190, 224), shade=-0.18)
    for _ in range(26):
        x, y = rng.uniform(0, WORLD_WIDTH), rng.uniform(0.05, 0.5)
        canvas.ellipse(x, y, rng.uniform(0.08, 0.22), rng.uniform(0.03, 0.06), (240, 244, 248))
    forest = canvas.noise(rng, 0.06, 0.45)
    for x in np.arange(-0.2, WORLD_WIDTH, 0.42):
        height = rng.uniform(0.16, 0.3)
        canvas.ellipse(x + 0.2, 0.95, 0.36, height, (84, 118, 92), texture=forest)
    _house(canvas, rng, 2.75, 0.42)
    grass = canvas.noise(rng, 0.03, 0.5)
    canvas.box(0, 0.95, WORLD_WIDTH, WORLD_HEIGHT, (96, 134, 62), texture=grass)
    for i in range(62):
        left = i * 0.07
        canvas.box(left, 0.84, left + 0.045, 1.1, (226, 218, 200), round_by=0.012, shade=0.25)
    canvas.box(0, 0.91, WORLD_WIDTH, 0.94, (210, 200, 180))
    for x, y, size in ((0.55, 0.62, 0.34), (1.75, 0.55, 0.26), (4.0, 0.6, 0.3)):
        _tree(canvas, rng, x, y, size)
    for _ in range(90):
        x, y = rng.uniform(0, WORLD_WIDTH), rng.uniform(1.15, 1.78)
        colour: Colour = ((232, 90, 80), (244, 214, 90), (236, 236, 240), (176, 110, 190))[
            rng.integers(4)
        ]
        canvas.ellipse(x, y, 0.014, 0.012, colour)
    path = canvas.noise(rng, 0.05, 0.35)
    canvas.ellipse(2.1, 1.75, 1.1, 0.2, (188, 168, 134), texture=path)


def _tree(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    bark = canvas.noise(rng, 0.02, 0.4)
    canvas.box(x - 0.045, y, x + 0.045, y + 0.62, (98, 74, 54), texture=bark)
    leaves = canvas.noise(rng, 0.025, 0.5)
    for _ in range(34):
        angle, far = rng.uniform(0, 2 * np.pi), size * np.sqrt(rng.random())
        leaf_x, leaf_y = x + far * np.cos(angle), y - 0.05 + 0.8 * far * np.sin(angle)
        tone = int(rng.integers(-22, 22))
        radius = size * rng.uniform(0.22, 0.4)
        canvas.ellipse(
            leaf_x,
            leaf_y,
            radius,
            radius * 0.8,
            (66 + tone, 112 + tone, 52),
            texture=leaves,
            shade=0.5,
        )


def _house(canvas: Canvas, rng: np.random.Generator, x: float, y: float) -> None:
    brick = canvas.noise(rng, 0.015, 0.3)
    canvas.box(x, y, x + 0.9, y + 0.6, (196, 138, 104), texture=brick)
    for i in range(14):
        half = 0.52 - i * 0.028
        top = y - i * 0.02
        tone = int(rng.integers(-10, 10))
        canvas.box(x + 0.45 - half, top - 0.02, x + 0.45 + half, top, (120 + tone, 62 + tone, 54))
    for left in (0.1, 0.62):
        canvas.box(x + left, y + 0.12, x + left + 0.2, y + 0.34, (240, 238, 230))
        canvas.box(x + left + 0.02, y + 0.14, x + left + 0.18, y + 0.32, (92, 118, 140), shade=0.4)
        canvas.box(x + left + 0.09, y + 0.12, x + left + 0.11, y + 0.34, (240, 238, 230))
    canvas.box(x + 0.38, y + 0.22, x + 0.54, y + 0.6, (70, 92, 80), shade=0.2)


def _street(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0, 0, WORLD_WIDTH, 1.0, (206, 200, 206), texture=canvas.noise(rng, 0.5, 0.12))
    left = -0.1
    while left < WORLD_WIDTH:
        width, top = float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.05, 0.4))
        _building(canvas, rng, left, top, width)
        left += width
    canvas.box(0, 1.15, WORLD_WIDTH, 1.32, (172, 168, 160), texture=canvas.noise(rng, 0.02, 0.25))
    for i in range(30):
        canvas.box(i * 0.15, 1.15, i * 0.15 + 0.006, 1.32, (120, 116, 110))
    canvas.box(0, 1.31, WORLD_WIDTH, 1.335, (214, 210, 200))
    asphalt = canvas.noise(rng, 0.012, 0.35)
    canvas.box(0, 1.335, WORLD_WIDTH, WORLD_HEIGHT, (84, 84, 90), texture=asphalt)
    for i in range(12):
        canvas.box(i * 0.38, 1.56, i * 0.38 + 0.2, 1.585, (228, 226, 214))
    for x in (0.5, 1.5, 2.55, 3.6):
        canvas.box(x, 0.55, x + 0.022, 1.24, (52, 56, 60))
        canvas.ellipse(x + 0.011, 0.54, 0.045, 0.045, (250, 236, 190), shade=0.2)


def _building(
    canvas: Canvas, rng: np.random.Generator, left: float, top: float, width: float
) -> None:
    walls: tuple[Colour, ...] = ((170, 92, 74), (196, 170, 126), (120, 130, 142), (150, 116, 100))
    wall = walls[int(rng.integers(len(walls)))]
    canvas.box(left, top, left + width, 1.16, wall, texture=canvas.noise(rng, 0.012, 0.28))
    canvas.box(left - 0.01, top, left + width + 0.01, top + 0.035, (224, 216, 200))
    count = int(width / 0.16)
    step = width / count
    for row in np.arange(top + 0.09, 0.72, 0.2):
        for i in range(count):
            x = left + (i + 0.25) * step
            is_lit = rng.random() < 0.2
            glass: Colour = (246, 214, 140) if is_lit else (66, 84, 102)
            canvas.box(x - 0.01, row - 0.01, x + step / 2 + 0.01, row + 0.14, (226, 220, 208))
            canvas.box(x, row, x + step / 2, row + 0.13, glass, shade=0.4)
    shop: Colour = ((150, 50, 48), (50, 96, 84), (60, 76, 124), (206, 160, 60))[rng.integers(4)]
    canvas.box(left + 0.04, 0.92, left + width - 0.04, 1.15, (58, 70, 82), shade=-0.6)
    stripes = max(int(width / 0.08), 2)
    for i in range(stripes):
        x = left + 0.02 + i * (width - 0.04) / stripes
        colour: Colour = shop if i % 2 else (240, 234, 220)
        canvas.box(x, 0.82, x + (width - 0.04) / stripes, 0.92, colour, round_by=0.01)


SCENES: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "room": _room,
    "garden": _garden,
    "street": _street,
}
