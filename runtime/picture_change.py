"""How one picture became the next: the camera's part, the light's part, and what is left.

Every function here compares two `Planes` and keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .block_matching import CELLS, block_means, match_blocks
from .camera_shift import (
    GRID,
    inside,
    light_gain,
    refine_shift,
    shifted,
    shifted_by_cells,
    wide_search,
)
from .luma_planes import Mask, Planes, cell_correlation, cell_texture
from .preprocess import SMALL_PX
from .values import Float32

PX_PER_POINT = SMALL_PX // GRID
BLOCKS = 14
"""Blocks a side in which movement is counted: 8 px each, 0.5 % of the picture."""
BLOCK_SHARE = 0.25
"""Share of a block's points that must differ before it counts as moving."""
TEXTURE_LEVELS = 2.5
"""Standard deviation in a cell, grey levels, from which its content can be recognised again."""
FLAT_LEVELS = 1.5
"""Standard deviation of all detail, grey levels, under which a picture shows nothing: black."""
VANISHED_SHARE = 0.25
"""Share of the detail up to which it has vanished, if the light did not take it along."""
FOUND_CORRELATION = 0.6
"""Correlation of a cell from which it is the same content; the figures are at `cut_kept`."""
ALIKE_PX = 3.0
"""Difference of displacement, px, up to which two neighbouring cells move together."""
PALETTE_BINS = 8
"""Steps per colour channel of the palette: 32 grey levels each."""
PREFERENCE = 0.85
"""A cell follows the camera where the shift leaves less than this share of its mismatch at rest."""
CAMERA_AGREEMENT = 0.5
"""Share of cells that must follow before a shift is the camera's."""
WIDE_MARGIN = 0.15
"""Share of cells more that must follow a wide shift: a wide search finds chance matches."""
LIGHT_PEDESTAL = 4.0
"""Grey levels added before a ratio is taken: from 0 to 1 is no stop of light."""
PLAIN_SHARE = 0.4
"""Share of the picture, by least texture, that noise is measured on."""
GRADIENT_POINTS = 0.2
"""Misalignment that is no movement, grid points (0.4 px of 112): a hand that rotates, pulsing."""
LIGHT_TOLERANCE = 0.3
"""Share of detail per stop that is no movement: lights do not fall evenly on everything."""


@dataclass(frozen=True, slots=True)
class CameraShift:
    """One displacement of the whole picture, and how well it explains it.

    Attributes:
        right: grid points, content moving right is positive.
        down: grid points.
        found: share of recognisable cells in the overlap that are found again, [0, 1].
        agreement: share of recognisable cells that fit it clearly better than rest, [0, 1].
    """

    right: float
    down: float
    found: float
    agreement: float


def motion_maps(before: Planes, now: Planes) -> Float32:
    """(6, 7, 7) float32: u, v, zero_cost, best_cost, d_luma, d_warm; see `Motion.maps`."""
    matched = match_blocks(before.coarse_luma, now.coarse_luma)
    light = np.stack([now.cell_luma - before.cell_luma, now.cell_warm - before.cell_warm]) / 255.0
    return np.asarray(np.concatenate([matched, light]), np.float32)


def recognisable_cells(before: Planes, now: Planes, usable: Mask) -> Mask:
    """(7, 7) bool: cells with so much texture that their content could be found again.

    A cell counts by its texture now, or by its texture before as the light now would show it. Where
    one picture shows nothing at all, the cells of the other count if no light can have done that;
    else none: nobody can tell a cut from a light there.
    """
    contrast_before, contrast_now = float(before.detail.std()), float(now.detail.std())
    if min(contrast_before, contrast_now) < FLAT_LEVELS:
        if not vanished(before, now):
            return np.zeros((CELLS, CELLS), np.bool_)
        textured = before if contrast_before > contrast_now else now
        return np.asarray(cell_texture(textured.detail, usable) > TEXTURE_LEVELS)
    dimmed = min(1.0, contrast_now / contrast_before)
    was = cell_texture(before.detail, usable) * dimmed
    return np.asarray(np.maximum(was, cell_texture(now.detail, usable)) > TEXTURE_LEVELS)


