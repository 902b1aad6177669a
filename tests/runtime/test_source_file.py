"""Video files as a source: true times, upright pictures, every fault a record or a clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from edgestream.runtime.errors import (
    SourceError,
    SourceHasNoFrames,
    SourceHasNoVideo,
    SourceMissing,
    SourceUnreadable,
)
from edgestream.runtime.records import Record
from edgestream.runtime.sampling import Sampler
from edgestream.runtime.source_file import Faults, Reading, VideoFile, _pictures
from edgestream.runtime.sources import RETURN_WITHIN_S, SourceSettings, open_source
from edgestream.runtime.timeline import Timeline
from edgestream.runtime.values import Frame

from ..video_files import (
    BARS,
    SteppedClock,
    as_nobody,
    bars_of,
    loop_packets,
    moving_texture,
    number_of,
    numbered,
    turn_by_track_matrix,
    write_bars,
    write_image,
    write_sound,
    write_video,
)

EVERY = SourceSettings(fps=120)


def read(path: Path, settings: SourceSettings = EVERY) -> tuple[list[Frame], list[Record]]:
    """All frames and all records of one reading."""
    records: list[Record] = []
    source = open_source(str(path), settings)
    return [frame for frame in source.frames(records.append) if frame is not None], records


def codes(records: list[Record]) -> list[str]:
    return [record.body.get("code", record.type) for record in records]


# Times


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


# Control


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


def test_closing_early_closes_the_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(50))
    frames = open_source(str(path), EVERY).frames(list().append)
    next(frames)
    opened = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert str(path) in opened
    frames.close()
    opened = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert str(path) not in opened


# Pictures


@pytest.mark.parametrize("clockwise_deg", [0, 90, 180, 270])
def test_rotation_is_applied(tmp_path, clockwise_deg):
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:24, :32] = (200, 60, 60)  # top left
    path = write_video(tmp_path / "a.mp4", [picture] * 3)
    frames, _ = read(turn_by_track_matrix(path, clockwise_deg))
    expected = np.rot90(picture, -clockwise_deg // 90)
    assert frames[0].pixels.shape == expected.shape
    assert np.abs(frames[0].pixels.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    "size_px, matrix, colours, is_tagged",
    [
        ((1280, 720), "bt709", "limited", True),
        ((1280, 720), "bt709", "limited", False),
        ((1280, 720), "bt709", "full", True),
        ((320, 240), "bt601", "limited", True),
        ((320, 240), "bt601", "limited", False),
        ((1920, 1080), "bt709", "limited", False),  # scaled down
    ],
)
def test_colours_survive(tmp_path, size_px, matrix, colours, is_tagged):
    path = write_bars(tmp_path / "a.mkv", size_px, matrix, colours, is_tagged=is_tagged)
    (frame,), _ = read(path)
    assert np.abs(np.array(bars_of(frame.pixels)) - np.array(BARS)).max() <= 2


@pytest.mark.parametrize(
    "name, codec, pix_fmt",
    [
        ("grey.mkv", "ffv1", "gray"),
        ("grey16.mkv", "ffv1", "gray16le"),
        ("ten_bit.mkv", "ffv1", "yuv420p10le"),
        ("ten_bit_h264.mp4", "libx264", "yuv420p10le"),
        ("alpha.webm", "libvpx-vp9", "yuva420p"),
        ("alpha_rgb.mkv", "ffv1", "bgra"),
        ("rgb.mov", "png", "rgba"),
        ("planar.mkv", "ffv1", "gbrp10le"),
        ("full.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_pixel_formats_become_rgb(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, numbered(3, first=40), codec=codec, pix_fmt=pix_fmt)
    frames, records = read(path)
    assert [number_of(frame.pixels) for frame in frames] == [40, 41, 42]
    assert all(frame.pixels.shape == (48, 64, 3) for frame in frames)
    assert records == []


@pytest.mark.parametrize(
    "size_px, codec, pix_fmt",
    [
        ((1, 1), "mjpeg", "yuvj420p"),
        ((1, 1), "png", "rgb24"),
        ((1, 64), "mjpeg", "yuvj420p"),
        ((2, 3), "png", "gray"),
        ((63, 47), "ffv1", "yuv420p"),
        ((641, 359), "ffv1", "yuv420p"),
    ],
)
def test_odd_sizes(tmp_path, size_px, codec, pix_fmt):
    path = tmp_path / ("a.mkv" if codec == "ffv1" else "a.mov")
    write_video(path, numbered(2, size_px), codec=codec, pix_fmt=pix_fmt)
    frames, records = read(path)
    assert [frame.pixels.shape for frame in frames] == [(size_px[1], size_px[0], 3)] * 2
    assert [number_of(frame.pixels) for frame in frames] == [0, 1]
    assert records == []


def test_scaling_keeps_white_white(tmp_path):
    picture = np.full((720, 1280, 3), 255, np.uint8)
    path = write_video(tmp_path / "a.mp4", [picture])
    (frame,), _ = read(path, SourceSettings(max_side_px=640))
    assert frame.pixels.shape == (360, 640, 3)
    assert frame.pixels.min() >= 254


def test_8k_is_scaled_down(tmp_path):
    path = write_video(
        tmp_path / "a.avi", numbered(2, (7680, 4320), 50), codec="mjpeg", pix_fmt="yuvj420p"
    )
    frames, _ = read(path, SourceSettings())
    assert frames[0].pixels.shape == (720, 1280, 3)
    assert number_of(frames[0].pixels) == 50


def test_a_portrait_is_scaled_by_its_longer_side_and_no_side_vanishes(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered(1, (4, 2000)), codec="ffv1")
    (frame,), _ = read(path, SourceSettings(max_side_px=100))
    assert frame.pixels.shape == (100, 1, 3)


def test_a_size_that_changes_in_the_middle(tmp_path):
    path = tmp_path / "joined.ts"
    for index, size_px in enumerate([(64, 48), (96, 80)]):
        part = write_video(
            tmp_path / f"{index}.ts",
            numbered(10, size_px),
            times_s=[1 + index + n / 25 for n in range(10)],
        )
        path.write_bytes((path.read_bytes() if index else b"") + part.read_bytes())
    frames, _ = read(path)
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3), (80, 96, 3)}


# Faults


def faulty(kind: str, folder: Path) -> Path:
    """A file with a fault that is found when it is opened."""
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(50_000))
    elif kind == "text":
        path = path.with_suffix(".txt")
        path.write_text("not a video\n" * 50)
    elif kind == "no_index":  # an MP4 keeps its index at the end
        whole = write_video(path, moving_texture(20, (160, 120))).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "pipe":
        os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", ["empty", "noise", "text", "no_index", "pipe"])
def test_what_is_no_video_is_said_at_once(tmp_path, kind):
    path = faulty(kind, tmp_path)
    with pytest.raises(SourceUnreadable, match=kind) as caught:
        open_source(str(path), EVERY)
    assert caught.value.exit_code == 5
    assert kind != "pipe" or "neither a file nor a folder" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["missing.mp4", "missing/clip.mp4", "nul\0.mp4", "0"])
def test_no_such_file(tmp_path, name):
    with pytest.raises(SourceMissing, match="no such file"):
        open_source(str(tmp_path / name), EVERY)


def test_sound_alone(tmp_path):
    with pytest.raises(SourceHasNoVideo, match="found: audio"):
        open_source(str(write_sound(tmp_path / "a.m4a")), EVERY)


def test_subtitles_alone(tmp_path):
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    with pytest.raises(SourceHasNoVideo, match="found: subtitle"):
        open_source(str(path), EVERY)


def test_cover_art_is_no_video(tmp_path):
    cover = write_image(tmp_path / "c.png", numbered(1)[0], codec="png", pix_fmt="rgb24")
    path = tmp_path / "a.m4a"
    write_sound(path)
    path.write_bytes(with_cover(path.read_bytes(), cover.read_bytes()))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(SourceHasNoVideo, match="no moving picture"):
        open_source(str(path), EVERY)


def with_cover(content: bytes, png: bytes) -> bytes:
    """An MP4's bytes with an iTunes cover in its `moov`, which has to be the last box."""

    def box(kind: bytes, body: bytes) -> bytes:
        return (len(body) + 8).to_bytes(4, "big") + kind + body

    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    data = box(b"data", (14).to_bytes(4, "big") + bytes(4) + png)
    meta = box(b"meta", bytes(4) + handler + box(b"ilst", box(b"covr", data)))
    start = content.index(b"moov") - 4
    assert start + int.from_bytes(content[start : start + 4], "big") == len(content)
    return content[:start] + box(b"moov", content[start + 8 :] + box(b"udta", meta))


