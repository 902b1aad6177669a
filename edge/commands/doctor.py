"""`edgestream doctor`: what this device is, what is installed, and what of it works."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import BOLD, DIM, GREEN, RED, YELLOW, columns_of, painted
from .engines_option import EnginesFolder

if TYPE_CHECKING:
    from ..doctor import Report

_GIB = 1 << 30
_LABEL_COLUMNS = 12
_SHORT = {"tensorrt-rtx": "trt-rtx"}  # what has no room in them


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="BUNDLE",
            help="Also show which variant of each of its parts would run here, and why no faster "
            "one.",
        ),
    ] = None,
    engines: EnginesFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> int:
    """Show what this device has, and prove what works by running it."""
    from ...runtime.errors import EngineError, UsageError
    from ..doctor import examine
    from ..engine_place import chosen_folder

    if engines is not None and bundle is None:
        raise UsageError("--engines needs the BUNDLE whose they are; got none")
    report = examine(bundle, None if bundle is None else chosen_folder(engines))
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        print("\n".join(lines_of(report, columns_of(sys.stdout))))
    return EngineError.exit_code if report.problems else 0


def lines_of(report: Report, columns: int | None) -> list[str]:
    """The report as an aligned list, for a width of so many columns; None for a pipe."""
    lines: list[str] = []
    for label, text in [
        *_machine_rows(report),
        *_video_rows(report),
        *_engine_rows(report),
        *_tensorrt_rows(report),
        *_ladder_rows(report),
    ]:
        lines += _wrapped(label, text, columns)
    for problem in report.problems:
        lines += _wrapped("problem", problem.message, columns)
        lines += _wrapped("  try", problem.hint, columns)
    if not report.problems:
        lines += _wrapped("problems", "none", columns)
    return lines


def _machine_rows(report: Report) -> list[tuple[str, str]]:
    from ... import __version__

    machine = report.machine
    cores = f"{machine.cores} of {machine.cores_total} cores"
    features = " ".join(machine.features) or "no instructions for small integers"
    return [
        ("EdgeStream", __version__),
        ("Python", machine.python),
        ("system", machine.system),
        ("CPU", f"{machine.cpu}, {cores}, {features}"),
        ("memory", f"{_gib(machine.ram_bytes)}, {_gib(machine.ram_available_bytes)} available"),
        ("disk", f"{_gib(machine.disk_bytes)}, {_gib(machine.disk_free_bytes)} free"),
        ("GPU", machine.gpu or "none found"),
    ]


def _video_rows(report: Report) -> list[tuple[str, str]]:
    video = report.video
    if video.pyav is None:
        return [("video", f"refused: {video.refusal}")]
    opened = [name for name, verdict in video.hardware.items() if verdict == "opened"]
    refused = [name for name in video.hardware if name not in opened]
    hardware = ", ".join(opened) or "none opens"
    if refused:
        hardware += f" (built in, but refused: {', '.join(refused)})"
    return [
        ("video", f"PyAV {video.pyav}, FFmpeg {video.ffmpeg}"),
        ("  hardware", hardware),
    ]


def _engine_rows(report: Report) -> list[tuple[str, str]]:
    from ..doctor import INSTALL_HINT

    if report.engine is None:
        return [
            ("engine", "none installed; the gate `change` works without one"),
            ("  try", INSTALL_HINT),
        ]
    wheels = ", ".join(f"{name} {version}" for name, version in report.wheels.items())
    rows = [("engine", wheels)]
    if report.engine.refusal:
        rows.append(("  import", f"refused: {report.engine.refusal}"))
    rows += [(f"  {name}", verdict) for name, verdict in report.engine.providers.items()]
    return rows


def _tensorrt_rows(report: Report) -> list[tuple[str, str]]:
    from ..tested import never_on_a_gpu

    told = f"never yet on a GPU: {', '.join(never_on_a_gpu())} (docs/tested.md)"
    return [
        *((f"  {_SHORT.get(name, name)}", verdict) for name, verdict in report.tensorrt.items()),
        ("tested", told),
    ]


def _ladder_rows(report: Report) -> list[tuple[str, str]]:
    """What runs each part of the bundle that was named, and what does not."""
    if report.rungs is None:
        return []
    rows = [
        (f"  {role}", f"proven: {one.id} on {one.provider}")
        for role, one in report.rungs.variants.items()
    ]
    rows += [
        (f"  {one.role}", f"refused: {one.variant} on {one.provider}: {one.why}")
        for one in report.rungs.refusals
    ]
    return [("ladder", "what would run, and what would not and why"), *rows]


def _wrapped(label: str, text: str, columns: int | None) -> list[str]:
    """A label and its text, the text in a column of its own."""
    width = max(20, columns - _LABEL_COLUMNS) if columns is not None else len(text) + 1
    first, *rest = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    style = RED if label == "problem" else DIM if label.startswith("  ") else BOLD
    head = painted(label.ljust(_LABEL_COLUMNS), style, sys.stdout)
    return [head + _verdict_painted(first), *(" " * _LABEL_COLUMNS + line for line in rest)]


def _verdict_painted(text: str) -> str:
    for word, style in (("proven", GREEN), ("refused", YELLOW)):
        if text.startswith(word):
            return painted(word, style, sys.stdout) + text[len(word) :]
    return text


def _gib(n_bytes: int | None) -> str:
    return f"{n_bytes / _GIB:.1f} GiB" if n_bytes is not None else "unknown"
