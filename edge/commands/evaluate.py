"""`edgestream eval`: how good a model is; `reference` on the frozen set of the rendered world."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import BOLD, GREEN, RED, painted

if TYPE_CHECKING:
    from ...evaluation.reference_table import Line
    from ..reference_evaluation import Evaluation

evaluate = typer.Typer(
    name="eval",
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Measure how good a model is.",
)


@evaluate.callback()
def _evaluate() -> None:
    """Measure how good a model is."""


@evaluate.command("footage")
def footage(
    clips: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with two or more clips of a camera.")
    ],
    bundle: Annotated[Path, typer.Option("--bundle", metavar="BUNDLE", help="Folder of it.")],
    count: Annotated[
        int, typer.Option("--count", min=1, max=1000, help="Examples of each kind.")
    ] = 32,
    fps: Annotated[
        float, typer.Option("--fps", min=0.5, max=30.0, help="Frames per second of them.")
    ] = 4.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> int:
    """Measure a reference assistant on your own footage, without labels.

    Stills of the clips are moved, cut, lit, zoomed and left alone, and clips are joined; what is
    found within a frame is counted. Exit code 6: a bound of the table is not kept.
    """
    from ...runtime.errors import QualityError
    from ..footage_evaluation import evaluate_footage

    with counted_bar("examples") as tell:
        found = evaluate_footage(bundle, clips, count=count, fps=fps, seed=seed, on_examples=tell)
    if not as_json:
        print_lines(found.lines)
        print(f"stills of {len(found.footage)} clips: {', '.join(found.footage)}", file=sys.stderr)
    print(json.dumps(found.as_json()))
    return 0 if found.passed else QualityError.exit_code


@evaluate.command("reference")
def reference(
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="BUNDLE", help="Folder of the bundle.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Checkpoint: measured itself, in full precision; beside --bundle, compared with.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="BUNDLE",
            help="Beside --bundle: what each line has lost or won against this one.",
        ),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(
            "--clips", min=1, help="So many of the set's 1000, from its beginning; all of them."
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, max=64, help="Processes; one a core.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Picture of the first clip, such as .png."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> int:
    """Measure the reference assistant on the frozen set of the rendered world.

    A bundle needs no PyTorch. A checkpoint is exported in full precision first, whose engines are
    proven equal to PyTorch. Exit code 6: a bound of the table is not kept.
    """
    from ...runtime.engine_pool import usable_cores
    from ...runtime.errors import QualityError, UsageError
    from ..reference_evaluation import checked_count, evaluate_reference

    if bundle is None and checkpoint is None:
        raise UsageError(
            "got neither --bundle nor --checkpoint, expected one of them or both",
            hint="edgestream eval reference --bundle assets/reference",
        )
    if against is not None and bundle is None:
        raise UsageError(
            "got --against without --bundle, expected a bundle that is compared with it",
            hint="name the adapted bundle by --bundle, the one before by --against",
        )
    count = checked_count(clips)
    if picture is not None:
        _check_picture(picture)
    with ExitStack() as stack:
        full = None if checkpoint is None else _exported(checkpoint, stack)
        measured, compared = (full, None) if bundle is None else (bundle, full)
        assert measured is not None
        on_clips = stack.enter_context(counted_bar("clips"))
        found = evaluate_reference(
            measured,
            clips=count,
            full=compared,
            against=against,
            processes=processes or usable_cores(),
            on_clips=on_clips,
        )
    if not as_json:
        _print_table(found)
    print(json.dumps(found.as_json()), flush=True)
    if picture is not None:  # after what took long: a fault of it loses nothing
        _draw(picture, found)
    return 0 if found.passed else QualityError.exit_code


def _exported(checkpoint: Path, stack: ExitStack) -> Path:
    """A bundle of the checkpoint in full precision, for as long as the stack lasts."""
    from ...runtime.errors import BackendMissing

    try:
        from ...export.build import ExportChoice, export_bundle
        from ...export.graphs import Schemes
    except ImportError as error:
        raise BackendMissing(
            f"--checkpoint needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[export]', or measure a bundle",
        ) from error
    import tempfile  # not at the top: `--help` answers sooner

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "full"
    print("exporting the checkpoint in full precision", file=sys.stderr)
    export_bundle(checkpoint, folder, ExportChoice(Schemes.named("fp32", "fp32"), "full"), _quiet)
    return folder


def _quiet(stage: str, part: str) -> None:
    """The steps of this export are not told."""


@contextmanager
def counted_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, else a line for each tenth."""
    if sys.stderr is None or not sys.stderr.isatty():
        shown = [0]

        def tell(done: int, count: int) -> None:
            if 10 * done // count > shown[0]:
                shown[0] = 10 * done // count
                print(f"{done} of {count} {what}", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.completed} of {task.total} " + what),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)


def _check_picture(path: Path) -> None:
    """Refuse a picture that cannot be drawn there, before anything is watched."""
    from ...evaluation.clip_picture import check_suffix
    from ..contact_sheet import check_writable

    check_suffix(path)
    check_writable(path)


def _draw(path: Path, found: Evaluation) -> None:
    from ...evaluation.clip_picture import draw_clip
    from ..reference_evaluation import first_clip

    name, clip = first_clip()
    draw_clip(path, name, clip, found.first)


def _print_table(found: Evaluation) -> None:
    print_lines((*found.lines, *found.compared))
    print(
        f"{found.clips} clips in {found.seconds:.0f} s, {found.processes} processes, "
        f"CPU share {found.cpu_share:.2f}",
        file=sys.stderr,
    )


def print_lines(lines: Sequence[Line]) -> None:
    """A table for people, on stderr."""
    width = max(len(line.figure.name) for line in lines)
    for line in lines:
        print(_line_text(line, width), file=sys.stderr)


def _line_text(line: Line, width: int) -> str:
    figure = line.figure
    value = "   none" if figure.value is None else f"{figure.value:7.3f}"
    spread = f"[{figure.ci95[0]:6.3f}, {figure.ci95[1]:6.3f}]" if figure.ci95 else " " * 16
    bound = "" if line.must is None else f"{'≤' if line.is_most else '≥'} {line.must:.2f}"
    bound += "" if line.lowest is None else f" [≥ {line.lowest:.2f}]"
    verdict = {None: " " * 6, True: painted("passed", GREEN, sys.stderr),
               False: painted("missed", f"{BOLD};{RED}", sys.stderr)}[line.passed]  # fmt: skip
    beside = "  ".join(
        f"{name} {'none' if value is None else f'{value:.2f}'}"
        for name, value in line.beside.items()
    )
    return f"{figure.name:{width}} {value} {spread} n {figure.n:5} {bound:8} {verdict} {beside}"
