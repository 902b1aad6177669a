"""How far a run is, for a person at a terminal: a bar below the lines, and one line at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from ..runtime.records import Record
from ..runtime.sinks import TextStream, clock_text, counted, dropped_text
from ..runtime.sources import Source
from ..runtime.values import Frame

if TYPE_CHECKING:
    from rich.console import Console


class TellingSource:
    """The same source; each frame's time is told to `on_time`."""

    def __init__(self, source: Source, on_time: Callable[[float], None]) -> None:
        self._source = source
        self._on_time = on_time
        self.name = source.name
        self.is_live = source.is_live
        self.duration_s = source.duration_s

    def __getattr__(self, name: str) -> Any:
        """What else the source has: a live one can be paused, and says how it is."""
        return getattr(self.__dict__["_source"], name)

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """The source's own frames."""
        inner = self._source.frames(tell)
        try:
            for frame in inner:
                if frame is not None:
                    self._on_time(frame.time_s)
                yield frame
        finally:
            if isinstance(inner, Generator):
                inner.close()

    def now_s(self) -> float:
        """The source's own clock."""
        return self._source.now_s()


class AboveTheBar:
    """A stream whose whole lines appear above the bar instead of through it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print one or more whole lines as they are."""
        self._console.print(text.removesuffix("\n"), markup=False, highlight=False, soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def progress_shown(
    source: Source, lines: TextStream | None
) -> Iterator[tuple[Source, TextStream | None]]:
    """The source to run and the stream for lines; with a bar on stderr where that is a terminal.

    Args:
        source: what is run.
        lines: where lines for people go when no bar is in their way; None for nowhere.
    """
    if not _is_terminal(sys.stderr):
        yield source, lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    bar = [BarColumn(bar_width=24)] if source.duration_s else []
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *bar,
        TextColumn("{task.fields[at]}"),
    ]
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(source.name, total=source.duration_s, at="")
        of = f" of {clock_text(source.duration_s)}" if source.duration_s else ""

        def on_time(time_s: float) -> None:
            progress.update(task, completed=time_s, at=f"{clock_text(time_s)}{of}")

        # One terminal shows both streams, so lines must know of the bar; a pipe gets them as ever.
        above = AboveTheBar(console) if _is_terminal(sys.stdout) else lines
        yield TellingSource(source, on_time), above


@contextmanager
def work_shown(words: str) -> Iterator[None]:
    """A sign of life on stderr while the block takes its time, where that is a terminal."""
    if not _is_terminal(sys.stderr):
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(words)):
        yield


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None where the caller closed it


def summary_line(stats: Mapping[str, Any], stream_s: float) -> str:
    """What a run did, in one line.

    Args:
        stats: the body of its last `stats` record.
        stream_s: stream time at its end, seconds.
    """
    dropped = [dropped_text(count, what) for what, count in sorted(stats["dropped"].items())]
    speed = stream_s / stats["uptime_s"]
    turns = stats["turns"]
    said = "1 answer or description, " if turns == 1 else f"{turns} answers and descriptions, "
    governor = stats.get("governor")
    held = "" if governor is None else f", {_held(governor)}"
    return (
        f"{clock_text(stream_s)} of video watched in {stats['uptime_s']:.1f} s ({speed:.0f}x): "
        f"{counted(stats['frames_seen'], 'frames')}, {stats['frames_still']} of them still, "
        f"{stats['frames_gated']} with an event, {said if turns else ''}"
        f"{' and '.join(dropped) or 'nothing'} dropped{held}"
    )


def _held(governor: Mapping[str, Any]) -> str:
    """What was achieved at the end against what was aimed at, and what was given up for it."""
    given_up = [
        f"1 in {governor['encode_every']} encoded" if governor["encode_every"] > 1 else "",
        f"{governor['token_share']:.0%} of tokens read" if governor["token_share"] < 1 else "",
        f"{governor['recall_share']:.0%} of memory shown" if governor["recall_share"] < 1 else "",
    ]
    rate = f"{governor['achieved_fps']:.1f} of {governor['target_fps']:g} frames/s at the end"
    return ", ".join(part for part in (rate, *given_up) if part)
