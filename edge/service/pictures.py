"""The newest picture of a camera, as JPEG where somebody looks, encoded once per frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.errors import PictureMissing
from ...runtime.records import Record
from ...runtime.sources import Source
from ...runtime.values import Frame, UInt8

if TYPE_CHECKING:
    pass

WIDTHS_KEPT = 4
"""Encoded pictures of the newest frame that are kept: who looks uses one of a few widths."""
QUALITY = 4
"""Of the JPEG encoder, 2 (best) to 31: at 4 a face stays a face, at a sixth of the bytes of 2."""


def jpeg_from_rgb(pixels: UInt8, width: int | None = None) -> bytes:
    """A JPEG of a picture.

    Args:
        pixels: (height, width, 3) uint8 RGB.
        width: in px, at most; None, or more than it has, leaves its size.

    Cost: 7 ms for 1280x720 on one core, 3 ms when scaled to a width of 640.
    """
    import av

    # from_ndarray reads rows from start to end: a cropped or mirrored view has to be copied first.
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    rows, columns = pixels.shape[:2]
    size = (rows, columns)
    if width is not None and width < columns:
        size = (max(1, round(rows * width / columns)), width)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = size
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"qmin": str(QUALITY), "qmax": str(QUALITY)}
    scaled = picture.reformat(size[1], size[0], "yuvj420p", interpolation="AREA")
    return b"".join(bytes(packet) for packet in (*encoder.encode(scaled), *encoder.encode(None)))


class Pictures:
    """The newest frame of a camera. `show` is called by its thread, the rest by any.

    State: one frame, and at most WIDTHS_KEPT JPEGs of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._shown = 0
        self._encoded: dict[int, bytes] = {}
        self._of: Frame | None = None

    @property
    def number(self) -> int:
        """Of the newest frame, from 1; 0 before the first."""
        return self._shown

    def show(self, frame: Frame) -> None:
        """This frame is the newest. Costs nothing: one reference."""
        self._frame, self._shown = frame, self._shown + 1

    def forget(self) -> None:
        """There is no picture any more."""
        with self._lock:
            self._frame, self._of = None, None
            self._encoded.clear()

    def jpeg(self, width: int) -> bytes:
        """The newest frame, at most so many px wide.

        Raises:
            PictureMissing: there is none yet.
        """
        with self._lock:
            frame = self._frame
            if frame is None:
                raise PictureMissing(
                    "this camera has given no picture yet", hint="ask again when it is open"
                )
            if frame is not self._of:
                self._encoded.clear()
                self._of = frame
            if width not in self._encoded:
                while len(self._encoded) >= WIDTHS_KEPT:
                    del self._encoded[next(iter(self._encoded))]
                self._encoded[width] = jpeg_from_rgb(frame.pixels, width)
            return self._encoded[width]


class ShownSource:
    """A source whose frames are shown as they are handed over; see `Source` for the protocol.

    Args:
        source: of the camera, masked already.
        name: of the camera.
        pictures: take each frame.
        has_stopped: whether the stream shall end here: what was seen is told to its end.
    """

    def __init__(
        self, source: Source, name: str, pictures: Pictures, has_stopped: Callable[[], bool]
    ) -> None:
        self.name, self.is_live, self.duration_s = name, source.is_live, source.duration_s
        self._source, self._pictures, self._has_stopped = source, pictures, has_stopped

    def __getattr__(self, name: str) -> Any:
        """What else the source offers, such as `state`."""
        if name.startswith("_"):  # while it is made, there is no inner source yet
            raise AttributeError(name)
        return getattr(self._source, name)

    def now_s(self) -> float:
        """Stream time now, seconds."""
        return self._source.now_s()

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """The frames of the inner source, until it ends or is to stop."""
        inner = self._source.frames(tell)
        try:
            for frame in inner:
                if self._has_stopped():
                    return
                if frame is not None:
                    self._pictures.show(frame)
                yield frame
        finally:
            if isinstance(inner, Generator):
                inner.close()
