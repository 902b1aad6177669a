"""Stage 0: what changed since the last picture, from a 112 x 112 picture and no model.

Camera shift and light are found first and taken out; what is left, against the running noise of
this camera, is movement in the scene.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from .block_matching import CELLS, block_means
from .camera_shift import inside
from .luma_planes import Planes, planes_from_small_picture
from .picture_change import (
    BLOCKS,
    PX_PER_POINT,
    camera_shift,
    found_share,
    light_change,
    motion_maps,
    moving_share,
    palette_kept,
    plain_noise,
    recognisable_cells,
    unexplained,
)
from .preprocess import SMALL_PX, small_picture
from .values import Float32, Frame, Motion, UInt8

NOISE_FRAMES = 32
"""Frames that the running noise is taken over, LEAST_S or more apart: 8 s at 4 frames/s."""
NOISE_FLOOR = 0.35
"""Grey levels: rounding and resizing alone leave about this much on a 56 x 56 grid."""
NOISE_SIGMAS = 4.0
"""Standard deviations of noise that are no movement."""
LEAST_S = 0.125
"""Time that the kept picture serves for, seconds: within less, a camera that turns slowly shifts
the picture too little to be told from what moves."""
TIME_ROUNDING_S = 0.002
"""Files round times to a millisecond, at both ends: eight frames a second are 0.125 s apart."""
CODEC_LEVELS = 3.0
"""Grey levels that are no movement: a codec moves whole blocks of a plain picture by so much."""
STILL_SHIFT_PX, STILL_STOPS, STILL_CHANGE = 0.3, 0.04, 4.0
"""A frame with less shift, less light and less change than this, and nothing moving, is still."""


def thumbnail_summary(small: UInt8) -> Float32:
    """A vector by which two pictures can be compared without a model.

    Args:
        small: (112, 112, 3) uint8 RGB.

    Returns:
        (147,) float32 of unit length: 7 x 7 cells x RGB less their mean; all zero if plain.
    """
    step = SMALL_PX // CELLS
    cells = small.reshape(CELLS, step, CELLS, step, 3).mean(axis=(1, 3), dtype=np.float32)
    vector = (cells - cells.mean(axis=(0, 1))).ravel()
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 1e-3 else np.zeros_like(vector), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MotionState:
    """All that a `MotionDetector` carries from frame to frame.

    Attributes:
        planes: of the picture that the next one is compared with; None before the first.
        time_s: of that picture, seconds.
        noise: noise of the last frames, grey levels, newest last.
        change: frame differences of the last frames, grey levels, newest last.
    """

    planes: Planes | None
    time_s: float
    noise: tuple[float, ...]
    change: tuple[float, ...]


class MotionDetector:
    """Measures what changed since the picture before, or since one up to 0.125 s back.

    State: one small picture and 2 x 32 numbers.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts again: the next frame is a first frame."""
        self._planes: Planes | None = None
        self._time_s = 0.0
        self._noise: deque[float] = deque(maxlen=NOISE_FRAMES)
        self._change: deque[float] = deque(maxlen=NOISE_FRAMES)

    def snapshot(self) -> MotionState:
        """The state, to be put back by `restore`."""
        return MotionState(self._planes, self._time_s, tuple(self._noise), tuple(self._change))

    def restore(self, state: MotionState) -> None:
        """Continues from a state as if nothing had been between."""
        self.reset()
        self._planes, self._time_s = state.planes, state.time_s
        self._noise.extend(state.noise)
        self._change.extend(state.change)

    def step(self, frame: Frame) -> Motion:
        """What changed since the kept picture: that of the frame before, at 8 frames/s and less.

        A faster stream keeps one picture for LEAST_S; the frames between are compared with it too.

        Args:
            frame: any size; every frame of a stream has its turn.

        Returns:
            Motion; of a first frame: zero maps, `is_first`, not still.

        Cost: about 2 ms on one core besides the resize.
        """
        return self.step_small(small_picture(frame.pixels), frame.time_s)

    def step_small(self, small: UInt8, time_s: float) -> Motion:
        """The same for a picture of (112, 112, 3) uint8 RGB that is already there."""
        now = planes_from_small_picture(small)
        before, over_s = self._planes, time_s - self._time_s
        is_kept = before is None or over_s >= LEAST_S - TIME_ROUNDING_S
        if is_kept:
            self._planes, self._time_s = now, time_s
        if before is None:
            return Motion(
                maps=np.zeros((6, CELLS, CELLS), np.float32),
                level=float(now.luma.mean()),
                contrast=float(now.detail.std()),
                is_first=True,
                is_still=False,
            )
        return self._compare(before, now, over_s, is_kept)

    def _compare(self, before: Planes, now: Planes, over_s: float, is_kept: bool) -> Motion:
        usable = ~(before.clipped | now.clipped)
        cells = recognisable_cells(before, now, usable)
        shift = camera_shift(before, now, usable, cells)
        valid = inside(shift.right, shift.down) & usable
        maps = motion_maps(before, now)
        stops, light_share = light_change(before, now, shift)
        residual, tolerance = unexplained(before, now, shift, valid, stops)
        noise = plain_noise(residual, tolerance, valid)
        if is_kept and not (shift.right or shift.down):
            self._noise.append(noise)  # a shifted picture is smoothed, its noise with it
        running = float(np.median(self._noise)) if self._noise else 0.0
        noise = max(running, noise, NOISE_FLOOR)
        difference = float(np.quantile(block_means(residual, BLOCKS), 0.9))
        change = deviations(difference, self._change)
        if is_kept:
            self._change.append(difference)
        moving = moving_share(residual, tolerance + max(NOISE_SIGMAS * noise, CODEC_LEVELS), valid)
        shift_px = (PX_PER_POINT * shift.right, PX_PER_POINT * shift.down)
        return Motion(
            maps=maps,
            light_stops=stops,
            light_share=light_share,
            level=float(now.luma.mean()),
            contrast=float(now.detail.std()),
            shift_px=shift_px,
            agreement=shift.agreement,
            found=found_share(before, now, shift, maps, usable, cells),
            palette=palette_kept(before, now, stops),
            recognisable=float(cells.mean()),
            moving=moving,
            change=change,
            over_s=over_s,
            is_between=not is_kept,
            noise=noise,
            is_still=moving == 0 and _rests(shift_px, stops, change),
        )


def _rests(shift_px: tuple[float, float], stops: float, change: float) -> bool:
    """Whether shift, light and change are all too small to see."""
    return (
        max(abs(shift_px[0]), abs(shift_px[1])) < STILL_SHIFT_PX
        and abs(stops) < STILL_STOPS
        and change < STILL_CHANGE
    )


def deviations(value: float, history: deque[float]) -> float:
    """How far a value lies above the median of its history, in robust standard deviations."""
    if not history:
        return 0.0
    past = np.asarray(history)
    middle = float(np.median(past))
    spread = 1.4826 * float(np.median(np.abs(past - middle)))
    return max(0.0, (value - middle) / max(spread, 0.25 * middle, 0.1))
