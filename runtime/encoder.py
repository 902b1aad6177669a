"""The encoder of a run without a model: Features from pixels alone."""

from __future__ import annotations

import numpy as np

from .motion import MotionDetector, thumbnail_summary
from .preprocess import small_picture
from .values import Features, Frame


class PixelEncoder:
    """Motion and a thumbnail of each frame; no tokens, since nobody could read them.

    State: that of its MotionDetector, a few small pictures and some numbers.
    """

    def __init__(self) -> None:
        self._motion = MotionDetector()

    def encode(self, frame: Frame) -> Features:
        """Features of the frame: no tokens (0, 0), summary (147,) of unit length, motion.

        Cost: about 3 ms for 1280x720 on one core, most of it the scaling to 112 x 112.
        """
        small = small_picture(frame.pixels)
        motion = self._motion.step_small(small, frame.time_s)
        return Features(
            time_s=frame.time_s,
            tokens=np.zeros((0, 0), np.float32),
            summary=thumbnail_summary(small),
            motion=motion,
            is_still=motion.is_still,
        )

    def reset(self) -> None:
        """Start again: the next frame is a first frame."""
        self._motion.reset()
