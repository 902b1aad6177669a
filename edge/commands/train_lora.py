"""`edgestream train lora`: adapt a checkpoint to your own clips; `export` takes what it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ...models.family import Checkpoint
    from ...training.lora_recipe import LoraChoice, LoraRecipe, LoraTrained, Usual

ALL_TARGETS = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
FEATURES_FOLDER = "features"


def lora(
    dialogues: Annotated[
        list[Path], typer.Argument(metavar="DIALOGUES...", help="Files of `train synthesize`.")
    ],
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="CHECKPOINT", help="Of the family reference or live: folder or id."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Adapter; the run lies in DIR/run.")
    ],
    evaluate_on: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluate-on", metavar="FILE", help="Dialogues that are held out, instead of a share."
        ),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option("--held-out", min=0, max=0.9, help="Share of the videos that is held out."),
    ] = 0.1,
    rank: Annotated[int, typer.Option("--rank", min=1, max=1024, help="Of the matrices.")] = 16,
    alpha: Annotated[
        int, typer.Option("--alpha", min=1, help="They are scaled by alpha / rank.")
    ] = 32,
    targets: Annotated[
        str, typer.Option("--targets", metavar="LIST", help="Linear layers that are adapted.")
    ] = ALL_TARGETS,
    dropout: Annotated[
        float | None,
        typer.Option(
            "--dropout",
            min=0,
            max=0.9,
            help="Before the matrices. Left out: 0 for a reference assistant, .05 for others.",
        ),
    ] = None,
    qlora: Annotated[
        bool, typer.Option("--qlora", help="Those layers are kept as NF4 meanwhile: less memory.")
    ] = False,
    decoder_only: Annotated[
        bool | None,
        typer.Option(
            "--decoder-only/--connector",
            help="The connector stays as it is: such adapters can be kept beside one model "
            "(`export --adapters`), others are merged into it. Left out: it stays for a reference "
            "assistant, and is trained for others.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            max=10_000,
            help="How often all is read. Left out: 4 for a reference assistant, 10 for others.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            min=1,
            max=4096,
            help="Of a batch, over all processes. Left out: 4 for a reference assistant, 8 for "
            "others.",
        ),
    ] = None,
    portions: Annotated[
        int,
        typer.Option(
            "--portions", min=1, max=4096, help="A batch is read in so many: less memory."
        ),
    ] = 1,
    row_tokens: Annotated[
        int,
        typer.Option("--row-tokens", min=32, help="Of a row; longer dialogues are cut."),
    ] = 400,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            help="Highest learning rate. Left out: 2e-3 for a reference assistant, 1e-3 for "
            "others.",
        ),
    ] = None,
    stream_weight: Annotated[
        float,
        typer.Option("--stream-weight", min=0, help="Of when to speak, against what to say."),
    ] = 1.0,
    focal: Annotated[
        float | None,
        typer.Option(
            "--focal", metavar="GAMMA", min=0, max=10, help="Focal loss of when to speak; try 2."
        ),
    ] = None,
    standby: Annotated[
        float,
        typer.Option("--standby", min=0, help="Seconds before a sentence taught as standby."),
    ] = 0.0,
    rehearse: Annotated[
        int | None,
        typer.Option(
            "--rehearse",
            min=0,
            max=2000,
            help="Rendered clips of which a reference assistant is to say what it said before, so "
            "that it forgets nothing; 0 for none. Left out: 200 for a reference assistant, 0 for "
            "others and with --fsdp.",
        ),
    ] = None,
    checks: Annotated[
        int, typer.Option("--checks", min=1, help="Looks at what is held out, the last at the end.")
    ] = 5,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Where features lie; else DIR/features of --out."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and order.")] = 0,
    fsdp: Annotated[
        bool,
        typer.Option(
            "--fsdp", help="Each process of torchrun keeps its part of the base: less memory."
        ),
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, or auto: cuda where there is one.")
    ] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew where a run lies in DIR.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Adapt a checkpoint with LoRA to streaming dialogues about your own clips.

    It learns at every frame whether to speak, and what. A run that was cut short goes on when the
    same command is given again. Under `torchrun --no-python` or `accelerate launch --multi_gpu
    --no_python` several processes share each batch.
    """
    tools = _tools()
    from ..training_progress import told_progress

    checkpoint, folder = _base(base)
    said = {"epochs": epochs, "rows": rows, "rate": rate, "rehearse": rehearse,
            "dropout": dropout, "is_decoder_only": decoder_only}  # fmt: skip
    usual = _usual(checkpoint, said, is_shared=fsdp)
    recipe = _recipe(
        rank, alpha, targets, qlora, usual, portions, row_tokens,
        stream_weight, focal, standby, held_out, checks, seed,
    )  # fmt: skip
    choice = _choice(
        dialogues, evaluate_on or [], checkpoint, folder, out, cache, recipe, device, fsdp
    )
    with told_progress() as tell:
        made = tools(choice, tell, force=force)
    if made is not None:  # in the first process
        _say(made, base, as_json=as_json)
        if usual.is_decoder_only and not as_json:
            print(f"      or keep it beside others: export {base} --adapters NAME={made.out} …")


