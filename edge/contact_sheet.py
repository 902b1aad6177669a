"""A contact sheet: all pictures of a calibration set in one PNG, each with its source and time."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..runtime.errors import OutputUnwritable
from ..runtime.preprocess import small_picture
from ..runtime.sinks import clock_text
from ..runtime.values import UInt8

THUMBNAIL_PX, GAP_PX, LABEL_PX = 176, 6, 16
PAPER, INK = 24, 220
"""Grey levels."""
PX_PER_DOT = 2
# Digits of 3 x 5 dots, a row an octal digit: a device has no fonts that we could count on.
GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717",
    "6": "74757", "7": "71222", "8": "75757", "9": "75717", ":": "02020", ".": "00002",
    "#": "57575",
}  # fmt: skip


def contact_sheet(frames: UInt8, times_s: Sequence[float], sources: Sequence[int]) -> UInt8:
    """The sheet, pictures in rows of about the proportions of a screen.

    Args:
        frames: (count, height, width, 3) uint8 RGB.
        times_s: of each, seconds, shown under it.
        sources: number of each one's source, shown from 1 where there are several.

    Returns:
        (height, width, 3) uint8 RGB.

    Cost: 1 ms a picture.
    """
    count, height, width = frames.shape[:3]
    scale = THUMBNAIL_PX / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    cell = (size[0] + LABEL_PX + GAP_PX, size[1] + GAP_PX)
    columns = min(count, max(1, round(math.sqrt(count * 16 / 9 * cell[0] / cell[1]))))
    rows = -(-count // columns)
    sheet = np.full((rows * cell[0] + GAP_PX, columns * cell[1] + GAP_PX, 3), PAPER, np.uint8)
    has_several = len(set(sources)) > 1
    for index, (frame, time_s, source) in enumerate(zip(frames, times_s, sources, strict=True)):
        top = GAP_PX + index // columns * cell[0]
        left = GAP_PX + index % columns * cell[1]
        sheet[top : top + size[0], left : left + size[1]] = small_picture(frame, size)
        text = f"#{source + 1} {clock_text(time_s)}" if has_several else clock_text(time_s)
        _write(sheet[top + size[0] :, left : left + size[1]], text)
    return sheet


def _write(place: UInt8, text: str) -> None:
    """Dots of a text in the upper left corner of a part of the sheet; cut off where it ends."""
    at = PX_PER_DOT
    for sign in text:
        rows = [[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in GLYPHS.get(sign, "00000")]
        dots = np.kron(np.array(rows, np.bool_), np.ones((PX_PER_DOT, PX_PER_DOT), np.bool_))
        part = place[2 * PX_PER_DOT : 2 * PX_PER_DOT + len(dots), at : at + dots.shape[1]]
        part[dots[: part.shape[0], : part.shape[1]]] = INK
        at += 4 * PX_PER_DOT


def png_from_rgb(pixels: UInt8) -> bytes:
    """A PNG of a picture, (height, width, 3) uint8 RGB."""
    import av

    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))


def check_writable(path: Path) -> None:
    """Raise OutputUnwritable where no file of this name can be written, before long work."""
    write_whole(path, None)


def write_whole(path: Path, content: bytes | None) -> None:
    """Write a file by one rename, so that it is whole or not there; None only tries the place.

    Raises:
        OutputUnwritable: the folder is not there or may not be written, or the name is a folder's.
    """
    beside = path.with_name(f".{path.name}.writing-{secrets.token_hex(4)}")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, os.strerror(21))
        beside.write_bytes(content or b"")
        if content is not None:
            os.replace(beside, path)
    except OSError as error:
        raise OutputUnwritable(
            f"{path} cannot be written: {error.strerror}",
            hint="give a place in a folder that exists and that you may write to",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
