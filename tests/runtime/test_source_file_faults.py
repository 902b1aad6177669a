"""Video files as a source: every fault a record or a clear error, never a traceback."""

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
from edgestream.runtime.sampling import Sampler
from edgestream.runtime.source_file import Faults, Reading, VideoFile, _pictures
from edgestream.runtime.sources import open_source
from edgestream.runtime.timeline import Timeline

from ..video_files import (
    EVERY,
    as_nobody,
    codes,
    moving_texture,
    numbered,
    read,
    write_image,
    write_sound,
    write_video,
)


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


@pytest.mark.medium
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


@pytest.mark.medium
def test_sound_that_goes_on_is_no_truncation(tmp_path):
    for suffix in ("mp4", "mkv", "ts", "flv"):
        path = write_video(tmp_path / f"a.{suffix}", numbered(25), fps=25, sound_s=4.0)
        frames, records = read(path)
        assert len(frames) == 25
        assert records == []


@pytest.mark.medium
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
