"""Video files as a source: pictures upright, with their colours, of any format and size."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.sources import SourceSettings

from ..video_files import (
    BARS,
    bars_of,
    number_of,
    numbered,
    read,
    turn_by_track_matrix,
    write_bars,
    write_video,
)


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


@pytest.mark.medium
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
