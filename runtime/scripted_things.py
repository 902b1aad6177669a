"""The things that move in the scripted clips, painted from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scripted_paint import Canvas, Colour
from .values import Float32


def paint_thing(name: str, seed: int, unit_px: int) -> tuple[Float32, Float32]:
    """Something that can move.

    Args:
        name: one of THINGS.
        seed: of its texture.
        unit_px: height of the view, px.

    Returns:
        (rows, columns, 3) float32 grey levels and (rows, columns) float32 opacity in [0, 1].
    """
    width, height, paint = THINGS[name]
    canvas = Canvas.blank(width, height, unit_px)
    rng = np.random.default_rng([seed, 100 + list(THINGS).index(name)])
    paint(canvas, rng)
    return np.clip(canvas.pixels, 0, 255), canvas.cover


def _car(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0.1, 0.02, 0.4, 0.16, (206, 52, 44), round_by=0.05, shade=0.3)
    canvas.box(0.14, 0.045, 0.24, 0.12, (176, 214, 232), round_by=0.02)
    canvas.box(0.26, 0.045, 0.36, 0.12, (176, 214, 232), round_by=0.02)
    canvas.box(0.01, 0.11, 0.51, 0.23, (222, 62, 50), round_by=0.04, shade=0.35)
    canvas.box(0.02, 0.16, 0.5, 0.18, (250, 214, 90))
    for x in (0.13, 0.39):
        canvas.ellipse(x, 0.23, 0.06, 0.06, (34, 34, 38))
        canvas.ellipse(x, 0.23, 0.028, 0.028, (206, 208, 212))


def _ball(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.ellipse(0.12, 0.12, 0.115, 0.115, (244, 240, 232), shade=0.4)
    for x, colour in ((0.06, (220, 60, 54)), (0.12, (60, 110, 190)), (0.18, (240, 190, 60))):
        canvas.ellipse(x, 0.12, 0.022, 0.1, colour, shade=0.4)
    canvas.ellipse(0.085, 0.07, 0.02, 0.014, (255, 255, 255))


def _balloon(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0.098, 0.27, 0.102, 0.44, (90, 90, 90))
    canvas.ellipse(0.1, 0.14, 0.095, 0.125, (70, 120, 214), shade=0.6)
    canvas.ellipse(0.07, 0.09, 0.02, 0.03, (220, 234, 250))
    canvas.ellipse(0.1, 0.27, 0.016, 0.012, (50, 90, 170))


def _cat(canvas: Canvas, rng: np.random.Generator) -> None:
    fur = canvas.noise(rng, 0.015, 0.5)
    ginger: Colour = (206, 132, 66)
    canvas.box(0.03, 0.02, 0.065, 0.24, ginger, round_by=0.016, texture=fur)
    for x in (0.1, 0.17, 0.33, 0.4):
        canvas.box(x, 0.22, x + 0.04, 0.36, (190, 118, 58), round_by=0.015, texture=fur)
    canvas.box(0.04, 0.14, 0.46, 0.28, ginger, round_by=0.06, texture=fur, shade=0.25)
    for i in range(5):
        canvas.box(0.1 + i * 0.065, 0.14, 0.125 + i * 0.065, 0.22, (150, 84, 40), round_by=0.01)
    for x in (0.43, 0.5):
        canvas.ellipse(x, 0.06, 0.022, 0.04, (180, 108, 52))
    canvas.ellipse(0.465, 0.12, 0.075, 0.065, ginger, texture=fur, shade=0.2)
    for x in (0.445, 0.495):
        canvas.ellipse(x, 0.11, 0.011, 0.013, (40, 60, 40))
    canvas.ellipse(0.475, 0.14, 0.01, 0.007, (220, 130, 130))


def _box(canvas: Canvas, rng: np.random.Generator) -> None:
    card = canvas.noise(rng, 0.04, 0.25)
    canvas.box(0.005, 0.005, 0.295, 0.235, (184, 146, 98), texture=card, shade=0.25)
    canvas.box(0.13, 0.005, 0.17, 0.235, (224, 202, 158))
    canvas.box(0.03, 0.15, 0.11, 0.21, (244, 240, 230))
    for i in range(4):
        canvas.box(0.04, 0.16 + i * 0.012, 0.1, 0.165 + i * 0.012, (60, 60, 60))


THINGS: dict[str, tuple[float, float, Callable[[Canvas, np.random.Generator], None]]] = {
    "car": (0.52, 0.3, _car),
    "ball": (0.24, 0.24, _ball),
    "balloon": (0.2, 0.45, _balloon),
    "cat": (0.56, 0.37, _cat),
    "box": (0.3, 0.24, _box),
}
