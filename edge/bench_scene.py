"""What a benchmark looks at: pictures that never stand still, with a stream clock of their own."""

from __future__ import annotations

import numpy as np

from ..runtime.values import Frame

HEIGHT_PX, WIDTH_PX = 720, 1280
"""What a camera gives, and what larger pictures are scaled to (`source.max_side_px`)."""
SQUARE_PX, STEP_PX = 32, 48
"""Side of a square on the wall; how far the camera turns from one picture to the next, which is 4
of the 112 px that stage 0 compares."""
STEP_S = 0.25
"""Stream time between two pictures; stage 0 compares each with the one before."""


class Scene:
    """A camera that turns along a wall of coloured squares without end.

    State: how many pictures it gave. One thread at a time takes pictures; any may read the clock.

    Attributes:
        count: pictures that it gave; the index of the next one.
    """

    def __init__(self) -> None:
        squares = np.random.default_rng(0).integers(
            0, 256, (-(-HEIGHT_PX // SQUARE_PX), 2 * WIDTH_PX // SQUARE_PX, 3), np.uint8
        )
        self._wall = np.kron(squares, np.ones((SQUARE_PX, SQUARE_PX, 1), np.uint8))[:HEIGHT_PX]
        self.count = 0

    @property
    def now_s(self) -> float:
        """Time of the last picture, seconds."""
        return max(self.count - 1, 0) * STEP_S

    def next(self) -> Frame:
        """The next picture, 1280 x 720; never that of before."""
        index = self.count
        self.count += 1
        left = index * STEP_PX % WIDTH_PX
        pixels = np.ascontiguousarray(self._wall[:, left : left + WIDTH_PX])
        return Frame(index, index * STEP_S, pixels)
