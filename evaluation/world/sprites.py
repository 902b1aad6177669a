"""A bank of things: plain ones of one colour, and figures, hands and patchwork of many."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .backgrounds import F32, background, muted
from .event_types import COLOURS
from .stage import WORLD_PX, Thing

SPRITE_PX = 64
POSES = 8
"""The first half swings through a step; the others are limbs anywhere."""
BANK = 104_729
"""Mixed into the seed of every thing of this bank."""
# Hue and how far it may be off, degrees; least and most saturation and value. Orange stays red
# enough, and all stay dark enough, to keep their name in light of twice the gain.
SHADES = {
    "red": (0, 7, 0.8, 1.0, 0.5, 0.9),
    "orange": (25, 5, 0.85, 1.0, 0.75, 0.95),
    "yellow": (54, 5, 0.75, 1.0, 0.8, 1.0),
    "green": (116, 18, 0.6, 1.0, 0.35, 0.8),
    "blue": (225, 11, 0.7, 1.0, 0.4, 0.9),
    "purple": (278, 10, 0.6, 0.9, 0.35, 0.7),
    "white": (0, 180, 0.0, 0.06, 0.92, 1.0),
    "black": (0, 180, 0.0, 0.2, 0.0, 0.08),
}
RIMS = {"white": 0.25, "black": 0.5}
"""Grey of the outline, without which they are lost in much or little light."""
_AT = (np.arange(SPRITE_PX, dtype=np.float32) + 0.5) / SPRITE_PX * 2 - 1
_X, _Y = np.broadcast_arrays(_AT[None, :], _AT[:, None])


def shade_of(rng: np.random.Generator, colour: str) -> F32:
    """(3,) float32 RGB that anybody would call by this name."""
    hue, off, s0, s1, v0, v1 = SHADES[colour]
    hsv = ((hue + rng.uniform(-off, off)) / 360) % 1, rng.uniform(s0, s1), rng.uniform(v0, v1)
    return np.array(colorsys.hsv_to_rgb(*hsv), np.float32)


@lru_cache(maxsize=4096)
def plain_sprite(number: int, colour: str, is_box: bool) -> NDArray[np.uint8]:
    """(1, 64, 64, 4) uint8: RGB times alpha, and alpha, of a rigid thing of one colour."""
    rng = np.random.default_rng([BANK, number, COLOURS.index(colour), is_box])
    if is_box:
        distance = np.maximum(abs(_X), abs(_Y)) - 0.97
        if rng.random() < 0.4:  # rounded corners
            distance = np.maximum(distance, (_X**4 + _Y**4) ** 0.25 - 1.08)
    else:
        angle = np.arctan2(_Y, _X)
        lobes = int(rng.integers(2, 7))
        depth = rng.choice((0.0, 0.0, rng.uniform(0.03, 0.16)))
        distance = np.hypot(_X, _Y) - 0.97 + depth * (1 + np.sin(lobes * angle + rng.uniform(0, 6)))
    light = 1 + rng.uniform(-0.25, 0.25) * _X + rng.uniform(-0.25, 0.25) * _Y
    if rng.random() < 0.4:
        turn = rng.uniform(0, np.pi)
        light = light + rng.uniform(0.05, 0.18) * np.sin(
            rng.uniform(4, 16) * (np.cos(turn) * _X + np.sin(turn) * _Y)
        )
    if rng.random() < 0.4:
        light = light + 0.06 * rng.standard_normal((SPRITE_PX, SPRITE_PX))
    rgb = shade_of(rng, colour) * light[..., None]
    if colour == "black":
        rgb += 0.03 * (light[..., None] - 0.6)
    if colour in RIMS or rng.random() < 0.5:
        edge = (distance > -0.12)[..., None]
        rgb = np.where(edge, RIMS.get(colour, 0.55 * rgb), rgb)
    return _premultiplied(rgb, distance)[None]


def _premultiplied(rgb: NDArray[np.floating], distance: NDArray[np.floating]) -> NDArray[np.uint8]:
    alpha = np.clip(0.5 - distance * SPRITE_PX / 3, 0, 1)[..., None]
    both = np.concatenate([np.clip(rgb, 0, 1) * alpha, alpha], axis=-1)
    return np.asarray(both * 255 + 0.5, np.uint8)


def _over(below: NDArray[np.uint8], above: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = above[..., 3:].astype(np.float32) / 255
    return np.asarray(above + below * (1 - alpha), np.uint8)


def _any_colour(rng: np.random.Generator) -> F32:
    if rng.random() < 0.4:
        return shade_of(rng, COLOURS[int(rng.integers(len(COLOURS)))])
    return muted(rng, 0.1, 0.95)


def _cloth(rng: np.random.Generator) -> F32:
    """(64, 64, 3) float32: plain, striped, or a piece of a photo-like picture."""
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(_any_colour(rng) * (1 - 0.25 * abs(_X))[..., None], np.float32)
    if kind == 1:
        wave = np.sin(rng.uniform(6, 20) * (_X if rng.random() < 0.5 else _Y)) > 0
        return np.where(wave[..., None], _any_colour(rng), _any_colour(rng))
    y, x = rng.integers(0, WORLD_PX - SPRITE_PX, 2)
    piece = background(int(rng.integers(64)))[y : y + SPRITE_PX, x : x + SPRITE_PX]
    return np.asarray(piece.astype(np.float32) / 255 * (0.6 + _any_colour(rng)), np.float32)


def _limb(x0: float, y0: float, x1: float, y1: float, radius: float) -> NDArray[np.floating]:
    """Distance from a thick line."""
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((_X - x0) * dx + (_Y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.asarray(np.hypot(_X - x0 - along * dx, _Y - y0 - along * dy) - radius)


def _swing(rng: np.random.Generator, pose: int) -> float:
    """Where limbs are in a pose, [-1, 1]."""
    if pose >= POSES // 2:
        return float(rng.uniform(-1, 1))
    return float(np.sin(4 * np.pi * pose / POSES))


def _figure(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Somebody: head, trunk, arms and legs that swing."""
    skin = np.array([0.9, 0.7, 0.55], np.float32) * np.float32(rng.uniform(0.35, 1.05))
    hair, shirt, legs = muted(rng, 0.05, 0.5), _cloth(rng), _cloth(rng)
    wide = rng.uniform(0.3, 0.5)
    poses = []
    for k in range(POSES):
        swing = _swing(rng, k) * 0.35
        lift, far = rng.uniform(-0.9, 0.4, 2) if k >= POSES // 2 else (0.3 + swing, 0.3 - swing)
        bob = 0.04 * (k % 2)
        parts = [
            (_limb(-0.15, 0.3, -0.2 - swing, 0.92, 0.17), legs * 0.85),
            (_limb(0.15, 0.3, 0.2 + swing, 0.92, 0.17), legs),
            (_limb(-wide, -0.25, -0.65, lift, 0.13), shirt * 0.8),
            (_limb(0.0, -0.2 + bob, 0.0, 0.3, wide), shirt),
            (_limb(wide, -0.25, 0.65, far, 0.13), shirt * 0.9),
            (_limb(0.65, far, 0.68, far + 0.06, 0.12), skin),
            (np.hypot(_X, (_Y + 0.72 - bob) * 0.9) - 0.26, hair),
            (np.hypot(_X - 0.04, (_Y + 0.66 - bob) * 0.9) - 0.2, skin),
        ]
        poses.append(_stacked(parts))
    return poses