def _tools() -> Any:
    from ...runtime.errors import BackendMissing

    try:
        from ...training.lora_training import train_lora
    except ImportError as error:
        raise BackendMissing(
            f"training needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[train]'; a device needs neither to run a bundle",
        ) from error
    return train_lora


def _base(name: str) -> tuple[Checkpoint, Path]:
    """The base, loaded, and its folder."""
    from ...models.families import load_checkpoint
    from ...models.hub import checkpoint_folder

    folder = checkpoint_folder(name)
    return load_checkpoint(folder), folder


def _usual(checkpoint: Checkpoint, said: Mapping[str, Any], *, is_shared: bool) -> Usual:
    """What was said, and what is usual for this base where nothing was."""
    from ...training.lora_recipe import usual_of

    given = {name: one for name, one in said.items() if one is not None}
    return replace(usual_of(checkpoint.source.family, is_shared=is_shared), **given)


def _recipe(
    rank: int, alpha: int, targets: str, qlora: bool, usual: Usual, portions: int,
    row_tokens: int, stream_weight: float, focal: float | None, standby: float, held_out: float,
    checks: int, seed: int,
) -> LoraRecipe:  # fmt: skip
    from ...runtime.errors import UsageError
    from ...training.live_loss import LiveLoss
    from ...training.lora_model import LoraShape
    from ...training.lora_recipe import LoraRecipe

    for name, value in (("--stream-weight", stream_weight), ("--standby", standby)):
        if not math.isfinite(value):  # infinity passes a range without an upper end
            raise UsageError(f"got {name} {value}, expected a finite number", hint="leave it out")
    names = tuple(name.strip() for name in targets.split(",") if name.strip())
    if not names:
        raise UsageError("got an empty --targets, expected linear layers", hint="leave it out")
    if not (math.isfinite(usual.rate) and usual.rate > 0):
        raise UsageError(f"got --rate {usual.rate}, expected above 0", hint="try 1e-3, or 2e-4")
    if usual.is_decoder_only and "lm_head" in names:
        raise UsageError(
            "got --decoder-only with lm_head among --targets, expected layers that several "
            "adapters can share a base with",
            hint="leave out lm_head, or say --connector: an adapter of the head can only be merged",
        )
    shape = LoraShape(rank, alpha, names, usual.dropout, qlora, usual.is_decoder_only)
    return LoraRecipe(
        shape, LiveLoss(stream_weight, focal), usual.epochs, usual.rows, portions, row_tokens,
        usual.rate, standby_s=standby, rehearse=usual.rehearse, held_out=held_out, checks=checks,
        seed=seed,
    )  # fmt: skip


def _choice(
    dialogues: list[Path],
    evaluate_on: list[Path],
    checkpoint: Checkpoint,
    folder: Path,
    out: Path,
    cache: Path | None,
    recipe: LoraRecipe,
    device: str,
    is_shared: bool,
) -> LoraChoice:
    from ...training.dialogues import check_apart, read_all_dialogues
    from ...training.lora_recipe import LoraChoice
    from .train import chosen_device

    read, held = read_all_dialogues(dialogues), read_all_dialogues(evaluate_on)
    check_apart(read, held)
    return LoraChoice(
        checkpoint, read, held, out, cache or out / FEATURES_FOLDER, recipe, folder,
        chosen_device(device), is_shared=is_shared,
    )  # fmt: skip


def _say(made: LoraTrained, base: str, *, as_json: bool) -> None:
    if as_json:
        told = {"adapter": str(made.out), "steps": made.steps, "kept_step": made.best_step,
                "seconds": round(made.seconds, 1), "before": dict(made.before),
                "after": dict(made.after)}  # fmt: skip
        print(json.dumps(told))
        return
    minutes = made.seconds / 60
    kept = f", the weights of step {made.best_step}" if made.best_step != made.steps else ""
    print(f"trained  {made.out}: {made.steps} steps, {minutes:.1f} minutes of work{kept}")
    if made.after:
        print(f"  {'held out':14} {'before':>8} {'after':>8}")
    for name, value in made.after.items():
        print(f"  {name:14} {made.before.get(name, math.nan):8.3f} {value:8.3f}")
    if not made.after:
        print("  nothing was held out: with one video alone there is nothing to choose weights by")
    adapter = quote(str(made.out))
    print(f"next: edgestream export {quote(base)} --adapter {adapter} --out BUNDLE")
    print("      edgestream run VIDEO --bundle BUNDLE --gate token --set context.kind=continuous")
