"""What `edgestream export` says: a line a step while it works, and what it made."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .terminal import BOLD, GREEN, column_widths, painted

if TYPE_CHECKING:
    from ..export.build import Exported
    from ..export.engine_from_onnx import BuiltEngine
    from ..export.searched import Searched

QUIET_SHARE = 0.8
"""CPU time by wall time of engines, below which others disturbed what was measured."""


@contextmanager
def told_steps() -> Iterator[Callable[[str, str], None]]:
    """One line per step on stderr with its seconds; on a terminal with a spinner while it works."""
    begun = [time.monotonic()]
    before: list[str] = []

    def finish() -> None:
        if before:
            print(f"{before.pop():24} {time.monotonic() - begun[0]:7.1f} s", file=sys.stderr)

    if not sys.stderr.isatty():

        def tell(stage: str, part: str) -> None:
            finish()
            before.append(f"{stage} {part}")
            begun[0] = time.monotonic()

        yield tell
        finish()
        return
    from rich.console import Console
    from rich.status import Status

    console = Console(stderr=True)
    status = Status("starting", console=console)

    def tell_on_terminal(stage: str, part: str) -> None:
        finish()
        before.append(f"{stage} {part}")
        begun[0] = time.monotonic()
        status.update(f"{stage} {part}")

    with status:
        yield tell_on_terminal
        finish()


def _say_search(found: Searched) -> None:
    from ..export.searched import HEADER

    rows = [HEADER, *found.table()]
    widths = column_widths([row[:-1] for row in rows])
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True))
        numbers = (cell.rjust(width) for cell, width in zip(row[2:-1], widths[2:], strict=True))
        print("  ".join((*cells, *numbers, row[-1])).rstrip())
    work = found.workload
    if found.clock == "wall" and found.cpu_share < QUIET_SHARE:
        print(
            f"note: other programs took this machine's time (CPU share {found.cpu_share:.2f}); "
            "search again when it is idle",
            file=sys.stderr,
        )
    print(
        f"{found.choice.because}\n{work.frames_per_s:g} frames and {work.tokens_per_s:g} tokens a "
        f"second; {found.rounds} rounds, {found.threads} thread(s), {found.clock} time, CPU share "
        f"{found.cpu_share:.2f}"
    )


def say_exported(
    made: Exported,
    out: Path,
    seconds: float,
    engines: Sequence[BuiltEngine] = (),
    *,
    as_json: bool,
) -> None:
    """What an export made, on stdout: lines for people, or one JSON object."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    summary = made.report.summary()
    if as_json:
        told = {
            "bundle": str(out),
            "bundle_sha256": made.bundle_sha256,
            "bytes": made.n_bytes,
            "seconds": round(seconds, 1),
            "peak_rss_bytes": peak_bytes,
            "parity": summary,
            "notes": list(made.notes),
        }
        if made.searched is not None:
            told["search"] = made.searched.as_json()
        if engines:
            told["engines"] = [one.as_json() for one in engines]
        print(json.dumps(told))
        return
    if made.searched is not None:
        _say_search(made.searched)
    advisory = [check for check in made.report.checks if check.is_advisory and check.note]
    print(f"{painted('passed', f'{BOLD};{GREEN}', sys.stdout)}  {out}, {made.n_bytes / 1e6:.1f} MB")
    for gate, parts in summary["gates"].items():
        for part, one in parts.items():
            value = _shown(one["value"], one["must"])
            print(f"  {gate:10} {part:11} worst {value:>9} (bound {one['must']:g})  {one['worst']}")
    if advisory:
        print(f"note: {advisory[0].note}; what this bundle says means nothing")
    for note in made.notes:
        print(f"note: {note}")
    if engines:
        size = sum(one.n_bytes for one in engines) / 1e6
        print(f"{len(engines)} engines in {engines[0].path.parent}, {size:.1f} MB")
    print(f"{seconds:.1f} s, peak memory {peak_bytes / 1e9:.2f} GB; report: {out / 'report.html'}")


def _shown(value: float | None, must: float) -> str:
    """The worst value of a gate; below one with the digits that tell it from one.

    A signal without noise has no number of decibels.
    """
    if value is None:
        return "exact"
    return f"{value:.6f}".rstrip("0") if must < value < 1 else f"{value:.4g}"
