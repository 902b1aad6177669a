"""`edgestream calibrate`: a small, diverse calibration set from the user's own camera or clips."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import BOLD, GREEN, painted
from .settings import SettingsFile, SetValues

if TYPE_CHECKING:
    from ..calibrating import Calibrated, OnFrame


def calibrate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="What `edgestream run` watches: a video file, a folder of images, a camera; or a "
            "folder of video files. Several are watched one after the other.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="SET", help="Folder of the set.")],
    count: Annotated[
        int, typer.Option("--count", min=16, max=1024, help="Pictures of the set, at most.")
    ] = 64,
    every: Annotated[
        float, typer.Option("--every", min=0.01, max=3600, help="Seconds between two looks.")
    ] = 0.5,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.1,
            max=604_800,
            help="Of each source; all of a file and 300 of a camera when nothing is said.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=32,
            max=4096,
            help="Longer side in px, proportions kept; the bundle's input, or 512 without one.",
        ),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option("--near", min=1e-6, max=10, help="Distance below which two are the same."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="BUNDLE",
            help="Compare pictures by the vision of this bundle, not by light, colour and edges.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Texts for the model, one a line."),
    ] = None,
    licence: Annotated[
        list[str] | None,
        typer.Option("--licence", metavar="TEXT", help="Of the pictures, such as CC0-1.0."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="Write a preview of all pictures, a PNG."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an older set.")] = False,
    settings_file: SettingsFile = None,
    sets: SetValues = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Watch SOURCE... and write a small set of different pictures for `export --calibration`.

    Needs no PyTorch. Privacy zones of the settings are hidden. Exit code 6: the pictures are too
    few, all the same, or noise; 5: a source gives nothing. Then no set is written.
    """
    from ...calibration.prompts import prompts_from_file
    from ..calibrating import CalibrationChoice
    from ..calibrating import calibrate as run_calibration
    from ..contact_sheet import check_writable
    from ..settings import load_settings

    if sheet is not None:
        check_writable(sheet)
    choice = CalibrationChoice(
        count=count,
        every_s=every,
        seconds=seconds,
        size_px=size,
        near=near,
        bundle=bundle,
        prompts=() if prompts is None else prompts_from_file(prompts),
        prompts_from=None if prompts is None else prompts.name,
        licences=tuple(licence or ("unknown",)),
        force=force,
    )
    settings = load_settings(settings_file, sets or [], {}, os.environ).settings
    with _bar() as on_frame:
        found = run_calibration(
            sources, out, choice, settings, on_frame=on_frame, on_note=_say_note
        )
    if sheet is not None:
        _write_sheet(sheet, found)
    _say(found, out, sheet, as_json=as_json)


def _write_sheet(path: Path, found: Calibrated) -> None:
    from ..contact_sheet import contact_sheet, png_from_rgb, write_whole

    of = [number for number, (_, count) in enumerate(found.sources) for _ in range(count)]
    made = found.made
    write_whole(path, png_from_rgb(contact_sheet(made.frames, made.times_s.tolist(), of)))


def _say_note(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)


@contextmanager
def _bar() -> Iterator[OnFrame]:
    """A bar on stderr where that is a terminal, of the source that is watched now."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda *told: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from ...runtime.sinks import clock_text

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24),
               TextColumn("{task.fields[at]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("opening", total=None, at="")

        def on_frame(one: object, time_s: float, length_s: float, looked: int, kept: int) -> None:
            total = length_s if math.isfinite(length_s) else None
            at = f"{clock_text(time_s)}  {looked} looked at, {kept} different"
            progress.update(task, description=str(one), completed=time_s, total=total, at=at)

        yield on_frame


def _say(found: Calibrated, out: Path, sheet: Path | None, *, as_json: bool) -> None:
    made, spread = found.made, found.spread
    if as_json:
        told = {
            "set": str(out),
            "sha256": made.sha256,
            "frames": len(made.frames),
            "size_px": list(made.frames.shape[1:3]),
            "prompts": len(made.prompts),
            "looked_at": found.looked_at,
            "compared_by": made.settings["compared_by"],
            "distance": {"mean": round(spread.mean, 4), "least": round(spread.least, 4)},
            "sources": [{"name": name, "frames": count} for name, count in found.sources],
            "sheet": None if sheet is None else str(sheet),
        }
        print(json.dumps(told))
        return
    height, width = made.frames.shape[1:3]
    print(
        f"{painted('made', f'{BOLD};{GREEN}', sys.stdout)}  {out}, {len(made.frames)} of "
        f"{found.looked_at} pictures, {width} x {height} px, {len(made.prompts)} prompts"
    )
    for name, count in found.sources:
        print(f"  {count:4} of {name}")
    print(
        f"  distance by {made.settings['compared_by']}: mean {spread.mean:.3f}, "
        f"least {spread.least:.3f}"
    )
    print(f"next: edgestream export CHECKPOINT --out BUNDLE --calibration {quote(str(out))}")
