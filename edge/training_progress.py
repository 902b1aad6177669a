"""How far a training is, for people: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.training_loop import Told

LINE_EVERY_S = 60.0
SHOWN = ("speak", "events", "patch", "text", "describe", "answer", "right_describe",
         "right_recent", "right_long", "right_state", "stream", "words")  # fmt: skip
"""Of the values of a step, those that have room in a line."""


@contextmanager
def told_progress() -> Iterator[Callable[[Told], None]]:
    """What takes how far it is, for as long as the block lasts."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:7}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, object] = {}

        def tell(told: Told) -> None:
            if told.note:
                console.print(told.note, markup=False, highlight=False, soft_wrap=True)
                return
            if told.stage not in tasks:
                tasks[told.stage] = bar.add_task(told.stage, total=1.0, values="")
            text = f"{told.counted} {told.step}  {values_text(told.values)}"
            bar.update(tasks[told.stage], completed=told.progress, values=text)  # type: ignore[arg-type]

        yield tell


def values_text(values: Mapping[str, float]) -> str:
    """The values that are shown, shortly."""
    names = [name for name in SHOWN if name in values]
    return "  ".join(f"{name.replace('right_', '✓')} {values[name]:.2f}" for name in names)


def _lines() -> Callable[[Told], None]:
    last = [-LINE_EVERY_S]

    def tell(told: Told) -> None:
        now = time.monotonic()
        if told.note:
            print(told.note, file=sys.stderr, flush=True)
        elif now - last[0] >= LINE_EVERY_S:
            last[0] = now
            text = values_text(told.values)
            print(
                f"{told.stage:7} {100 * told.progress:3.0f} %  {told.counted} {told.step}  {text}",
                file=sys.stderr,
                flush=True,
            )

    return tell
