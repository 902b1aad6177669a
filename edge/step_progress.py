"""How far a piece of work is, for people: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_S = 60.0

OnStep = Callable[[str, float, float | None], None]
"""Told (what is done now, how much of it is done, how much there is of it or None)."""


@contextmanager
def step_progress() -> Iterator[OnStep]:
    """What takes how far it is, for as long as the block lasts."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("opening", total=None)

        def on_step(what: str, done: float, total: float | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield on_step


def _lines() -> OnStep:
    """A line a minute, none in the first one: what is done by then needs no word."""
    last = [time.monotonic()]

    def on_step(what: str, done: float, total: float | None) -> None:
        now = time.monotonic()
        if now - last[0] >= LINE_EVERY_S:
            last[0] = now
            share = f"  {100 * min(1.0, done / total):3.0f} %" if total else ""
            print(f"{what}{share}", file=sys.stderr, flush=True)

    return on_step
