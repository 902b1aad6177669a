"""A folder of images as a source: each image is one sampled frame, in natural order."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import (
    SourceError,
    SourceHasNoFrames,
    SourceHasNoVideo,
    SourceMissing,
    SourceUnreadable,
)
from .opening import check_present, opened, video_stream
from .records import Record, warning
from .rgb_from_av import RgbConverter
from .sources import ReturnClock, SourceSettings
from .values import Frame, UInt8

SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


class ImageFolder:
    """The images of one folder, `fps` of them per second. See `Source` for the protocol.

    Hidden files and other kinds of files are passed over. EXIF orientation is applied, except that
    a mirrored one is not mirrored back.

    Args:
        path: of the folder; its sub-folders are not looked into.
        settings: images per second of stream time, and largest side.
        monotonic: a clock that never goes back, seconds; for the 100 ms bound.

    Raises:
        SourceMissing: no such folder.
        SourceUnreadable: it may not be read.
        SourceHasNoVideo: no image in it.
    """

    is_live = False

    def __init__(
        self,
        path: str,
        settings: SourceSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = _folder_name(path)
        self._path = path
        self._settings = settings
        self._monotonic = monotonic
        self._now_s = 0.0
        self._files = _image_files(path)
        self.duration_s: float | None = len(self._files) / settings.fps

    def now_s(self) -> float:
        """Stream time of the last image given, seconds; after the end, when that image ends."""
        return self._now_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """One frame per readable image, at index / fps; None where none came for 100 ms.

        Args:
            tell: takes one `warning` record (`image-unreadable`) for each image left out.

        Raises:
            SourceHasNoFrames: not one image could be read.
        """
        self._now_s = 0.0
        returned = ReturnClock(self._monotonic)
        converter = RgbConverter(self._settings.max_side_px)
        index = 0
        for path in self._files:
            try:
                pixels = _pixels(path, converter)
            except SourceError as error:
                tell(warning("image-unreadable", f"{error.message}; it was left out"))
                if returned.is_due():
                    yield None
                    returned.reset()
                continue
            self._now_s = index / self._settings.fps
            yield Frame(index, self._now_s, pixels)
            index += 1
            returned.reset()
        if index == 0:
            raise SourceHasNoFrames(
                f"not one of the {len(self._files)} images in {self._path} could be read"
            )
        self._now_s = index / self._settings.fps


def _folder_name(path: str) -> str:
    try:
        return Path(os.path.abspath(path)).name or "images"
    except FileNotFoundError as error:
        raise SourceMissing(
            f"{path} cannot be found: the current folder is no longer there",
            hint="change to a folder that exists",
        ) from error


def _image_files(folder: str) -> tuple[str, ...]:
    check_present(folder)
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise SourceUnreadable(f"{folder} cannot be read: {error.strerror}") from error
    images = [
        name
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
    ]
    if not images:
        raise SourceHasNoVideo(
            f"{folder} holds no image ({len(names)} other files), "
            f"expected one of {' '.join(sorted(SUFFIXES))}"
        )
    return tuple(os.path.join(folder, name) for name in sorted(images, key=_natural_key))


def _natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Numbers by their value and before letters, so that "2" comes before "10" and before "a"."""
    parts = re.split(r"([0-9]+)", os.path.splitext(name)[0].lower())
    key = [
        (False, int(part), "") if part.isdecimal() else (True, 0, part) for part in parts if part
    ]
    return key, name


def _pixels(path: str, converter: RgbConverter) -> UInt8:
    """(height, width, 3) uint8 RGB of the image's first picture.

    Raises:
        SourceError: it cannot be opened or decoded.
    """
    import av

    with opened(path) as container:
        stream = video_stream(container, path)
        try:
            for picture in container.decode(stream):
                return converter.convert(picture)
        except av.FFmpegError as error:
            raise SourceUnreadable(f"{path} cannot be decoded: {error.strerror}") from error
    raise SourceHasNoFrames(f"{path} holds no picture")
