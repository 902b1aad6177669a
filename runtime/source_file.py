"""A video file as a source: its frames at their own times, sampled on an even grid.

Every picture is decoded, only sampled ones become RGB. Leaving out non-reference pictures would
save 14 % of the decoding time (720p30, x264 veryfast), but move samples by as many pictures as
stand between two references, and lose frames at a high rate: the exact way was kept.
Control comes back within 100 ms plus the decoding of one picture, at the start plus the opening.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .declared_times import (
    declared_duration_s,
    declared_interval_s,
    raw_time_s,
    stores_display_times,
)
from .errors import SourceHasNoFrames
from .opening import opened, video_stream
from .records import Record, camera_state, warning
from .rgb_from_av import RgbConverter
from .sampling import Sampler
from .sources import ReturnClock, SourceSettings
from .timeline import Timeline
from .values import Frame, UInt8

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# A file that ends this much before its declared end is called truncated. Containers round, and
# the last frame's duration is often left out: neither comes near a second.
MISSING_AT_LEAST_S = 1.0
MISSING_AT_LEAST_PART = 0.02


@dataclass(slots=True)
class Faults:
    """What was wrong with one reading of a file.

    Attributes:
        damaged: pieces that could not be decoded, or only with guesses.
        read_error: what stopped the reading before the end; None at a proper end.
    """

    damaged: int = 0
    read_error: str | None = None


@dataclass(slots=True)
class Reading:
    """The state of one reading of a file.

    Attributes:
        interval_s: nominal time between two frames, seconds.
        has_display_times: whether the container stores when a picture is shown.
        timeline: raw times to stream times.
        sampler: which frames are looked at.
        end_s: when the last frame so far ends, stream time, seconds.
        faults: what was wrong.
    """

    interval_s: float
    has_display_times: bool
    timeline: Timeline
    sampler: Sampler
    end_s: float = 0.0
    faults: Faults = field(default_factory=Faults)


class VideoFile:
    """A video file. See `Source` for the protocol; it is opened anew for every call of `frames`.

    Rotation in the metadata is applied; pixels that are not square are left as they are.

    Args:
        path: of the file.
        settings: sampling rate and largest side.
        monotonic: a clock that never goes back, seconds; for the 100 ms bound.

    Raises:
        SourceMissing, SourceUnreadable, SourceHasNoVideo: at once, from the file's header.
    """

    is_live = False

    def __init__(
        self,
        path: str,
        settings: SourceSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = Path(path).stem
        self._path = path
        self._settings = settings
        self._monotonic = monotonic
        self._now_s = 0.0
        with opened(path) as container:
            stream = video_stream(container, path)
            self.duration_s = declared_duration_s(container, stream)

    def now_s(self) -> float:
        """Stream time of the last frame given, seconds; after the end, when that frame ends."""
        return self._now_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """Sampled frames in order, and None where none came for 100 ms.

        Args:
            tell: takes, as it happens, a `camera` record where the clock started again; at the
                end `warning` records (`source-truncated`, `source-damaged`) and a `drop` record
                (late frames). A caller that closes the generator early does not get these.

        Raises:
            SourceHasNoFrames: not one picture could be decoded.

        Cost: h264 720p decodes at about 480 frames/s on one core of a server.
        """
        self._now_s = 0.0
        with opened(self._path) as container:
            stream = video_stream(container, self._path)
            reading = self._reading(container, stream)
            returned = ReturnClock(self._monotonic)
            index = 0
            for sampled in self._sampled(container, stream, reading, tell):
                if sampled is not None:
                    time_s, pixels = sampled
                    self._now_s = time_s
                    yield Frame(index, time_s, pixels)
                    index += 1
                    returned.reset()
                elif returned.is_due():
                    yield None
                    returned.reset()
        if index == 0:
            raise SourceHasNoFrames(_no_frames(self._path, reading.faults))
        self._now_s = max(self._now_s, reading.end_s)
        for record in self._closing_records(reading):
            tell(record)

    def _reading(self, container: InputContainer, stream: VideoStream) -> Reading:
        interval_s = declared_interval_s(stream)
        has_display_times = stores_display_times(container)
        sampler = Sampler(self._settings.fps)
        return Reading(interval_s, has_display_times, Timeline(interval_s), sampler)

    def _sampled(
        self,
        container: InputContainer,
        stream: VideoStream,
        reading: Reading,
        tell: Callable[[Record], None],
    ) -> Iterator[tuple[float, UInt8] | None]:
        """(stream time, pixels) of a sampled frame; None after any other piece of work."""
        import av

        converter = RgbConverter(self._settings.max_side_px)
        for picture in _pictures(container, stream, reading.faults):
            time_s = None if picture is None else self._place(picture, reading, tell)
            if picture is None or time_s is None or not reading.sampler.takes(time_s):
                yield None
                continue
            try:
                pixels = converter.convert(picture)
            except av.FFmpegError:
                reading.faults.damaged += 1
                yield None
                continue
            yield time_s, pixels

    def _place(
        self, picture: av.VideoFrame, reading: Reading, tell: Callable[[Record], None]
    ) -> float | None:
        """Stream time of the picture; None where it comes too late."""
        placed = reading.timeline.step(raw_time_s(picture, reading.has_display_times))
        if placed.time_s is None:
            return None
        if placed.rebased_by_s is not None:
            reason = (
                f"the clock of {self._path} fell back at {placed.time_s:.3f} s; "
                f"from there on {placed.rebased_by_s:.3f} s are added"
            )
            tell(camera_state("rebased", reason))
        lasts_s = float((picture.duration or 0) * (picture.time_base or 0))
        reading.end_s = placed.time_s + (lasts_s or reading.interval_s)
        return placed.time_s

    def _closing_records(self, reading: Reading) -> Iterator[Record]:
        faults, timeline = reading.faults, reading.timeline
        if faults.read_error is not None or self._is_cut_short(reading.end_s):
            yield warning("source-truncated", self._truncation(reading))
        if faults.damaged:
            yield warning(
                "source-damaged",
                f"{self._path}: {faults.damaged} damaged piece(s), left out or patched",
            )
        if timeline.late_count:
            yield Record(
                "drop",
                {
                    "what": "late frames",
                    "count": timeline.late_count,
                    "since_s": round(timeline.late_since_s, 4),
                },
            )

    def _is_cut_short(self, end_s: float) -> bool:
        if self.duration_s is None:
            return False
        tolerated_s = max(MISSING_AT_LEAST_S, MISSING_AT_LEAST_PART * self.duration_s)
        return self.duration_s - end_s > tolerated_s

    def _truncation(self, reading: Reading) -> str:
        said = "" if self.duration_s is None else f" of the {self.duration_s:.1f} s it declares"
        why = f" ({reading.faults.read_error})" if reading.faults.read_error else ""
        return f"{self._path} ends after {reading.end_s:.1f} s{said}{why}; that part was used"


def _pictures(
    container: InputContainer, stream: VideoStream, faults: Faults
) -> Iterator[av.VideoFrame | None]:
    """Pictures in order of display; None after a packet that gave none."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            faults.read_error = error.strerror
            return
        try:
            pictures = packet.decode()
        except av.FFmpegError:
            faults.damaged += 1
            pictures = []
        for picture in pictures:
            faults.damaged += picture.is_corrupt
            yield picture
        if not pictures:
            yield None


def _no_frames(path: str, faults: Faults) -> str:
    why = faults.read_error or f"{faults.damaged} damaged pieces"
    return f"not one picture of {path} could be decoded ({why}), expected at least one"
