"""Where frames come from: one protocol, and every kind of source there is.

A source promises to return control: `frames` yields a Frame, or None when 100 ms have passed
without one. Only the decoding of a single picture may stretch that. Whoever reads it can therefore
stop, answer and time out at any moment, with no thread in between.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .addresses import redacted
from .errors import SettingsInvalid, SourceUnknown
from .live_rules import LiveRules
from .records import Record
from .values import Frame

RETURN_WITHIN_S = 0.1
"""The bound that `frames` keeps: five missed returns are half a second, which a person notices."""

FASTEST_FPS = 120.0
LARGEST_SIDE_PX = 16384
SMALLEST_SIDE_PX = 16


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What the user chooses about a source.

    Attributes:
        fps: frames looked at per second of stream time; more than 0, at most 120. The default, 4,
            is what the reference assistant is trained with.
        max_side_px: larger frames are scaled down to this longer side, so that memory stays
            bounded; 16 to 16384. With the default, 1280, 720p passes untouched and an 8K frame
            becomes 2.8 MB of pixels; a guess, to be measured.
        live: how patient a source is that can be lost.

    Raises:
        SettingsInvalid: out of range.
    """

    fps: float = 4.0
    max_side_px: int = 1280
    live: LiveRules = field(default_factory=LiveRules)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and 0 < self.fps <= FASTEST_FPS):
            raise SettingsInvalid(
                f"source.fps is {self.fps}, expected more than 0 and at most {FASTEST_FPS:g}"
            )
        if not SMALLEST_SIDE_PX <= self.max_side_px <= LARGEST_SIDE_PX:
            raise SettingsInvalid(
                f"source.max_side_px is {self.max_side_px}, "
                f"expected {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX}"
            )


class Source(Protocol):
    """A stream of frames with times."""

    @property
    def name(self) -> str:
        """The camera's name in records."""

    @property
    def is_live(self) -> bool:
        """Whether it goes on without us; False for files, which wait."""

    @property
    def duration_s(self) -> float | None:
        """How long it will be, seconds, as far as it says; None where unknown. For progress."""

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """The frames from the beginning, in order; None: nothing new within 100 ms.

        A generator, which owns what it opens and closes it when it ends or is closed.

        Args:
            tell: takes the records about the source itself (camera, warning, drop).

        Raises:
            SourceError: nothing in it can be used. Faults after a good part are records.
        """

    def now_s(self) -> float:
        """Stream time now, seconds: of the last frame given; after the end, its end time."""


class ReturnClock:
    """Says when a source must return control although it has no frame yet.

    Args:
        monotonic: a clock that never goes back, seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.reset()

    def reset(self) -> None:
        """Control was away and is back: count from now."""
        self._since_s = self._monotonic()

    def is_due(self) -> bool:
        """Whether RETURN_WITHIN_S has passed since control came back."""
        return self._monotonic() - self._since_s >= RETURN_WITHIN_S


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source.

    Attributes:
        address: how the user writes it.
        claims: whether an address is of this kind; asked in the order of KINDS.
        open: makes the source, or raises a SourceError.
    """

    address: str
    claims: Callable[[str], bool]
    open: Callable[[str, SourceSettings], Source]


def _open_scripted(address: str, settings: SourceSettings) -> Source:
    from .source_scripted import scripted_source

    return scripted_source(address, settings)


def _open_images(address: str, settings: SourceSettings) -> Source:
    from .source_images import ImageFolder

    return ImageFolder(address, settings)


def _open_file(address: str, settings: SourceSettings) -> Source:
    from .source_file import VideoFile

    return VideoFile(address, settings)


def _open_network(address: str, settings: SourceSettings) -> Source:
    from .live_kinds import network_source

    return network_source(address, settings)


def _open_device(address: str, settings: SourceSettings) -> Source:
    from .live_kinds import device_source

    return device_source(address, settings)


def _open_gst(address: str, settings: SourceSettings) -> Source:
    from .live_kinds import gst_source

    return gst_source(address, settings)


def _open_screen(address: str, settings: SourceSettings) -> Source:
    from .live_kinds import screen_source

    return screen_source(address, settings)


def _open_loop(address: str, settings: SourceSettings) -> Source:
    from .live_kinds import loop_source

    return loop_source(address, settings)


def _open_pushed(address: str, settings: SourceSettings) -> Source:
    from .source_pushed import pushed_source

    return pushed_source(address, settings)


def _begins(*beginnings: str) -> Callable[[str], bool]:
    return lambda address: address.startswith(beginnings)


def _is_device(address: str) -> bool:
    return address.startswith("v4l2:") or re.match(r"/dev/video\d+(\?|$)", address) is not None


def _has_scheme(address: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address) is not None


KINDS: dict[str, Kind] = {
    "scripted": Kind("test:NAME[?seed=N]", _begins("test:"), _open_scripted),
    "rtsp": Kind(
        "rtsp[s]://[USER:PASSWORD@]HOST/PATH", _begins("rtsp://", "rtsps://"), _open_network
    ),
    "http": Kind(
        "http[s]://HOST/PATH (MJPEG or HLS)", _begins("http://", "https://"), _open_network
    ),
    "v4l2": Kind("[v4l2:]/dev/videoN[?size=WxH&fps=N&format=F]", _is_device, _open_device),
    "gst": Kind("gst:PIPELINE", _begins("gst:"), _open_gst),
    "screen": Kind("screen:[DISPLAY][?size=WxH&fps=N]", _begins("screen:"), _open_screen),
    "loop": Kind("loop:FILE", _begins("loop:"), _open_loop),
    "browser": Kind("browser:", _begins("browser:"), _open_pushed),
    "images": Kind("a folder of images", os.path.isdir, _open_images),
    "file": Kind("a video file", lambda text: not _has_scheme(text), _open_file),
}


def tells_its_state(source: Source) -> bool:
    """Whether it says itself when it is open, lost or paused: a live source, wrapped or not."""
    return hasattr(source, "state")


def open_source(address: str, settings: SourceSettings) -> Source:
    """The source at an address; nothing is held open until its frames are read.

    Args:
        address: one of those that KINDS lists.
        settings: how it is sampled, and how patient it is where it is live.

    Raises:
        SourceUnknown: no kind of source takes this address.
        SettingsInvalid: an option in it is wrong.
        SourceMissing: nothing is there.
        SourceUnreadable: something is there, but it cannot be read or is no video.
        SourceHasNoVideo: it can be read and holds no picture.

    Cost: a file is opened and closed once, to see what it is; some ten milliseconds.
    """
    for kind in KINDS.values():
        if kind.claims(address):
            return kind.open(address, settings)
    scheme = address.split("://")[0]
    raise SourceUnknown(
        f"got the source {redacted(address)!r}, but nothing here reads {scheme}://; "
        f"expected {_listed([kind.address for kind in KINDS.values()])}",
        hint="record it to a file first and give that file",
    )


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]
