"""Opening a picture or video file with FFmpeg, every fault an error of ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .addresses import redacted
from .errors import SourceHasNoFrames, SourceHasNoVideo, SourceMissing, SourceUnreadable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg "recognises" any .txt or .nfo as a terminal drawing, by its name alone.
NO_VIDEO_FORMATS = frozenset({"tty"})

# Frame threads each hold a whole picture; from this size on the parts of one picture are shared
# out instead, so that 8K does not cost 50 MB per core.
LARGE_PICTURE_PX = 4096 * 2304

VIDEO_HINT = "give a video such as MP4, MOV, MKV, WebM, AVI or MPEG-TS"


def check_present(path: str) -> os.stat_result:
    """What is at `path`, if this user can see it.

    Raises:
        SourceMissing: nothing.
        SourceUnreadable: something, but it is not to be looked at.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise SourceMissing(
            f"got the source {redacted(path)!r}, but there is no such file or folder",
            hint="check the path; a relative one starts at the folder you are in",
        ) from error
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read: {error.strerror}") from error


def check_readable_file(path: str) -> None:
    """Whether `path` is a file with something in it that this user may read.

    Raises:
        SourceMissing: nothing is there.
        SourceUnreadable: it is no file, is empty, or may not be read.
    """
    status = check_present(path)
    if not stat.S_ISREG(status.st_mode):
        raise SourceUnreadable(f"{path} is neither a file nor a folder", hint=VIDEO_HINT)
    if status.st_size == 0:
        raise SourceUnreadable(f"{path} is empty (0 bytes), expected a video", hint=VIDEO_HINT)
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def opened(path: str) -> Iterator[InputContainer]:
    """The container at `path`, closed at the end of the block.

    Only local files are read, also where a playlist names others.

    Raises:
        SourceMissing, SourceUnreadable: see `check_readable_file`, or FFmpeg does not know it.
        SourceHasNoFrames: a header and nothing behind it.
    """
    import av

    check_readable_file(path)
    try:
        # `file:` keeps a colon in a name from being taken for a protocol; pattern_type keeps a
        # per-cent sign from being taken for a sequence of images.
        container = av.open(
            "file:" + path,
            options={"protocol_whitelist": "file", "pattern_type": "none"},
            **lenient_about_text(av.__version__),
        )
    except av.error.EOFError as error:
        raise SourceHasNoFrames(
            f"{path} ends before its first picture, expected at least one"
        ) from error
    except av.FFmpegError as error:
        raise SourceUnreadable(
            f"{path} is not a video that can be read, or its index is missing: {error.strerror}",
            hint=VIDEO_HINT + "; a recording that was cut off may have lost its index",
        ) from error
    with container:
        if container.format.name in NO_VIDEO_FORMATS:
            raise SourceUnreadable(f"{path} is a text file, expected a video", hint=VIDEO_HINT)
        yield container


def lenient_about_text(av_version: str) -> dict[str, Any]:
    """PyAV before 19 refuses a file with a title that is no UTF-8, unless told not to."""
    return {"metadata_errors": "replace"} if int(av_version.split(".")[0]) < 19 else {}


def video_stream(container: InputContainer, path: str) -> VideoStream:
    """The first stream of moving pictures, set up to be decoded; cover art is none.

    Raises:
        SourceHasNoVideo: only sound, subtitles or cover art.
        SourceUnreadable: its codec is not known here.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise SourceUnreadable(f"{path} has a video stream in a codec that is unknown here")
        width, height = stream.codec_context.width, stream.codec_context.height
        stream.thread_type = "SLICE" if width * height >= LARGE_PICTURE_PX else "AUTO"
        return stream
    held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise SourceHasNoVideo(
        f"{path} holds no moving picture; expected a video stream, found: {held}", hint=VIDEO_HINT
    )