def _hand(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """An arm with a hand that opens."""
    skin = np.array([0.92, 0.72, 0.58], np.float32) * np.float32(rng.uniform(0.35, 1.05))
    shaded = skin * (1 - 0.2 * _Y)[..., None]
    sleeve = _cloth(rng)
    poses = []
    for k in range(POSES):
        spread = 0.25 + 0.18 * _swing(rng, k)
        parts = [
            (_limb(-1.0, 0.1, -0.2, 0.0, 0.3), sleeve),
            (_limb(-0.3, 0, 0.15, 0, 0.32), shaded),
        ]
        for finger in (-1.2, -0.4, 0.4, 1.2):
            y = finger * spread
            parts.append((_limb(0.2, finger * 0.22, 0.82, y, 0.11), shaded * 0.95))
        poses.append(_stacked(parts))
    return poses


def _patchwork(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """A soft thing of several colours that changes its outline."""
    cloth = [_cloth(rng) for _ in range(3)]
    angle, lobes = np.arctan2(_Y, _X), int(rng.integers(2, 6))
    first, depth = rng.uniform(0, 6), rng.uniform(0.05, 0.2)
    lines = rng.uniform(-0.5, 0.5, 2)
    rgb = np.where((lines[0] < _X)[..., None], cloth[0], cloth[1])
    rgb = np.where((lines[1] < _Y)[..., None], rgb, cloth[2])
    poses = []
    for k in range(POSES):
        wave = np.sin(lobes * angle + first + 4 * np.pi * k / POSES)
        distance = np.hypot(_X, _Y) - 0.97 + depth * (1 + wave)
        edge = np.clip(1 + distance * 7, 0, 1)[..., None]
        poses.append(_premultiplied(rgb * (1 - 0.6 * edge), distance))
    return poses


def _animal(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """A body with a head and legs that run."""
    coat, other = _cloth(rng), _any_colour(rng)
    poses = []
    for k in range(POSES):
        swing = _swing(rng, k) * 0.18
        parts = [
            (_limb(x, 0.2, x + sign * swing, 0.88, 0.1), coat * 0.8)
            for x, sign in ((-0.55, 1), (-0.3, -1), (0.25, 1), (0.5, -1))
        ]
        parts.append((_limb(-0.5, 0.05, 0.4, 0.05, 0.36), coat))
        parts.append((_limb(-0.75, -0.1, -0.95, -0.4 + swing, 0.07), coat * 0.9))
        parts.append((np.hypot(_X - 0.65, _Y + 0.35) - 0.3, coat * 0.9 + 0.1 * other))
        parts.append((np.hypot(_X - 0.74, _Y + 0.42) - 0.07, np.zeros(3, np.float32)))
        poses.append(_stacked(parts))
    return poses


def _stacked(
    parts: list[tuple[NDArray[np.floating], NDArray[np.floating]]],
) -> NDArray[np.uint8]:
    picture = np.zeros((SPRITE_PX, SPRITE_PX, 4), np.uint8)
    for distance, rgb in parts:
        whole = np.broadcast_to(rgb, (SPRITE_PX, SPRITE_PX, 3))
        edge = np.clip(1 + distance * 6, 0, 1)[..., None] ** 2
        picture = _over(picture, _premultiplied(whole * (1 - 0.45 * edge), distance))
    return picture


FIGURES = (_figure, _figure, _hand, _patchwork, _patchwork, _animal)


@lru_cache(maxsize=1024)
def many_coloured_sprite(number: int) -> NDArray[np.uint8]:
    """(8, 64, 64, 4) uint8: the poses of a thing without a single colour."""
    rng = np.random.default_rng([BANK, number])
    return np.stack(FIGURES[int(rng.integers(len(FIGURES)))](rng))


def sprite(thing: Thing, pose: int, first: int, looks: int) -> NDArray[np.uint8]:
    """(64, 64, 4) uint8: how a thing looks in a pose; `first` and `looks` are of WorldRules."""
    number = first + thing.number % looks
    if thing.colour is None:
        poses = many_coloured_sprite(number)
    else:
        poses = plain_sprite(first + thing.number % max(looks // 8, 1), thing.colour, thing.is_box)
    picture: NDArray[np.uint8] = poses[pose % len(poses)]
    return picture[:, ::-1] if thing.is_mirrored else picture
