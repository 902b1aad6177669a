"""Live kinds: each address finds its source, a wrong one is refused at once, nothing is opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgestream.runtime.errors import SettingsInvalid, SourceError, SourceMissing, SourceUnknown
from edgestream.runtime.live_kinds import device_source
from edgestream.runtime.live_rules import LiveRules
from edgestream.runtime.live_source import LiveSource
from edgestream.runtime.sources import SourceSettings, open_source

from ..live_watching import Watching, wait_no_readers
from ..video_files import number_of, numbered, write_image, write_video

SETTINGS = SourceSettings()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://me:word@door.local:554/ch1", "door.local/ch1"),
        ("rtsps://door.local/ch1", "door.local/ch1"),
        ("http://10.0.0.5/video.cgi?user=a&pwd=b", "10.0.0.5/video.cgi"),
        ("https://door.local/live.m3u8", "door.local/live.m3u8"),
        ("screen::0.0?size=640x480&fps=5", "screen"),
        ("browser:kitchen", "kitchen"),
    ],
)
def test_an_address_is_taken_and_nothing_is_opened(address, name):
    source = open_source(address, SETTINGS)
    assert isinstance(source, LiveSource) and source.name == name
    assert source.state().state == "connecting" and source.now_s() == 0.0


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://",
        "http:///x",
        "rtsp://me:wo/rd@door/1",
        "screen::0?fps=0",
        "screen::0?size=640",
        "screen:/tmp/x?size=64x48",
        "v4l2:video0",
        "v4l2:/etc/passwd",
        "/dev/video0?sise=640x480",
        "v4l2:/dev/video0?fps=1&fps=2",
        "/dev/video0?size=640x480&format=../x",
    ],
)
def test_a_wrong_address_is_refused_at_once(address):
    with pytest.raises((SettingsInvalid, SourceMissing)) as caught:
        open_source(address, SETTINGS)
    assert "wo/rd" not in str(caught.value)


def test_a_device_that_is_not_there_is_said():
    for address in ("/dev/video99", "v4l2:/dev/video99?size=640x480"):
        with pytest.raises(SourceMissing, match="no such device") as caught:
            open_source(address, SETTINGS)
        assert "/dev/video*" in str(caught.value.hint)


def test_a_device_that_is_no_camera_is_lost_with_a_reason(monkeypatch):
    with Watching(device_source("v4l2:/dev/null", SETTINGS)) as watching:
        assert watching.wait_state("lost").startswith("null is lost: ")
    wait_no_readers()


def test_a_screen_needs_a_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(SettingsInvalid, match="expected screen:") as caught:
        open_source("screen:", SETTINGS)
    assert "$DISPLAY" in str(caught.value.hint)
    monkeypatch.setenv("DISPLAY", ":7")
    assert open_source("screen:", SETTINGS).name == "screen"


def test_an_unknown_scheme_shows_no_password():
    with pytest.raises(SourceUnknown) as caught:
        open_source("rtmp://me:s3cretword@door/1", SETTINGS)
    assert "s3cretword" not in str(caught.value) and "rtmp://door/1" in str(caught.value)


def test_a_mistyped_address_that_looks_like_a_file_shows_no_password():
    with pytest.raises(SourceError) as caught:
        open_source("rtsp:/me:s3cretword@door/1", SETTINGS)
    assert "s3cretword" not in str(caught.value)


@contextmanager
def x_screen() -> Iterator[str]:
    """A virtual X server with a screen of 320 x 240; its display."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed: no X server to look at")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", "320x240x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            number = said.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.medium
def test_a_screen_is_watched():
    with x_screen() as display, Watching(f"screen:{display}.0?fps=20") as watching:
        watching.wait_frames()
        assert watching.given[-1].frame.pixels.shape == (240, 320, 3)
    with Watching(f"screen:{display}") as watching:
        assert f"the display {display} cannot be read" in watching.wait_state("lost")
    wait_no_readers()


