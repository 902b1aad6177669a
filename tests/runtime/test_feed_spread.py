"""Streams in segments, spread out: none before its time, none lost; and a real HLS camera."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.feed_spread import LONGEST_WAIT_S, SpreadFeed

from ..live_watching import QUICK, Watching, wait_no_readers
from ..video_files import number_of, numbered, write_video

UNIT = Fraction(1, 1000)


class SleptClock:
    """A clock that moves by sleeping and when told to."""

    def __init__(self) -> None:
        self.now_s = 200.0
        self.sleeps = 0

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.05
        self.sleeps += 1
        self.now_s += seconds

    def __call__(self) -> float:
        return self.now_s


class ListFeed:
    """Packets with these time stamps (ms), each there when the clock says so (s)."""

    has_times = True

    def __init__(self, clock: SleptClock, packets: list[tuple[int | None, float]]) -> None:
        self._clock, self._packets = clock, packets

    def packets(self) -> Iterator[av.Packet]:
        for stamp, there_s in self._packets:
            self._clock.now_s = max(self._clock.now_s, there_s)
            packet = av.Packet(b"x")
            packet.dts, packet.time_base = stamp, UNIT
            yield packet

    def decode(self, packet, *, is_joining):
        return []

    def close(self) -> None:
        """Nothing."""


def given_out(packets: list[tuple[int | None, float]]) -> list[tuple[int | None, float]]:
    """(time stamp ms, when it was given s), and that control came back all the time."""
    clock = SleptClock()
    feed = SpreadFeed(ListFeed(clock, packets), lambda: False, clock.sleep, clock)
    given, ticks = [], 0
    for packet in feed.packets():
        if packet is None:
            ticks += 1
        else:
            given.append((packet.dts, clock.now_s))
        assert ticks == clock.sleeps
    return given


def test_a_burst_comes_out_at_its_own_speed():
    segments = [(index * 100, 200.0 + index // 10) for index in range(40)]
    given = given_out(segments)
    for index, (stamp, at_s) in enumerate(given):
        assert stamp == index * 100 and abs(at_s - (200.0 + index * 0.1)) < 1e-6


@pytest.mark.medium
@given(st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 4)), max_size=40))
def test_nothing_is_lost_and_nothing_is_closer_together_than_it_was_taken(steps):
    stamps = list(itertools.accumulate(step for step, _ in steps))
    there_s = list(itertools.accumulate((later_s for _, later_s in steps), initial=200.0))[1:]
    given = given_out(list(zip(stamps, there_s, strict=True)))
    assert [stamp for stamp, _ in given] == stamps
    for (stamp, at_s), (later, later_s) in itertools.pairwise(given):
        assert later_s - at_s >= (later - stamp) / 1000 - 1e-6
    for (_, at_s), there in zip(given, there_s, strict=True):
        assert at_s >= there - 1e-9


def test_time_stamps_that_leap_hold_nothing_up():
    leap = round(LONGEST_WAIT_S * 1000) + 5000
    given = given_out([(0, 200.0), (100, 200.0), (leap, 200.0), (leap + 100, 200.0), (None, 200.0)])
    assert given[-1][1] - 200.0 < 0.4
    back = given_out([(9000, 200.0), (9100, 200.0), (0, 200.0), (100, 200.0)])
    assert back[-1][1] - 200.0 < 0.4


@contextmanager
def hls_camera(folder: Path, segment_s: float = 1.0) -> Iterator[str]:
    """A live playlist whose segments of one second appear one after the other."""
    clip = folder / "clip.mp4"
    write_video(clip, numbered(50, (64, 48)), fps=10, options={"g": "10", "bf": "0"})
    with av.open(str(clip)) as source:
        options = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": f"{folder}/%d.ts"}
        with av.open(f"{folder}/all.m3u8", "w", format="hls", options=options) as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    segments = [(folder / f"{number}.ts").read_bytes() for number in range(5)]
    began_s = time.monotonic() - 3 * segment_s

    class Segments(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            ready = int((time.monotonic() - began_s) / segment_s)
            if self.path.endswith("m3u8"):
                lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
                first = max(0, ready - 3)
                lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
                for number in range(first, ready):
                    # The five segments come round again, which the playlist has to say.
                    lines += ["#EXT-X-DISCONTINUITY"] if number % 5 == 0 and number else []
                    lines += ["#EXTINF:1.0,", f"{number}.ts"]
                body = "\n".join([*lines, ""]).encode()
                kind = "application/vnd.apple.mpegurl"
            else:
                body = segments[int(self.path.strip("/").split(".")[0]) % 5]
                kind = "video/mp2t"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Segments)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.m3u8"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_an_hls_camera_gives_most_of_its_pictures(tmp_path):
    with hls_camera(tmp_path) as url, Watching(url, rules=QUICK) as watching:
        watching.wait_frames(60)
    assert watching.states()[:2] == ["connecting", "open"]
    assert set(watching.states()[2:]) <= {"rebased"}  # where the segments come round again
    numbers = [number_of(one.frame.pixels) for one in watching.given]
    steps = [(later - number) % 50 for number, later in itertools.pairwise(numbers)]
    assert sum(step == 1 for step in steps) > 0.8 * len(steps)
    went_s = watching.given[-1].frame.time_s - watching.given[0].frame.time_s
    assert 0.08 < went_s / (len(numbers) - 1) < 0.2
    wait_no_readers()