def vanished(before: Planes, now: Planes) -> bool:
    """Whether one of two pictures lacks the detail of the other at about the same light.

    A light that takes all detail along leaves black or dims detail and light alike; or white, and
    of that no point is usable.
    """
    less, more = sorted((float(before.detail.std()), float(now.detail.std())))
    darker, lighter = sorted((float(before.luma.mean()), float(now.luma.mean())))
    return less < VANISHED_SHARE * more and lighter < 2.0 * darker


def camera_shift(before: Planes, now: Planes, usable: Mask, cells: Mask) -> CameraShift:
    """The shift that most cells follow; no shift where they do not agree on one."""
    rest = cell_correlation(before.detail, now.detail, usable)
    near = _weigh(before, now, usable, cells, rest, (0.0, 0.0))
    is_plain = bool((rest > FOUND_CORRELATION)[cells].all()) or near.agreement > 1 - WIDE_MARGIN
    if not is_plain:
        right, down, _ = wide_search(before.coarse_detail, now.coarse_detail)
        far = _weigh(before, now, usable, cells, rest, (2.0 * right, 2.0 * down))
        if far.agreement >= max(CAMERA_AGREEMENT, near.agreement + WIDE_MARGIN):
            return far
    if near.agreement >= CAMERA_AGREEMENT:
        return near
    return CameraShift(0.0, 0.0, near.found, near.agreement)


def _weigh(
    before: Planes,
    now: Planes,
    usable: Mask,
    cells: Mask,
    rest: Float32,
    guess: tuple[float, float],
) -> CameraShift:
    right, down = refine_shift(before.detail, now.detail, *guess)
    seen = inside(right, down)
    there = cells & (block_means(seen.astype(np.float32), CELLS) >= 0.5)
    count = int(there.sum())
    if count < 3:
        return CameraShift(right, down, 0.0, 0.0)
    moved = cell_correlation(shifted(before.detail, right, down), now.detail, usable & seen)
    found = np.maximum(moved, rest) > FOUND_CORRELATION
    follows = (1.0 - moved) < PREFERENCE * (1.0 - rest)
    return CameraShift(
        right,
        down,
        found=float(found[there].sum()) / count,
        agreement=float((follows & (moved > FOUND_CORRELATION))[there].sum()) / count,
    )


def found_share(
    before: Planes, now: Planes, shift: CameraShift, maps: Float32, usable: Mask, cells: Mask
) -> float:
    """Share of recognisable cells found again: at rest, with the camera, or by block matching."""
    count = int(cells.sum())
    if count == 0:
        return 1.0
    rests = cell_correlation(before.detail, now.detail, usable) > FOUND_CORRELATION
    if rests[cells].all():
        return 1.0
    moved = shifted_by_cells(before.detail, maps[0] / PX_PER_POINT, maps[1] / PX_PER_POINT)
    matched = cell_correlation(moved, now.detail, usable) > FOUND_CORRELATION
    found = rests | (matched & moves_with_neighbour(maps[:2], matched))
    by_cells = float(found[cells].sum()) / count
    return max(by_cells, shift.found)


def moves_with_neighbour(displacement: Float32, matched: Mask) -> Mask:
    """(7, 7) bool: cells with a matched neighbour that moved alike; chance matches scatter.

    Args:
        displacement: (2, 7, 7) float32, px.
        matched: (7, 7) bool.
    """
    alike = np.zeros_like(matched)
    across = np.abs(displacement[:, :, 1:] - displacement[:, :, :-1]).max(axis=0) <= ALIKE_PX
    alike[:, :-1] |= across & matched[:, 1:]
    alike[:, 1:] |= across & matched[:, :-1]
    along = np.abs(displacement[:, 1:] - displacement[:, :-1]).max(axis=0) <= ALIKE_PX
    alike[:-1] |= along & matched[1:]
    alike[1:] |= along & matched[:-1]
    return alike


