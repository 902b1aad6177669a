"""The size of a JPEG from its header: right for real ones, an error of ours for anything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import SourceUnreadable
from edgestream.runtime.jpeg_size import jpeg_size_px

from ..video_files import numbered, write_image


@pytest.mark.parametrize("size_px", [(64, 48), (1920, 1080), (16, 300)])
@pytest.mark.parametrize("exif", [0, 6])
def test_a_real_one(tmp_path, size_px, exif):
    path = tmp_path / "1.jpg"
    write_image(path, numbered(1, size_px)[0], codec="mjpeg", pix_fmt="yuvj420p", exif=exif)
    content = path.read_bytes()
    assert jpeg_size_px(content) == size_px
    for end in range(0, 160, 7):
        with pytest.raises(SourceUnreadable, match="expected a JPEG"):
            jpeg_size_px(content[:end])


def test_padding_and_progressive_headers():
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, 200, 320, 1) + bytes(3)
    assert jpeg_size_px(b"\xff\xd8\xff\xff\xff" + frame[1:]) == (320, 200)
    assert jpeg_size_px(b"\xff\xd8\xff\x01" + frame) == (320, 200)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        b"\xff\xd8\xff\xd9" + bytes(20),  # it ends at once
        b"\xff\xd8\xff\xda\x00\x04ab" + bytes(20),  # a scan without a frame
        b"\xff\xd8\xff\xe0\x00\x00" + bytes(20),  # a length that leads nowhere
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x00\x01" + bytes(20),  # 0 x 0
        b"\xff\xd8" + b"\xff" * 50,
    ],
)
def test_what_is_none(content):
    with pytest.raises(SourceUnreadable, match="expected a JPEG"):
        jpeg_size_px(content)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(tail):
    try:
        width, height = jpeg_size_px(b"\xff\xd8" + tail)
    except SourceUnreadable:
        return
    assert 0 < width < 65536 and 0 < height < 65536