def test_a_file_that_may_not_be_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(2))
    tmp_path.chmod(0o755)
    path.chmod(0)
    with as_nobody(), pytest.raises(SourceUnreadable, match="cannot be read"):
        VideoFile(str(path), EVERY)


def test_not_one_frame(tmp_path):
    """Every packet overwritten: the header names pictures, none is there."""
    path = write_video(
        tmp_path / "a.avi", moving_texture(10, (160, 120)), codec="mjpeg", pix_fmt="yuvj420p"
    )
    content = bytearray(path.read_bytes())
    start, end = content.index(b"movi") + 4, content.rindex(b"idx1")
    at = start
    while at < end:
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        content[at + 8 : at + 8 + size] = bytes(size)
        at += 8 + size + size % 2
    path.write_bytes(content)
    with pytest.raises(SourceHasNoFrames, match="not one picture"):
        read(path)


@pytest.mark.parametrize(
    "suffix, fault",
    [
        ("mkv", SourceHasNoFrames),
        ("avi", SourceHasNoFrames),
        ("mp4", SourceHasNoVideo),  # a track without frames is not written at all
    ],
)
def test_zero_frames(tmp_path, suffix, fault):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(fault, match="picture"):
        read(path)


@pytest.mark.parametrize("suffix, sound_s", [("mkv", 0), ("mkv", 4), ("mp4", 0), ("flv", 0)])
def test_a_truncated_file_is_used_as_far_as_it_goes(tmp_path, suffix, sound_s):
    path = write_video(
        tmp_path / f"a.{suffix}",
        moving_texture(100, (160, 120)),
        fps=25,
        muxing={"movflags": "faststart"} if suffix == "mp4" else {},
        sound_s=sound_s,
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames, records = read(path)
    assert 20 < len(frames) < 80
    assert "source-truncated" in codes(records)
    message = next(r.body["message"] for r in records if r.body["code"] == "source-truncated")
    assert "4.0 s" in message and f"{frames[-1].time_s + 0.04:.1f} s" in message


def test_sound_that_goes_on_is_no_truncation(tmp_path):
    for suffix in ("mp4", "mkv", "ts", "flv"):
        path = write_video(tmp_path / f"a.{suffix}", numbered(25), fps=25, sound_s=4.0)
        frames, records = read(path)
        assert len(frames) == 25
        assert records == []


def test_damage_in_the_middle_is_counted_and_passed_over(tmp_path):
    path = write_video(
        tmp_path / "a.ts",
        moving_texture(100, (160, 120)),
        options={"g": "10"},
    )
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = np.random.default_rng(1).bytes(4000)
    path.write_bytes(content)
    frames, records = read(path)
    assert len(frames) > 80
    assert frames[-1].time_s == pytest.approx(99 / 25, abs=0.05)
    assert codes(records) == ["source-damaged"]


def test_one_picture_that_cannot_be_decoded_is_one_damaged_piece(tmp_path):
    path = write_video(
        tmp_path / "a.avi", moving_texture(10, (160, 120)), codec="mjpeg", pix_fmt="yuvj420p"
    )
    content = bytearray(path.read_bytes())
    begin = content.index(b"movi")
    third = [at for at in range(begin, len(content)) if content[at : at + 4] == b"00dc"][2]
    content[third + 8 : third + 2000] = bytes(1992)
    path.write_bytes(content)
    frames, records = read(path)
    assert [frame.time_s for frame in frames] == pytest.approx(
        [n / 25 for n in range(10) if n != 2]
    )
    assert codes(records) == ["source-damaged"]
    assert ": 1 damaged piece" in records[0].body["message"]


class FailingDisk:
    """A container whose disk fails after `packets` packets, as PyAV would report it."""

    def __init__(self, container: av.container.InputContainer, packets: int) -> None:
        self._container = container
        self._packets = packets

    def demux(self, stream: av.VideoStream) -> Iterator[av.Packet]:
        yield from islice(self._container.demux(stream), self._packets)
        raise av.error.OSError(5, "Input/output error")


def test_a_read_error_ends_the_pictures_and_is_kept(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(20), options={"bf": "0"})
    faults = Faults()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        failing = FailingDisk(container, packets=10)
        assert len([p for p in _pictures(failing, stream, faults) if p is not None]) >= 8
    assert faults.read_error == "Input/output error"
    reading = Reading(0.04, True, Timeline(0.04), Sampler(4), end_s=0.8, faults=faults)
    (record,) = VideoFile(str(path), EVERY)._closing_records(reading)
    assert record.body["code"] == "source-truncated"
    assert (
        "ends after 0.8 s of the 0.8 s it declares (Input/output error)" in record.body["message"]
    )


def test_names_that_look_like_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "50%03d.mp4", "-i.mp4", "a b'c.mp4", "ünï.mp4"):
        Path(name).write_bytes(write_video(tmp_path / "plain.mp4", numbered(2)).read_bytes())
        assert len(read(Path(name))[0]) == 2


