"""A feed out of a GStreamer pipeline, which runs in a child process of its own."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from .addresses import without_secrets
from .errors import SettingsInvalid, SourceLost, SourceUnreadable
from .live_feed import AvFeed, decoded
from .sinks import printable

if TYPE_CHECKING:
    import av

    from .live_feed import VideoPacket
    from .live_rules import LiveRules

PROGRAM = "gst-launch-1.0"
# Raw pictures in the order of YUV4MPEG2, which says their size in its first line.
TO_STDOUT = ["videoconvert", "!", "video/x-raw,format=I420", "!", "y4menc", "!", "fdsink", "fd=1"]

LOOK_EVERY_S = 0.05
ENDS_WITHIN_S = 1.0
"""How long a pipeline may take to end when it is told to; then it is killed."""

MOST_STDERR_BYTES = 4096
LONGEST_REASON = 200
READ_BYTES = 1 << 20


def gst_words(pipeline: str) -> list[str]:
    """The pipeline as the words that a shell would make of it; no shell ever sees it.

    Raises:
        SettingsInvalid: it is empty, a quote is left open, or a word is an option of the program.
    """
    try:
        words = shlex.split(pipeline)
    except ValueError as error:
        raise SettingsInvalid(f"the pipeline after gst: cannot be read: {error}") from None
    if not words or any(word.startswith("-") for word in words):
        raise SettingsInvalid(
            "got no pipeline after gst:, or an option in it; expected elements joined by !",
            hint="for example gst:'videotestsrc is-live=true ! video/x-raw,width=640,height=360'",
        )
    return words


def check_gst_present() -> None:
    """Raises SourceUnreadable where GStreamer's program is not installed."""
    if shutil.which(PROGRAM) is None:
        raise SourceUnreadable(
            f"a source of GStreamer needs the program {PROGRAM}, which is not installed here",
            hint="on Debian, Ubuntu and JetPack: apt install gstreamer1.0-tools "
            "gstreamer1.0-plugins-base gstreamer1.0-plugins-good",
        )


class ChildOutput:
    """What a child writes to stdout, as the file that FFmpeg reads; its stderr is kept beside.

    It ends where the child ends, where nothing came for `stall_s`, and where the reader is to
    leave.

    Args:
        child: with both pipes.
        has_left: whether the reader is to leave.
        stall_s: how long nothing may come, seconds.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], has_left: Callable[[], bool], stall_s: float
    ) -> None:
        assert child.stdout is not None and child.stderr is not None
        self._out, self._err = child.stdout.fileno(), child.stderr.fileno()
        self._watched = [self._out, self._err]
        self._has_left = has_left
        self._stall_s = stall_s
        self.said = b""
        self.has_stalled = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes as soon as there are some; empty at the end."""
        until_s = time.monotonic() + self._stall_s
        while not self._has_left():
            ready, _, _ = select.select(self._watched, [], [], LOOK_EVERY_S)
            if self._err in ready:
                self._hear()
            if self._out in ready:
                return os.read(self._out, size)
            if time.monotonic() > until_s:
                self.has_stalled = True
                break
        return b""

    def _hear(self) -> None:
        said = os.read(self._err, MOST_STDERR_BYTES)
        self.said = (self.said + said)[-MOST_STDERR_BYTES:]
        if not said:
            self._watched.remove(self._err)

    def hear_out(self) -> str:
        """All that the child had to say, when it has ended."""
        while self._err in self._watched and select.select([self._err], [], [], 0)[0]:
            self._hear()
        return self.said.decode("utf-8", "replace")


class GstFeed:
    """Pictures of a pipeline. See `Feed`.

    Args:
        words: of the pipeline, which ends in raw pictures or what `videoconvert` takes.
        camera: the name for messages.
        rules: how long nothing may come.
        has_left: whether the reader is to leave.

    Raises:
        SourceError: the pipeline gave no picture; the message says what it complained about.
    """

    has_times = False  # YUV4MPEG2 counts pictures; it does not say when they were taken

    def __init__(
        self, words: list[str], camera: str, rules: LiveRules, has_left: Callable[[], bool]
    ) -> None:
        self._stall_s = rules.stall_s
        self._inner: AvFeed | None = None
        try:
            self._child = subprocess.Popen(
                [PROGRAM, "-q", *words, "!", *TO_STDOUT],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us; we end it, with whatever it started
            )
        except OSError as error:
            raise SourceLost(f"{PROGRAM} cannot be started: {error.strerror}") from None
        self._output = ChildOutput(self._child, has_left, rules.stall_s)
        try:
            self._inner = self._opened(camera)
        except BaseException:
            self.close()
            raise

    def _opened(self, camera: str) -> AvFeed:
        import av

        try:
            container = av.open(self._output, "r", format="yuv4mpegpipe", buffer_size=READ_BYTES)
        except av.FFmpegError:
            raise SourceLost(self._reason()) from None
        try:
            return AvFeed(container, camera, self._stall_s)
        except BaseException:
            container.close()
            raise

    def packets(self) -> Generator[VideoPacket | None, None, None]:
        """See `Feed`."""
        assert self._inner is not None
        try:
            yield from self._inner.packets()
        except SourceLost:
            raise SourceLost(self._reason()) from None

    def decode(self, packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
        """See `Feed`."""
        return decoded(packet, is_joining=is_joining)

    def _reason(self) -> str:
        if self._output.has_stalled:
            return f"the pipeline gave nothing for {self._stall_s:g} s"
        self._end_child()
        lines = [line.strip() for line in self._output.hear_out().splitlines() if line.strip()]
        telling = [line for line in lines if "ERROR" in line or "erroneous" in line] or lines[-1:]
        if telling:
            said = without_secrets(printable(telling[0]))[:LONGEST_REASON]
            return f"the pipeline says: {said}"
        code = self._child.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"has ended with code {code}"
        return f"the pipeline {how}"

    def _end_child(self) -> None:
        """See that child and whatever it started are gone; a child that lives is told first."""
        for way in (signal.SIGTERM, signal.SIGKILL):
            try:
                self._child.wait(ENDS_WITHIN_S if way is signal.SIGKILL else 0.0)
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, way)
        self._child.wait()

    def close(self) -> None:
        """End the child and close the pipes."""
        if self._inner is not None:
            self._inner.close()
        self._end_child()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
