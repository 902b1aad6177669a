"""How text for people looks: the width it may take, and whether it may have colour."""

from __future__ import annotations

import os
import select
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


def let_go_of_gone_terminal() -> None:
    """Put nothing where the terminal behind stdout or stderr was closed.

    Whatever is still written there, by us or by a bar, goes nowhere instead of being an error.
    """
    poll = select.poll()
    poll.register(1, 0)
    poll.register(2, 0)  # that a terminal has hung up is told without being asked for
    gone = [file for file, what in poll.poll(0) if what & select.POLLHUP]
    if gone:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for file in gone:
            os.dup2(nothing, file)
        os.close(nothing)


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters of the widest cell of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
