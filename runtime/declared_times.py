"""What a video file says of its own times: rate, duration, time stamps."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

USUAL_INTERVAL_S = 1 / 25
"""Between two frames, where the file does not say."""

HIGHEST_RATE = 1000
"""Frames per second; a declared rate above it is the unit of a clock, not a rate."""

# Containers that store no time of display. What FFmpeg makes up for them is wrong by two frames
# around B-frames, while the time of decoding, taken in the order of display, is right.
NO_DISPLAY_TIMES = frozenset({"avi"})


def stores_display_times(container: InputContainer) -> bool:
    """Whether it says when a picture is shown, and not only when it is decoded."""
    return container.format.name not in NO_DISPLAY_TIMES


def raw_time_s(picture: av.VideoFrame, has_display_times: bool) -> float | None:
    """The picture's own time stamp, seconds; None where it has none."""
    stamp = picture.pts if has_display_times else picture.dts
    if stamp is None or picture.time_base is None:
        return None
    return float(stamp * picture.time_base)


def declared_interval_s(stream: VideoStream) -> float:
    """Nominal time between two frames, seconds."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate is not None and 0 < rate <= HIGHEST_RATE:
            return float(1 / rate)
    return USUAL_INTERVAL_S


def declared_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the pictures last by the file's own word, seconds; None where it does not say.

    A container's duration counts only where nothing but the pictures can have set it: sound is
    often longer.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base) or None
    tag = _seconds_from_clock(stream.metadata.get("DURATION", ""))  # Matroska, WebM
    if tag is not None:
        return tag
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1_000_000 or None  # AV_TIME_BASE
    return None


def _seconds_from_clock(text: str) -> float | None:
    """Seconds of `HH:MM:SS.fraction`; None of anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        total = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except (ValueError, ZeroDivisionError):
        return None
    return float(total) or None
