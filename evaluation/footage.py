"""Real footage as arrays, and windows to crop it with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.sources import SourceSettings, open_source
from ..runtime.values import UInt8

LARGEST_PX = 640


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """Decoded pictures of one real clip.

    Attributes:
        name: of the clip.
        times_s: of each picture, seconds, rising.
        pictures: (height, width, 3) uint8 RGB each.
    """

    name: str
    times_s: tuple[float, ...]
    pictures: tuple[UInt8, ...]

    def at(self, time_s: float) -> UInt8:
        """The picture at a time; forwards and backwards in turn where the clip is shorter."""
        length_s = self.times_s[-1] - self.times_s[0]
        turn, rest = divmod(time_s, max(length_s, 1e-6))
        there = self.times_s[0] + (rest if turn % 2 == 0 else length_s - rest)
        index = int(np.searchsorted(self.times_s, there + 1e-9)) - 1
        return self.pictures[min(max(index, 0), len(self.pictures) - 1)]


@dataclass(frozen=True, slots=True)
class Window:
    """A crop: left upper corner and size, px."""

    left: float
    top: float
    width: int
    height: int

    def of(self, picture: UInt8) -> UInt8:
        """The cropped picture; the window is kept inside."""
        height, width = picture.shape[:2]
        x = round(min(max(self.left, 0), width - self.width))
        y = round(min(max(self.top, 0), height - self.height))
        return picture[y : y + self.height, x : x + self.width]

    def overlap(self, other: Window) -> float:
        """Share of this window that lies in the other one."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        along = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return max(across, 0.0) * max(along, 0.0) / (self.width * self.height)


def footage_from_file(path: Path, *, fps: float = 8.0, from_s: float = 0.5) -> Footage:
    """The pictures of a video file at a rate, without its first moment.

    Args:
        path: any video that PyAV decodes.
        fps: pictures kept per second; all later sampling takes the nearest earlier one.
        from_s: where to begin, seconds: edited clips often keep a remnant of the shot before.
    """
    import av

    times: list[float] = []
    pictures: list[UInt8] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            time_s = float(frame.time or 0.0)
            if time_s >= from_s and (not times or time_s >= times[-1] + 1 / fps - 0.01):
                times.append(time_s)
                pictures.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    return Footage(path.stem, tuple(times), tuple(pictures))


def footage_from_source(address: str, *, fps: float, most: int = 72) -> Footage:
    """The first pictures of a file as a device reads it, at most 640 pixels wide or high.

    Args:
        address: of a source of `edgestream run`.
        fps: pictures per second.
        most: how many are kept.

    Raises:
        SourceError: there is nothing to be read.

    Cost: up to 0.7 MB a picture.
    """
    settings = SourceSettings(fps=fps, max_side_px=LARGEST_PX)
    times: list[float] = []
    pictures: list[UInt8] = []
    for frame in open_source(address, settings).frames(lambda record: None):
        if frame is None:
            continue
        times.append(frame.time_s)
        pictures.append(frame.pixels)
        if len(times) == most:
            break
    return Footage(Path(address).stem, tuple(times), tuple(pictures))
