"""Pictures of clients: sizes are read from the head, and nothing else than pictures is decoded."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.images import decoded_image, image_size
from edgestream.edge.service.pictures import Pictures, jpeg_from_rgb
from edgestream.runtime.errors import BodyTooLarge, EdgeStreamError, PictureMissing, RequestInvalid
from edgestream.runtime.values import Frame

BOUNDS = {"most_px": 1_000_000, "max_side_px": 1280}


def flat(height, width, colour=(200, 30, 30)):
    return np.full((height, width, 3), colour, np.uint8)


def png(pixels):
    """Written by hand, so that the reader is held against something else than itself."""
    height, width, _ = pixels.shape

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.medium
@given(st.integers(1, 300), st.integers(1, 300))
def test_the_head_says_the_size_that_the_picture_has(height, width):
    for data in (png(flat(height, width)), jpeg_from_rgb(flat(height, width))):
        assert image_size(data) == (width, height)
        assert decoded_image(data, **BOUNDS).shape == (height, width, 3)


def test_colours_come_through():
    assert (decoded_image(png(flat(20, 30)), **BOUNDS) == flat(20, 30)).all()
    lossy = decoded_image(jpeg_from_rgb(flat(64, 64)), **BOUNDS)
    assert np.abs(lossy.astype(int) - flat(64, 64)).max() <= 6


def test_a_large_one_is_scaled_and_a_larger_one_refused_before_it_is_decoded():
    assert decoded_image(png(flat(100, 400)), most_px=40_000, max_side_px=200).shape == (50, 200, 3)
    with pytest.raises(BodyTooLarge, match="400 x 100"):
        decoded_image(png(flat(100, 400)), most_px=39_999, max_side_px=200)
    bomb = png(flat(1, 1))[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1)
    with pytest.raises(BodyTooLarge):
        decoded_image(bomb, **BOUNDS)


def test_a_second_frame_cannot_hide_behind_a_small_first_one():
    small = jpeg_from_rgb(flat(16, 16))
    large = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 60000, 60000) + b"\x03" + b"\0" * 9
    with pytest.raises(BodyTooLarge):
        decoded_image(small[:2] + large + small[2:], **BOUNDS)
    with pytest.raises(BodyTooLarge):
        decoded_image(small[:-2] + large + small[-2:], **BOUNDS)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_any_bytes_are_refused_in_words(data, begin):
    with pytest.raises(EdgeStreamError):
        decoded_image(begin + data, **BOUNDS)


@pytest.mark.medium
@given(st.data())
def test_a_damaged_picture_is_one_or_refused(data):
    whole = bytearray(jpeg_from_rgb(flat(40, 60)))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decoded_image(bytes(whole), **BOUNDS)
    except (RequestInvalid, BodyTooLarge):
        return
    assert found.dtype == np.uint8 and found.shape[0] * found.shape[1] <= BOUNDS["most_px"]


def test_a_frame_is_encoded_once_for_each_width(monkeypatch):
    from edgestream.edge.service import pictures as module

    encoded = []
    inner = module.jpeg_from_rgb
    monkeypatch.setattr(
        module, "jpeg_from_rgb", lambda *given: encoded.append(given[1]) or inner(*given)
    )
    shown = Pictures()
    with pytest.raises(PictureMissing):
        shown.jpeg(320)
    shown.show(Frame(0, 0.0, flat(90, 160)))
    assert encoded == [], "nobody looks"
    assert len({shown.jpeg(80) for _ in range(5)}) == 1 and encoded == [80]
    shown.jpeg(40)
    assert encoded == [80, 40]
    shown.show(Frame(1, 0.25, flat(90, 160, (0, 0, 0))))
    shown.jpeg(80)
    assert encoded == [80, 40, 80] and shown.number == 2
    for width in range(20, 40):
        shown.jpeg(width)
    assert len(shown._encoded) == module.WIDTHS_KEPT
    shown.forget()
    with pytest.raises(PictureMissing):
        shown.jpeg(80)


@pytest.mark.parametrize("marker", [0xF0, 0xDC, 0xDE, 0xC8, 0x02])
def test_a_head_that_only_the_decoder_finds_decodes_no_more(marker):
    """A segment that readers skip and FFmpeg walks into, around the head of a larger picture."""
    large, small = jpeg_from_rgb(flat(3000, 3000)), jpeg_from_rgb(flat(16, 16))
    at = large.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(large[at + 2 : at + 4], "big")
    hidden = bytes([0xFF, marker]) + struct.pack(">H", 2 + end - at) + large[at:end]
    start = small.index(b"\xff\xc0")
    decoy = small[start : start + 2 + int.from_bytes(small[start + 2 : start + 4], "big")]
    picture = large[:at] + hidden + large[end:-2] + decoy + large[-2:]
    assert image_size(picture) == (16, 16)
    with pytest.raises(EdgeStreamError):
        decoded_image(picture, **BOUNDS)