def test_a_title_that_is_no_utf8(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered(2), title="caffe latte")
    content = path.read_bytes()
    assert content.count(b"caffe latte") == 1
    path.write_bytes(content.replace(b"caffe latte", b"caff\xe9 latte"))
    assert len(read(path)[0]) == 2


def test_every_fault_of_the_library_is_mapped():
    """Whatever FFmpeg reports is an FFmpegError, the one class that is caught at the border."""
    named = [getattr(av.error, name) for name in dir(av.error) if name.endswith("Error")]
    assert named
    assert all(issubclass(error, av.FFmpegError) for error in named)
    assert issubclass(SourceUnreadable, SourceError)


@pytest.mark.slow
def test_memory_stays_flat_over_a_long_file(tmp_path):
    minute = write_video(tmp_path / "minute.mp4", moving_texture(1500, (320, 240)), fps=25)
    path = loop_packets(minute, tmp_path / "long.mp4", times=12)
    source = open_source(str(path), SourceSettings())
    at_bytes: list[int] = []
    for frame in source.frames(list().append):
        if frame is not None and frame.index % 60 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            at_bytes.append(pages * os.sysconf("SC_PAGE_SIZE"))
    assert source.now_s() == pytest.approx(720, abs=1)
    settled = at_bytes[len(at_bytes) // 4 :]
    assert max(settled) - settled[0] < 4_000_000
