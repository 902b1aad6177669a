"""What the pictures of a calibration set are compared by: how they look, or a model's summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..calibration.look import look_of
from ..runtime.manifest_values import FrameInput
from ..runtime.preprocess import fitted_picture, small_picture
from ..runtime.values import Float32, Frame, UInt8

if TYPE_CHECKING:
    from ..runtime.vision import VisionEncoder
    from .settings_tables import Settings

NEAR_LOOK = 0.01
"""Real clips of a camera that stands still, half a second apart: noise and codec make 0.002 to
0.007, a person who turns her head 0.02 and more."""
SAME_LOOK = 0.005
"""Below it, a model need not be asked whether a picture is another one."""
NEAR_SUMMARY = 0.05
"""The same pictures by the reference assistant's vision: up to 0.05, and 0.07 and more."""
Fit = Callable[[UInt8], UInt8]


class Look(Protocol):
    """Turns pictures into vectors whose distance says how much they differ.

    Attributes:
        name: for the set's settings.
        near: distance below which two pictures are the same, unless somebody says otherwise.
        frame_input: what the model reads; None without one.
    """

    name: str
    near: float
    frame_input: FrameInput | None

    def __call__(self, frame: Frame) -> Float32:
        """The vector of a frame; frames come in their order."""

    def reset(self) -> None:
        """Another source begins."""


class PlainLook:
    """Light, colour and edges by place; see `look_of`."""

    name, near = "look", NEAR_LOOK
    frame_input: FrameInput | None = None

    def __call__(self, frame: Frame) -> Float32:
        """(160,) float32."""
        return look_of(small_picture(frame.pixels))

    def reset(self) -> None:
        """Nothing is remembered."""


class SummaryLook:
    """The vision summary of a bundle, of unit length: of the picture alone, as if nothing moved.

    A picture that looks like the one before has its summary, so that a still scene costs nothing.
    """

    near = NEAR_SUMMARY

    def __init__(self, encoder: VisionEncoder, name: str, frame_input: FrameInput) -> None:
        self.name = f"summary of {name}"
        self.frame_input: FrameInput | None = frame_input
        self._encoder = encoder
        self._last: tuple[Float32, Float32] | None = None

    def __call__(self, frame: Frame) -> Float32:
        """(dim,) float32."""
        look = look_of(small_picture(frame.pixels))
        if self._last is None or float(np.linalg.norm(look - self._last[0])) >= SAME_LOOK:
            self._encoder.reset()
            self._last = look, self._encoder.encode(frame).summary
        return self._last[1]

    def reset(self) -> None:
        """The next frame is a first one."""
        self._last = None


@contextmanager
def look_for(bundle: Path | None, settings: Settings) -> Iterator[Look]:
    """What compares the pictures, for as long as the block lasts.

    Raises:
        BundleError, EngineError: the bundle's vision cannot be used.
    """
    if bundle is None:
        yield PlainLook()
        return
    from ..runtime.bundle import open_bundle
    from ..runtime.engine_pool import engine_pool
    from ..runtime.vision import VisionEncoder
    from .speech_rules import engine_rules

    opened = open_bundle(bundle)
    rules = engine_rules(settings)
    with engine_pool(opened, rules) as pool:
        engine = pool.lease("vision").engine
        encoder = VisionEncoder(engine, opened.manifest.input, pool.lane)
        yield SummaryLook(encoder, opened.manifest.name, opened.manifest.input)


def fit_of(first: UInt8, frame_input: FrameInput | None, size_px: int | None, most_px: int) -> Fit:
    """How all pictures of a set get their size, which is that of the model's input where one is.

    Else they keep the proportions of the first picture; others are cut to them. The export brings
    them to the size of its model in the model's own way.

    Args:
        first: (height, width, 3) uint8 RGB, of the first source.
        frame_input: of the bundle; None without one.
        size_px: longer side that was asked for.
        most_px: longer side where none was.
    """
    if frame_input is not None and size_px is None:
        return lambda pixels: fitted_picture(pixels, frame_input)
    height, width = first.shape[:2]
    scale = min(1.0, (size_px or most_px) / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    wanted = FrameInput(size_px=size, fps=1.0, resize="crop")
    return lambda pixels: fitted_picture(pixels, wanted)
