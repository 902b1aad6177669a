"""`edgestream bench`: how fast a bundle is on this device, and which lane suits it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ..terminal import columns_of
from .engines_option import EnginesFolder
from .inspect import BundleFolder


def bench(
    bundle: BundleFolder,
    threads: Annotated[
        int,
        typer.Option(
            "--threads", min=0, max=256, help="Of each engine; 0 as the settings would choose."
        ),
    ] = 0,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", min=1, max=100, help="How often all is measured; 3, or 1 with --quick."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.5,
            max=3600,
            help="Of frames and answers together, per lane and round; 4, or 2 with --quick.",
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option("--fps", min=0.1, max=120, help="Frames a second of these.")
    ] = 4.0,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the time.")] = False,
    engines: EnginesFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON object.")] = False,
) -> None:
    """Measure BUNDLE on this device: its parts, frames and answers together, its memory.

    Its weights may be random: no word is said. The last line of stdout is one JSON object. About
    a minute for a model of 135 M parameters; use an idle device.
    """
    from ..bench_parts import Counts
    from ..bench_text import benchmark_lines
    from ..benchmark import BenchPlan, bench_bundle
    from ..engine_place import chosen_folder

    plan = BenchPlan(
        threads=threads,
        rounds=rounds or (1 if quick else 3),
        seconds=seconds or (2.0 if quick else 4.0),
        fps=fps,
        part_s=0.5 if quick else 1.0,
        counts=Counts(cheap=10, engine=4, answer=1) if quick else Counts(),
        engines_dir=chosen_folder(engines),
    )
    with _progress() as on_step:
        found = bench_bundle(bundle, plan, on_step=on_step)
    if not as_json:
        print("\n".join(benchmark_lines(found, columns_of(sys.stdout))))
        print()
    print(json.dumps(found.as_json()))


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = [BarColumn(bar_width=24), TextColumn("{task.description}")]
    # Drawn when something is told, not by a thread: that would take time from what is measured.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as progress:
        task = progress.add_task("", total=1.0)

        def on_step(what: str, share: float) -> None:
            progress.update(task, completed=share, description=what, refresh=True)

        yield on_step
