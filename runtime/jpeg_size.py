"""The size of a JPEG, read from its header before anything is decoded."""

from __future__ import annotations

from .errors import SourceUnreadable

START = b"\xff\xd8"
# Start of frame, in all its variants; C4, C8 and CC are tables and an extension.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: padding, TEM, RSTn.
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
# Where they come before the frame's header, there is none: start of scan, end of image.
TOO_LATE = frozenset({0xD9, 0xDA})

EXPECTED = "expected a JPEG picture"


def jpeg_size_px(content: bytes) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        SourceUnreadable: it is no JPEG, or its header breaks off.

    Cost: O(headers); the picture itself is not looked at.
    """
    if not content.startswith(START):
        raise SourceUnreadable(f"got bytes that do not begin as a JPEG does, {EXPECTED}")
    at = len(START)
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF or marker in BARE_MARKERS:  # 0xFF may be repeated as padding
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in FRAME_MARKERS and at + 9 <= len(content):
            height = int.from_bytes(content[at + 5 : at + 7], "big")
            width = int.from_bytes(content[at + 7 : at + 9], "big")
            if width and height:
                return width, height
        if marker in FRAME_MARKERS or marker in TOO_LATE or length < 2:
            break
        at += 2 + length
    raise SourceUnreadable(f"got a JPEG without a size, or one that breaks off, {EXPECTED}")
