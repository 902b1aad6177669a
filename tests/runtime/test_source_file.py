"""Video files as a source: true times, a clock, and control that comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgestream.runtime.records import Record
from edgestream.runtime.source_file import VideoFile
from edgestream.runtime.sources import RETURN_WITHIN_S, SourceSettings, open_source

from ..video_files import (
    EVERY,
    SteppedClock,
    codes,
    loop_packets,
    moving_texture,
    number_of,
    numbered,
    read,
    write_video,
)


def test_each_sample_is_the_first_frame_at_or_after_its_grid_point(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(50), fps=25)
    frames, records = read(path, SourceSettings(fps=4))
    wanted = [-(-25 * point // 4) for point in range(8)]
    assert [number_of(frame.pixels) for frame in frames] == wanted
    assert [frame.time_s for frame in frames] == pytest.approx([n / 25 for n in wanted])
    assert [frame.index for frame in frames] == list(range(8))
    assert records == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "mov", "flv", "h264"])
def test_every_container_starts_at_0_and_keeps_its_rate(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", numbered(20), fps=25, options={"bf": "2"})
    source, records = VideoFile(str(path), EVERY), list[Record]()
    frames = [frame for frame in source.frames(records.append) if frame is not None]
    assert source.now_s() == pytest.approx(20 / 25, abs=2e-3)
    assert [number_of(frame.pixels) for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx(
        [n / 25 for n in range(20)], abs=2e-3
    )
    assert records == []


def test_variable_frame_rate_keeps_its_own_times(tmp_path):
    times_s = [0.0, 0.1, 0.15, 0.4, 2.0, 2.01, 2.3]
    path = write_video(tmp_path / "a.mkv", numbered(7), times_s=times_s)
    assert [frame.time_s for frame in read(path)[0]] == pytest.approx(times_s, abs=2e-3)
    sampled = read(path, SourceSettings(fps=4))[0]
    assert [number_of(frame.pixels) for frame in sampled] == [0, 3, 4, 6]


def test_the_clock_is_the_last_frame_then_the_end(tmp_path):
    source = open_source(
        str(write_video(tmp_path / "a.mp4", numbered(50), fps=25)), SourceSettings()
    )
    assert source.now_s() == 0.0
    for frame in source.frames(list().append):
        assert frame is None or source.now_s() == frame.time_s
    assert source.now_s() == pytest.approx(2.0)
    assert source.duration_s == pytest.approx(2.0)
    assert (source.name, source.is_live) == ("a", False)


def test_reading_again_gives_the_same(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(20))
    source = VideoFile(str(path), SourceSettings())
    first, second = ([f for f in source.frames(list().append) if f] for _ in range(2))
    assert [(f.index, f.time_s) for f in first] == [(f.index, f.time_s) for f in second]


def test_reading_again_starts_the_clock_again(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(20))
    source = VideoFile(str(path), SourceSettings(), SteppedClock(RETURN_WITHIN_S))
    list(source.frames(list().append))
    assert source.now_s() > 0
    frames = source.frames(list().append)
    assert next(frames) is None  # by a clock this slow, opening took too long
    assert source.now_s() == 0.0


def two_recordings(tmp_path: Path, begin_again_s: float) -> Path:
    """One second from 3 s on, then one second from `begin_again_s` on, in one MPEG-TS file."""
    path = tmp_path / "joined.ts"
    for name, begin_s, first in (("a.ts", 3.0, 0), ("b.ts", begin_again_s, 25)):
        part = write_video(
            tmp_path / name,
            numbered(25, first=first),
            times_s=[begin_s + n / 25 for n in range(25)],
            options={"bf": "0"},
        )
        with path.open("ab") as joined:
            joined.write(part.read_bytes())
    return path


def test_a_clock_that_starts_again_is_rebased_and_said(tmp_path):
    frames, records = read(two_recordings(tmp_path, begin_again_s=0.0))
    assert [number_of(frame.pixels) for frame in frames] == list(range(50))
    assert [f.time_s for f in frames] == pytest.approx([n / 25 for n in range(50)], abs=1e-3)
    assert codes(records) == ["camera"]
    assert records[0].body["state"] == "rebased"


def test_a_small_step_back_drops_and_counts(tmp_path):
    frames, records = read(two_recordings(tmp_path, begin_again_s=3.5))
    times_s = [frame.time_s for frame in frames]
    assert times_s == sorted(times_s)
    assert codes(records) == ["drop"]
    assert records[0].body["what"] == "late frames"
    assert records[0].body["count"] == 50 - len(frames) == 12
    assert records[0].body["since_s"] == pytest.approx(0.96)


def test_control_comes_back_within_the_bound(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(100), fps=25)
    clock = SteppedClock(0.013)
    source = VideoFile(str(path), SourceSettings(fps=1), clock)
    away_s, ticks = 0.0, 0
    left_s = clock.now_s
    for frame in source.frames(list().append):
        away_s = max(away_s, clock.now_s - left_s)
        ticks += frame is None
        left_s = clock.now_s
    assert ticks > 4
    assert away_s <= RETURN_WITHIN_S + 3 * 0.013  # one picture, and the readings themselves


@pytest.mark.medium
def test_closing_early_closes_the_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(50))
    frames = open_source(str(path), EVERY).frames(list().append)
    next(frames)
    opened = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert str(path) in opened
    frames.close()
    opened = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert str(path) not in opened


WATCH_MEMORY = """
import json, sys
from edgestream.runtime.metrics import rss_bytes
from edgestream.runtime.sources import SourceSettings, open_source
source = open_source(sys.argv[1], SourceSettings())
at_bytes = [
    rss_bytes()
    for frame in source.frames(list().append)
    if frame is not None and frame.index % 60 == 0
]
print(json.dumps([source.now_s(), at_bytes]))
"""


@pytest.mark.slow
def test_memory_stays_flat_over_a_long_file(tmp_path):
    """In a process of its own: this one holds whatever the tests before have loaded."""
    minute = write_video(tmp_path / "minute.mp4", moving_texture(1500, (320, 240)), fps=25)
    path = loop_packets(minute, tmp_path / "long.mp4", times=12)
    done = subprocess.run(
        [sys.executable, "-c", WATCH_MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    end_s, at_bytes = json.loads(done.stdout)
    assert end_s == pytest.approx(720, abs=1)
    settled = at_bytes[len(at_bytes) // 4 :]
    assert max(settled) - settled[0] < 4_000_000


@pytest.mark.medium
@pytest.mark.real_clips
def test_real_clips_are_read_whole_and_without_complaint():
    beside = Path(__file__).parents[3] / "shared" / "data" / "clips"
    clips = sorted(Path(os.environ.get("EDGESTREAM_CLIPS", beside)).glob("*.mp4"))
    if not clips:
        pytest.skip("no real clips: set EDGESTREAM_CLIPS to a folder that holds some")
    for path in clips:
        frames, records = read(path, SourceSettings())
        assert records == []
        declared_s = open_source(str(path), SourceSettings()).duration_s
        assert declared_s == pytest.approx(frames[-1].time_s, abs=0.5)
        assert len(frames) == pytest.approx(declared_s * 4, abs=2)
