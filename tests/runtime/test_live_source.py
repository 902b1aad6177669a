"""A live source against a real RTSP server that fails in every way a camera does."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest

from edgestream.runtime.errors import SourceLost
from edgestream.runtime.lag_guard import CATCH_UP_S
from edgestream.runtime.live_feed import opened_by_av
from edgestream.runtime.live_rules import LiveRules
from edgestream.runtime.live_source import LiveSource
from edgestream.runtime.sources import SourceSettings

from ..live_watching import QUICK, Watching, readers, wait_no_readers
from ..rtsp_server import Clip, RtspServer, clip_from_pictures, texture_clip
from ..video_files import number_of, numbered

TCP = {"rtsp_transport": "tcp", "fpsprobesize": "0", "analyzeduration": "500000"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    """Numbered pictures, twenty a second, a key frame every second."""
    path = tmp_path_factory.mktemp("clip") / "numbered.mp4"
    return clip_from_pictures(path, numbered(60, (160, 120)), fps=20, key_every=20)


@pytest.fixture(scope="module")
def texture(tmp_path_factory) -> Clip:
    return texture_clip(
        tmp_path_factory.mktemp("clip") / "texture.mp4", (320, 180), seconds=2, fps=20
    )


@pytest.fixture
def server(clip) -> Iterator[RtspServer]:
    with RtspServer(clip) as running:
        yield running
    wait_no_readers()


@pytest.mark.medium
def test_frames_come_in_time_and_control_comes_back(server):
    with Watching(server.url()) as watching:
        assert watching.source.is_live and watching.source.duration_s is None
        watching.wait_frames(12)
        now_s = watching.source.now_s()
        assert watching.given[-1].frame.time_s <= now_s
    assert watching.states() == ["connecting", "open"]
    assert watching.told("camera")[-1]["reason"] == "watching 127.0.0.1/live, 160x120"
    assert watching.given[0].frame.time_s == 0.0
    for one in watching.given:
        assert one.frame.captured_s is not None
        assert -0.1 < one.wall_s - one.frame.captured_s < 5.0
    numbers = [number_of(one.frame.pixels) for one in watching.given]
    assert all(0 < (later - number) % 60 < 20 for number, later in itertools.pairwise(numbers))
    state = watching.source.state()
    assert state.state == "ended" and state.decoded >= 12
    assert watching.source.now_s() == watching.source.now_s() >= now_s


@pytest.mark.medium
def test_it_is_read_again_from_the_beginning(server):
    source = Watching(server.url()).source
    for _ in range(2):
        with Watching(source) as watching:
            watching.wait_frames(2)
        assert watching.given[0].frame.index == 0 and watching.given[0].frame.time_s == 0
        assert watching.states() == ["connecting", "open"]


@pytest.mark.slow
def test_a_server_that_goes_and_comes_three_times(server):
    with Watching(server.url()) as watching:
        watching.wait_frames()
        for _ in range(3):
            server.kill()
            assert "127.0.0.1/live is lost: " in watching.wait_state("lost")
            time.sleep(0.3)
            server.restart()
            watching.wait_state("open")
            watching.wait_frames()
    assert watching.states() == ["connecting", *["open", "lost"] * 3, "open"]
    first, last = watching.given[0], watching.given[-1]
    # Wall time went on while nothing came, and so did stream time.
    assert first.frame.captured_s is not None and last.frame.captured_s is not None
    went_s = last.frame.captured_s - first.frame.captured_s
    assert abs((last.frame.time_s - first.frame.time_s) - went_s) < 0.2
    pairs = itertools.pairwise(one.frame.time_s for one in watching.given)
    assert sum(after_s - before_s > 0.3 for before_s, after_s in pairs) >= 3


@pytest.mark.slow
def test_a_camera_that_falls_silent_on_an_open_connection(server):
    rules = replace(QUICK, open_timeout_s=1.0)
    with Watching(server.url(), rules=rules) as watching:
        watching.wait_frames()
        server.freeze()
        assert watching.wait_state("lost") == "127.0.0.1/live is lost: nothing came for 1 s"
        watching.wait(lambda: watching.source.state().attempts >= 2, "second try")
        server.freeze(False)
        watching.wait_frames()
    assert watching.states() == ["connecting", "open", "lost", "open"]
    assert watching.source.state().attempts == 0


@pytest.mark.medium
def test_the_size_of_the_picture_changes(server, texture):
    with Watching(server.url()) as watching:
        watching.wait_frames()
        server.switch(texture)
        watching.wait(
            lambda: watching.given[-1].frame.pixels.shape == (180, 320, 3), "picture of 320 x 180"
        )
    assert {one.frame.pixels.shape for one in watching.given} == {(120, 160, 3), (180, 320, 3)}
    reasons = [body["reason"] for body in watching.told("camera")]
    assert reasons[-1] == "watching 127.0.0.1/live, 320x180"
    assert watching.states() == ["connecting", "open"]


@pytest.mark.slow
def test_damaged_packets_are_counted_and_the_stream_goes_on(server, texture):
    server.switch(texture)
    with Watching(server.url()) as watching:
        watching.wait_frames()
        server.corrupt(0.5)
        watching.wait(lambda: watching.told("warning"), "warning")
        watching.wait_frames(20)
    warnings = watching.told("warning")
    assert {body["code"] for body in warnings} == {"source-damaged"}
    assert len(warnings) <= 2  # one at once, and one at the end for all that came within a minute
    assert "1 damaged piece(s)" in str(warnings[0]["message"])
    assert watching.states() == ["connecting", "open"]


@pytest.mark.medium
def test_coming_in_between_key_frames_shows_no_rubbish(clip):
    with RtspServer(clip, start_at=24) as server, Watching(server.url()) as watching:
        watching.wait_frames(2)
    assert number_of(watching.given[0].frame.pixels) >= 40
    assert not watching.told("warning")


@pytest.mark.slow
def test_a_slow_consumer_gets_the_newest_frame(server):
    with Watching(server.url(), busy_s=0.5) as watching:
        watching.wait_frames(6)
    for one in watching.given[2:]:
        assert one.frame.captured_s is not None
        assert one.wall_s - one.frame.captured_s < 0.45
    drops = watching.told("drop")
    assert {body["what"] for body in drops} == {"frames"}
    left_out = watching.given[-1].frame.index + 1 - len(watching.given)
    assert sum(int(str(body["count"])) for body in drops) >= left_out > 5


class SlowFeed:
    """A real connection with a decoder that takes its time; notes which packets were key frames."""

    has_times = True

    def __init__(self, url: str, decode_s: float) -> None:
        self.decoded: list[bool] = []
        self._inner = opened_by_av(url, "slow", QUICK, options=TCP)
        self._decode_s = decode_s
        self.packets = self._inner.packets
        self.close = self._inner.close

    def decode(self, packet, *, is_joining):
        time.sleep(self._decode_s)
        self.decoded.append(packet.is_keyframe)
        return self._inner.decode(packet, is_joining=is_joining)


@pytest.mark.medium
def test_nothing_is_decoded_before_the_first_key_frame(clip):
    """H.264 would show nothing anyway; other decoders show grey."""
    feeds: list[SlowFeed] = []

    def open_feed(has_left):
        feeds.append(SlowFeed(server.url(), 0.0))
        return feeds[-1]

    source = LiveSource("late", open_feed, SourceSettings(live=QUICK))
    with RtspServer(clip, start_at=24) as server, Watching(source) as watching:
        watching.wait_frames(1)
    assert feeds[0].decoded[0]


@pytest.mark.slow
def test_a_decoder_that_is_too_slow_does_not_fall_behind(server):
    """40 % too slow would be 4 s late after 15 s."""
    rules = LiveRules(stall_s=5, max_lag_s=0.5)
    source = LiveSource(
        "slow", lambda has_left: SlowFeed(server.url(), 0.07), SourceSettings(fps=20, live=rules)
    )
    lags_s = []
    with Watching(source) as watching:
        end_s = time.monotonic() + 15
        while time.monotonic() < end_s:
            time.sleep(0.05)
            lags_s.append(source.state().lag_s)
    assert 0.5 < max(lags_s) < 0.5 + CATCH_UP_S + 1.0
    assert any(body["what"] == "late frames" for body in watching.told("drop"))
    assert not watching.told("warning")
    # After packets were left out, the picture is that of a key frame again, not rubbish.
    numbers = [number_of(one.frame.pixels) for one in watching.given]
    assert all(0 < (later - number) % 60 < 50 for number, later in itertools.pairwise(numbers))


@pytest.mark.medium
@pytest.mark.parametrize("password", ["s3cret/p@ss:w%rd", "s3cret word"])
def test_a_wrong_password_is_said_and_not_shown(clip, password):
    from urllib.parse import quote

    with RtspServer(clip, user=f"me:{password}") as server:
        with Watching(server.url("me:wr0ngsecret")) as watching:
            reason = watching.wait_state("lost")
        assert "401" in reason and "password" in reason
        assert "wr0ngsecret" not in watching.text() and "me:" not in watching.text()
        with Watching(server.url(f"me:{quote(password, safe='')}")) as watching:
            watching.wait_frames(1)
        assert "s3cret" not in watching.text()
        assert watching.source.name == "127.0.0.1/live"


@pytest.mark.medium
def test_pause_closes_the_connection_and_resume_opens_it(server):
    with Watching(server.url()) as watching:
        watching.wait_frames()
        watching.source.pause()
        assert watching.source.state().state == "paused"
        count = len(watching.given)
        watching.wait(lambda: server.viewers() == 0, "closed connection")
        time.sleep(0.3)
        assert len(watching.given) <= count + 1  # one may have been on its way
        paused_s = watching.source.now_s()
        watching.source.resume()
        watching.wait_frames()
        assert watching.given[-1].frame.time_s > paused_s
    assert watching.states() == ["connecting", "open", "paused", "connecting", "open"]


@pytest.mark.medium
def test_a_source_that_was_paused_before_it_is_read_opens_nothing(server):
    source = Watching(server.url()).source
    source.pause()
    with Watching(source) as watching:
        time.sleep(0.3)
        assert server.viewers() == 0 and not watching.given
        source.resume()
        watching.wait_frames(1)


def test_nothing_is_opened_before_frames_are_read(server):
    source = Watching(server.url()).source
    frames = source.frames(lambda record: None)
    time.sleep(0.1)
    assert server.viewers() == 0 and not readers() and not server.requests
    assert source.state().state == "connecting" and source.now_s() == 0.0
    assert isinstance(frames, Generator)
    frames.close()


@pytest.mark.medium
def test_a_server_that_accepts_and_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        rules = LiveRules(stall_s=1, backoff_s=0.1, open_timeout_s=0.5)
        with Watching(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/x", rules=rules) as watching:
            assert "no answer within 0.5 s" in watching.wait_state("lost")
    wait_no_readers()


class StuckFeed:
    """A driver that does not come back from a read, until it is let go."""

    has_times = False

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def packets(self):
        self.let_go.wait(60)
        raise SourceLost("it came back")
        yield None

    def decode(self, packet, *, is_joining):
        return []

    def close(self) -> None:
        """Nothing."""


@pytest.mark.slow
def test_a_driver_that_hangs_holds_nobody_up():
    feed = StuckFeed()
    settings = SourceSettings(live=LiveRules(stall_s=0.1, backoff_s=0.1))
    try:
        with Watching(LiveSource("stuck", lambda has_left: feed, settings)) as watching:
            assert watching.wait_state("lost") == "stuck does not answer; still waiting for it"
            begun_s = time.monotonic()
        assert watching.closed_in_s < 10 and time.monotonic() - begun_s < 15
        assert readers()  # it cannot be woken; it is told to end when it comes back
    finally:
        feed.let_go.set()
    wait_no_readers()


def test_a_bug_in_the_reader_reaches_the_consumer():
    def broken(has_left):
        raise ZeroDivisionError("a bug")

    with Watching(LiveSource("broken", broken, SourceSettings())) as watching:
        watching.wait(lambda: watching.error, "error")
    assert isinstance(watching.error, ZeroDivisionError)
    wait_no_readers()


@pytest.mark.medium
def test_an_unreachable_camera_is_told_once_and_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Watching(f"rtsp://127.0.0.1:{port}/x") as watching:
        watching.wait(lambda: watching.source.state().attempts > 3, "fourth try")
    assert watching.states() == ["connecting", "lost"]
    assert len(watching.told("camera")) == 2
    assert "Connection refused" in str(watching.told("camera")[1]["reason"])
