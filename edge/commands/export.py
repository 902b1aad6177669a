"""`edgestream export`: turn a checkpoint into a quantized, proven bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..export_checks import (
    check_engines,
    check_places,
    parsed_frame_px,
    refuse_other_sources,
    refuse_other_targets,
)
from ..export_text import say_exported, told_steps

if TYPE_CHECKING:
    from ...export.engine_from_onnx import BuiltEngine

MOST_A_SECOND = 1e4


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder of the checkpoint, or owner/name of one on the Hub."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder of the bundle.")],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="What it runs on: cpu, which runs everywhere, or beside it cuda, tensorrt-rtx or "
            "tensorrt.",
        ),
    ] = "cpu",
    engines: Annotated[
        Path | None,
        typer.Option(
            "--engines",
            metavar="DIR",
            help="Compile the engines of --target tensorrt-rtx (SM 8.6, 8.9 and 12.0) or tensorrt "
            "(the GPU of this machine) into this folder too.",
        ),
    ] = None,
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
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapters",
            metavar="NAME=PEFT_DIR",
            help="LoRA adapter of the decoder alone, kept beside the model, to be chosen by `run "
            "--adapter NAME` or in a request. One that brings a connector, as `train lora` makes "
            "it, can only be merged. May be repeated.",
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            metavar="DIR",
            help="Gate in place of the checkpoint's, or beside one without: a folder with "
            "gate.safetensors and gate.json.",
        ),
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
        str | None,
        typer.Option(
            "--frame-px",
            metavar="SIDE|WIDTHxHEIGHT",
            help="Size of a frame as the model sees it, px; a side alone is of a square.",
        ),
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
    refuse_other_targets(target, is_searched=search, has_adapters=bool(adapters))
    frame_size = None if frame_px is None else parsed_frame_px(frame_px)
    refuse_other_sources(vision, search=search)
    wanted = _search_choice(workload, among, rounds) if search else None
    begun = time.monotonic()
    with told_steps() as tell:
        build, graphs, family, hub = _tools()
        schemes = graphs.Schemes.named(vision, llm, kv)
        check_places(out, report, force=force)
        check_engines(target, engines)
        tell("finding", "checkpoint")
        folder = hub.checkpoint_folder(checkpoint)
        choice = build.ExportChoice(
            schemes=schemes,
            name=name or out.resolve().name,
            adapter=adapter,
            adapters=_adapters(adapters or []),
            gate=gate,
            calibration=calibration,
            capacity=capacity,
            threads=threads,
            force=force,
            report=report,
            options=family.LoadOptions(frame_size, tokens_per_frame, fps),
            target=target,
        )
        if wanted is not None:
            from ...export.search import search_bundle

            made = search_bundle(folder, out, choice, wanted, tell)
        else:
            made = build.export_bundle(folder, out, choice, tell)
        compiled = _compiled(out, target, engines, tell)
    say_exported(made, out, time.monotonic() - begun, compiled, as_json=as_json)


def _compiled(
    out: Path, target: str, engines: Path | None, tell: Callable[[str, str], None]
) -> Sequence[BuiltEngine]:
    if engines is None:
        return ()
    from ...export.engine_from_onnx import build_engines
    from ...runtime.bundle import open_bundle

    return build_engines(open_bundle(out), target, engines, tell=tell)


def _adapters(words: list[str]) -> dict[str, Path]:
    if not words:
        return {}
    from ...export.swappable_adapters import adapters_from_words

    return adapters_from_words(words)


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
