"""How text for people looks: the width it may take, and whether it may have colour."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


def columns_of(stream: TextIO | None) -> int | None:
    """Columns of the terminal behind a stream; None for a pipe or a file, which take any width."""
    if stream is None or not stream.isatty():
        return None
    return shutil.get_terminal_size().columns


def painted(text: str, style: str, stream: TextIO | None) -> str:
    """The text with a colour or weight, where the stream shows one.

    Args:
        text: what is printed.
        style: one of the names above, or several joined by `;`.
        stream: where it goes; pipes, `NO_COLOR` and dumb terminals get the text alone.
    """
    shows_colour = (
        stream is not None
        and stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
    return f"\033[{style}m{text}\033[0m" if shows_colour else text


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters of the widest cell of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