def palette_kept(before: Planes, now: Planes, stops: float) -> float:
    """Share of the picture's colours that stay when the change of light is taken out, [0, 1]."""
    lit = np.minimum(before.rgb * np.float32(2.0**stops), np.float32(255.0))
    return float(np.minimum(_palette(lit), _palette(now.rgb)).sum())


def _palette(rgb: Float32) -> Float32:
    bins = (rgb * np.float32(PALETTE_BINS / 256.0)).astype(np.intp)
    index = (bins[..., 0] * PALETTE_BINS + bins[..., 1]) * PALETTE_BINS + bins[..., 2]
    counts = np.bincount(index.ravel(), minlength=PALETTE_BINS**3)
    return np.asarray(counts / index.size, np.float32)


def light_change(before: Planes, now: Planes, shift: CameraShift) -> tuple[float, float]:
    """Median change of light in stops, and the share of the picture that it holds for."""
    moved = shifted(before.luma, shift.right, shift.down)
    usable = inside(shift.right, shift.down)
    open_points = usable & (now.luma < 245.0) & (moved < 245.0)
    if open_points.sum() >= 0.1 * usable.sum():
        usable = open_points
    ratio = np.log2((now.luma[usable] + LIGHT_PEDESTAL) / (moved[usable] + LIGHT_PEDESTAL))
    if ratio.size == 0:
        return 0.0, 0.0
    stops = float(np.median(ratio))
    return stops, float((np.abs(ratio - stops) <= max(0.15, 0.5 * abs(stops))).mean())


def unexplained(
    before: Planes, now: Planes, shift: CameraShift, valid: Mask, stops: float
) -> tuple[Float32, Float32]:
    """What camera and light leave of the difference, and how much of that is no movement.

    Returns:
        Two (56, 56) float32 arrays, grey levels.
    """
    moved = shifted(before.detail, shift.right, shift.down)
    expected = light_gain(moved, now.detail, valid) * moved
    if shift.right or shift.down:
        lowest, highest = neighbourhood(smoothed(expected))
        seen = smoothed(now.detail)
        residual = np.maximum(seen - highest, lowest - seen).clip(min=0.0) * valid
    else:
        residual = np.abs(now.detail - expected) * valid
    across, along = np.gradient(now.detail, axis=1), np.gradient(now.detail, axis=0)
    tolerance = GRADIENT_POINTS * np.hypot(across, along)
    tolerance += LIGHT_TOLERANCE * abs(stops) * np.abs(expected)
    return np.asarray(residual, np.float32), np.asarray(tolerance, np.float32)


def smoothed(picture: Float32) -> Float32:
    """The picture after a 3 x 3 binomial filter, edges repeated."""
    padded = np.pad(picture, 1, mode="edge")
    rows = 0.25 * (padded[:-2] + 2 * padded[1:-1] + padded[2:])
    return np.asarray(0.25 * (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]), np.float32)


def neighbourhood(picture: Float32) -> tuple[Float32, Float32]:
    """Lowest and highest value among each point and its eight neighbours.

    A picture that shifts by parts of a point is sampled anew: what lies between these two may be
    that alone.
    """
    padded = np.pad(picture, 1, mode="edge")
    low = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    high = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    low = np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
    high = np.maximum(np.maximum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def plain_noise(residual: Float32, tolerance: Float32, valid: Mask) -> float:
    """Noise of the camera, grey levels: what differs at the points that have the least texture."""
    if not valid.any():
        return 0.0
    plain = valid & (tolerance <= np.quantile(tolerance[valid], PLAIN_SHARE))
    return float(np.quantile(residual[plain], 0.3)) / 0.385  # 30 % of a normal lie within 0.385


def moving_share(residual: Float32, tolerance: Float32, valid: Mask) -> float:
    """Share of blocks in which the difference is movement, [0, 1]."""
    moving = ((residual > tolerance) & valid).astype(np.float32)
    return float((block_means(moving, BLOCKS) >= BLOCK_SHARE).mean())
