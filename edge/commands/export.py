"""`edgestream export`: turn a checkpoint into a quantized, proven bundle."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..export_checks import check_places, refuse_other_sources, refuse_other_targets
from ..terminal import BOLD, GREEN, column_widths, painted

if TYPE_CHECKING:
    from ...export.build import Exported
    from ...export.searched import Searched


MOST_A_SECOND = 1e4
QUIET_SHARE = 0.8
"""CPU time by wall time of engines, below which others disturbed what was measured."""


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder of the checkpoint, or owner/name of one on the Hub."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder of the bundle.")],
    target: Annotated[
        str, typer.Option("--target", help="What it runs on: cpu, which runs everywhere.")
    ] = "cpu",
    vision: Annotated[
        str,
        typer.Option(
            "--vision",
            help="Weights of vision and connector: int8, fp32, int8-static-minmax; or FILE.onnx: "
            "vision as ModelOpt quantized it.",
        ),
    ] = "int8",
    llm: Annotated[
        str,
        typer.Option(
            "--llm",
            metavar="SCHEME[,NAME=SCHEME]",
            help="Weights of the decoder: int4, int4-gptq, int8, fp32, or int4-32 and such; with "
            "exceptions by name, as int4,head=int8.",
        ),
    ] = "int4",
    kv: Annotated[str, typer.Option("--kv", help="Keys and values: fp32, fp16 or int8.")] = "fp32",
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="PEFT_DIR", help="LoRA adapter that is merged first."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="SET",
            help="Calibration set; without one, frames of the rendered test clips.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the bundle; its folder's otherwise.")
    ] = None,
    frame_px: Annotated[
        int | None,
        typer.Option("--frame-px", min=1, help="Side of a frame as the model sees it, px."),
    ] = None,
    tokens_per_frame: Annotated[
        int | None,
        typer.Option("--tokens-per-frame", min=1, help="Tokens that the decoder reads of a frame."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", min=0.01, help="Frames a second that it is made for.")
    ] = None,
    capacity: Annotated[
        int, typer.Option("--capacity", min=64, max=1 << 20, help="Positions of the cache.")
    ] = 512,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=256, help="Threads of each engine in the proofs.")
    ] = 1,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Write the report here too, also when a gate refuses."
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Measure every plan on this machine, in place of --vision and --llm, and take the "
            "fastest that passes its proof.",
        ),
    ] = False,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            metavar="FRAMES,TOKENS",
            help="For --search: watched and said in a second; the model's own rate and 2.",
        ),
    ] = None,
    among: Annotated[
        str | None,
        typer.Option(
            "--among",
            metavar="SCHEME,...",
            help="For --search: schemes that are tried, as fp32,int8,int4; all there are.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=3, max=1000, help="Of measuring, for --search.")
    ] = 7,
    force: Annotated[bool, typer.Option("--force", help="Replace an older bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Quantize CHECKPOINT, turn it into ONNX, prove it, and write a bundle.

    No bundle is written when a gate of the proof refuses (exit code 6). Needs the extra `export`.
    """
    refuse_other_targets(target)
    refuse_other_sources(vision, search=search)
    wanted = _search_choice(workload, among, rounds) if search else None
    begun = time.monotonic()
    with _told_steps() as tell:
        build, graphs, family, hub = _tools()
        schemes = graphs.Schemes.named(vision, llm, kv)
        check_places(out, report, force=force)
        tell("finding", "checkpoint")
        folder = hub.checkpoint_folder(checkpoint)
        choice = build.ExportChoice(
            schemes=schemes,
            name=name or out.resolve().name,
            adapter=adapter,
            calibration=calibration,
            capacity=capacity,
            threads=threads,
            force=force,
            report=report,
            options=family.LoadOptions(frame_px, tokens_per_frame, fps),
        )
        if wanted is not None:
            from ...export.search import search_bundle

            made = search_bundle(folder, out, choice, wanted, tell)
        else:
            made = build.export_bundle(folder, out, choice, tell)
    _say(made, out, time.monotonic() - begun, as_json=as_json)


def _search_choice(workload: str | None, among: str | None, rounds: int) -> Any:
    _tools()
    from ...export.search import SearchChoice, words_among

    asked = {} if among is None else words_among(among.split(","))
    frames_per_s, tokens_per_s = (None, 2.0) if workload is None else _parsed_workload(workload)
    return SearchChoice(tokens_per_s, frames_per_s, rounds, **asked)


def _parsed_workload(text: str) -> tuple[float, float]:
    """Frames and tokens a second.

    Raises:
        UsageError: it is no such text, or nothing is to be done.
    """
    from ...runtime.errors import UsageError

    try:
        frames_per_s, tokens_per_s = map(float, text.split(","))
        is_sound = all(0 <= one <= MOST_A_SECOND for one in (frames_per_s, tokens_per_s))
    except ValueError:
        is_sound = False
    if not is_sound or not frames_per_s + tokens_per_s:
        raise UsageError(
            f"got --workload {text}, expected two numbers: frames watched and tokens said a second",
            hint="--workload 4,2 is four frames a second, and 24 tokens every 12 seconds",
        )
    return frames_per_s, tokens_per_s


def _tools() -> tuple[Any, Any, Any, Any]:
    """The modules of the export; they import PyTorch, which a device does not have."""
    from ...runtime.errors import BackendMissing

    try:
        from ...export import build, graphs
        from ...models import family, hub
    except ImportError as error:
        raise BackendMissing(
            f"export needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[export]'; a device needs neither to run a bundle",
        ) from error
    return build, graphs, family, hub


@contextmanager
def _told_steps() -> Iterator[Callable[[str, str], None]]:
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
    from ...export.searched import HEADER

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


def _say(made: Exported, out: Path, seconds: float, *, as_json: bool) -> None:
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
        }
        if made.searched is not None:
            told["search"] = made.searched.as_json()
        print(json.dumps(told))
        return
    if made.searched is not None:
        _say_search(made.searched)
    advisory = [check for check in made.report.checks if check.is_advisory and check.note]
    print(f"{painted('passed', f'{BOLD};{GREEN}', sys.stdout)}  {out}, {made.n_bytes / 1e6:.1f} MB")
    for gate, parts in summary["gates"].items():
        for part, one in parts.items():
            value = "none" if one["value"] is None else f"{one['value']:.4g}"
            print(f"  {gate:10} {part:11} worst {value:>9} (bound {one['must']:g})  {one['worst']}")
    if advisory:
        print(f"note: {advisory[0].note}; what this bundle says means nothing")
    print(f"{seconds:.1f} s, peak memory {peak_bytes / 1e9:.2f} GB; report: {out / 'report.html'}")
