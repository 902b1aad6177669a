"""Image folders as a source: natural order, upright, unreadable ones named and left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgestream.runtime.errors import (
    SourceHasNoFrames,
    SourceHasNoVideo,
    SourceMissing,
    SourceUnreadable,
)
from edgestream.runtime.records import Record
from edgestream.runtime.source_images import ImageFolder
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Frame

from ..video_files import SteppedClock, as_nobody, number_of, numbered, write_image

SETTINGS = SourceSettings(fps=2)


def read(folder: Path) -> tuple[list[Frame], list[Record]]:
    records: list[Record] = []
    source = open_source(str(folder), SETTINGS)
    return [frame for frame in source.frames(records.append) if frame is not None], records


def write_numbered(folder: Path, names: list[str]) -> None:
    for name, picture in zip(names, numbered(len(names)), strict=True):
        write_image(folder / name, picture, codec="png", pix_fmt="rgb24")


def test_natural_order_and_times(tmp_path):
    names = [
        "1.png",
        "a2.png",
        "a10.png",
        "A11.png",
        "a100.png",
        "b.png",
        "b3 x2.png",
        "b3 x10.png",
    ]
    write_numbered(tmp_path, names)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    frames, records = read(tmp_path)
    assert [number_of(frame.pixels) for frame in frames] == list(range(len(names)))
    assert [frame.time_s for frame in frames] == [index / 2 for index in range(len(names))]
    assert records == []


@pytest.mark.parametrize(
    "name, codec, pix_fmt",
    [
        ("a.jpg", "mjpeg", "yuvj420p"),
        ("a.JPEG", "mjpeg", "yuvj444p"),
        ("a.png", "png", "gray"),
        ("a.png", "png", "gray16be"),
        ("a.bmp", "bmp", "bgr24"),
        ("a.tif", "tiff", "rgb24"),
        ("a.tiff", "tiff", "gray"),
        ("a.webp", "libwebp", "yuv420p"),
        ("a.webp", "libwebp", "bgra"),
        ("a.ppm", "ppm", "rgb24"),
        ("a.pgm", "pgm", "gray"),
        ("really a png.jpg", "png", "rgb24"),
    ],
)
def test_kinds_of_images(tmp_path, name, codec, pix_fmt):
    picture = numbered(1, first=30)[0]
    write_image(tmp_path / name, picture, codec=codec, pix_fmt=pix_fmt)
    (frame,), records = read(tmp_path)
    assert frame.pixels.shape == (48, 64, 3)
    assert number_of(frame.pixels) == 30
    assert records == []


def test_a_per_cent_sign_is_no_pattern(tmp_path):
    write_numbered(tmp_path, ["5%02d.png", "500.png", "501.png"])
    frames, _ = read(tmp_path)
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2]


def test_large_webp_and_jpeg_keep_their_colours(tmp_path):
    """Both formats are BT.601 by definition, at any size."""
    picture = np.full((720, 1280, 3), (200, 60, 40), np.uint8)
    write_image(tmp_path / "a.webp", picture, codec="libwebp", pix_fmt="bgra")
    write_image(tmp_path / "b.jpg", picture, codec="mjpeg", pix_fmt="yuvj444p")
    for frame in read(tmp_path)[0]:
        assert np.abs(frame.pixels[300, 600].astype(int) - (200, 60, 40)).max() <= 5


def test_alpha_is_left_out(tmp_path):
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:] = (200, 60, 40, 0)
    write_image(tmp_path / "a.png", picture, codec="png", pix_fmt="rgba")
    (frame,), _ = read(tmp_path)
    assert frame.pixels.shape == (8, 8, 3)
    assert (frame.pixels == (200, 60, 40)).all()


@pytest.mark.parametrize("orientation, clockwise_deg", [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_exif_orientation(tmp_path, orientation, clockwise_deg):
    """The EXIF standard: 6 means that the picture has to be turned 90 degrees clockwise."""
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:24, :32] = 200
    write_image(tmp_path / "a.jpg", picture, codec="mjpeg", pix_fmt="yuvj444p", exif=orientation)
    (frame,), _ = read(tmp_path)
    expected = np.rot90(picture, -clockwise_deg // 90)
    assert frame.pixels.shape == expected.shape
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 3


def test_an_unreadable_image_is_named_and_left_out(tmp_path):
    write_numbered(tmp_path, ["1.png", "3.png", "7.png"])
    (tmp_path / "2.jpg").write_bytes(b"no image")
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    (tmp_path / "6.png").mkdir()
    frames, records = read(tmp_path)
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == [0.0, 0.5, 1.0]
    assert [record.body["code"] for record in records] == ["image-unreadable"] * 4
    for record, name in zip(records, ["2.jpg", "4.png", "5.png", "6.png"], strict=True):
        assert name in record.body["message"]


def test_the_clock_and_the_name(tmp_path):
    folder = tmp_path / "door.cam"
    folder.mkdir()
    write_numbered(folder, ["1.png", "2.png", "3.png"])
    source = open_source(f"{folder}/", SETTINGS)
    assert (source.name, source.is_live, source.duration_s) == ("door.cam", False, 1.5)
    for frame in source.frames(list().append):
        assert frame is not None
        assert source.now_s() == frame.time_s
    assert source.now_s() == 1.5


def test_control_comes_back_while_nothing_can_be_read(tmp_path):
    for index in range(20):
        (tmp_path / f"{index}.png").write_bytes(b"no image")
    write_numbered(tmp_path, ["99.png"])
    source = ImageFolder(str(tmp_path), SETTINGS, SteppedClock(0.03))
    given = list(source.frames(list().append))
    assert 4 <= given.count(None) <= 7
    assert given[-1] is not None


def test_no_such_folder(tmp_path):
    with pytest.raises(SourceMissing, match="no such file or folder"):
        ImageFolder(str(tmp_path / "missing"), SETTINGS)


def test_no_image_in_it(tmp_path):
    with pytest.raises(SourceHasNoVideo, match="holds no image"):
        open_source(str(tmp_path), SETTINGS)


def test_not_one_can_be_read(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(SourceHasNoFrames, match="not one of the 1 images"):
        read(tmp_path)


def test_a_folder_that_may_not_be_read(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    tmp_path.chmod(0o755)
    for above in list(tmp_path.parents)[:2]:
        above.chmod(0o755)
    try:
        with as_nobody(), pytest.raises(SourceUnreadable, match="cannot be read"):
            open_source(str(folder), SETTINGS)
    finally:
        folder.chmod(0o700)