class Camera(BaseHTTPRequestHandler):
    """An HTTP camera: MJPEG at /video, a finished file at /clip.mp4."""

    def __init__(self, jpegs: list[bytes], clip: bytes, user: str, *args: object) -> None:
        self._jpegs, self._clip, self._user = jpegs, clip, user
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        wanted = f"Basic {b64encode(self._user.encode()).decode()}"
        if self._user and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.end_headers()
        elif self.path.startswith("/video"):
            self._video()
        elif self.path == "/clip.mp4":
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(len(self._clip)))
            self.end_headers()
            self.wfile.write(self._clip)
        else:
            self.send_error(404)

    def _video(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=edge")
        self.end_headers()
        for index in range(10_000):
            jpeg = self._jpegs[index % len(self._jpegs)]
            head = f"--edge\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.05)


@contextmanager
def http_camera(folder: Path, user: str = "") -> Iterator[str]:
    """A camera on this machine; `host:port` of it."""
    jpegs = [
        write_image(folder / "1.jpg", one, codec="mjpeg", pix_fmt="yuvj420p").read_bytes()
        for one in numbered(40)
    ]
    clip = write_video(folder / "clip.mp4", numbered(25), muxing={"movflags": "faststart"})
    handler = partial(Camera, jpegs, clip.read_bytes(), user)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.medium
def test_an_mjpeg_camera(tmp_path):
    with http_camera(tmp_path, "me:p@ss w") as host:
        with Watching(f"http://me:p%40ss%20w@{host}/video?resolution=64x48", fps=100) as watching:
            watching.wait_frames(25)
        with Watching(f"http://me:wr0ngword@{host}/video") as wrong:
            assert "401 Unauthorized" in wrong.wait_state("lost")
    assert "wr0ngword" not in wrong.text() and "p%40" not in watching.text()
    assert watching.source.name == "127.0.0.1/video"
    times_s = [one.frame.time_s for one in watching.given]
    # Times are those of arrival, not made out of a rate that nobody promised (FFmpeg says 25).
    assert 0.044 < (times_s[-1] - times_s[2]) / (len(times_s) - 3) < 0.5
    numbers = [number_of(one.frame.pixels) for one in watching.given]
    assert len(set(numbers)) >= 5
    wait_no_readers()


@pytest.mark.medium
@pytest.mark.parametrize(
    ("path", "reason"), [("nothing", "404 Not Found"), ("clip.mp4", "is a recording of 1 s")]
)
def test_what_is_no_camera_there_is_said(tmp_path, path, reason):
    with http_camera(tmp_path) as host, Watching(f"http://{host}/{path}") as watching:
        assert reason in watching.wait_state("lost")


@pytest.mark.medium
def test_an_answer_cannot_make_it_open_a_file_of_this_device(tmp_path):
    """A playlist that names a local file: FFmpeg may open addresses of the network alone."""
    video = write_video(tmp_path / "secret.ts", numbered(25))
    playlist = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-VERSION:3\n"
        f"#EXTINF:1.0,\nfile://{video}\n#EXTINF:1.0,\n{video}\n"
    )

    class Playlist(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.end_headers()
            self.wfile.write(playlist.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Playlist)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        rules = LiveRules(stall_s=2, backoff_s=0.1, open_timeout_s=2)
        url = f"http://127.0.0.1:{server.server_address[1]}/live.m3u8"
        with Watching(url, rules=rules) as watching:
            watching.wait_state("lost")
            assert not watching.given
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    wait_no_readers()


@pytest.mark.parametrize("field", ["stall_s", "backoff_s", "open_timeout_s", "max_lag_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 3601])
def test_rules_out_of_range(field, value):
    with pytest.raises(SettingsInvalid, match=rf"live\.{field}"):
        LiveRules(**{field: value})


def test_the_longest_wait_is_no_shorter_than_the_first():
    with pytest.raises(SettingsInvalid, match=r"expected at least live\.backoff_s"):
        LiveRules(backoff_s=5, backoff_most_s=2)
