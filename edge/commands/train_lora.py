"""`edgestream train lora`: adapt a checkpoint to your own clips; `export` takes what it writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ...models.family import Checkpoint
    from ...training.lora_recipe import LoraChoice, LoraRecipe, Usual

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
    round_to: Annotated[
        str | None,
        typer.Option(
            "--round-to",
            metavar="SCHEME",
            help="Read the weights as `export --llm SCHEME` will round them, adapter merged; fp32: "
            "as they are. Left out: int4 for a reference assistant, fp32 for others and with "
            "--qlora or --fsdp.",
        ),
    ] = None,
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
            help="How often all is read. Left out: 3 for a reference assistant, 10 for others.",
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
            "that it forgets nothing; 0 for none. Left out: 240 for a reference assistant, 0 for "
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
    from .trained_adapter import say

    checkpoint, folder = _base(base)
    said = {"epochs": epochs, "rows": rows, "rate": rate, "rehearse": rehearse,
            "dropout": dropout, "is_decoder_only": decoder_only,
            "round_to": _scheme(round_to)}  # fmt: skip
    usual = _usual(checkpoint, said, is_shared=fsdp, is_nf4=qlora)
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
        say(made, base, usual, as_json=as_json)


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


def _scheme(name: str | None) -> str | None:
    """The full name of a scheme to round to; empty for full precision."""
    from ...training.rounded_layers import rounding_named

    return name and ("" if name == "fp32" else rounding_named(name).name)


def _usual(
    checkpoint: Checkpoint, said: Mapping[str, Any], *, is_shared: bool, is_nf4: bool
) -> Usual:
    """What was said, and what is usual for this base where nothing was."""
    from ...training.lora_recipe import usual_of

    given = {name: one for name, one in said.items() if one is not None}
    return replace(usual_of(checkpoint.source.family, is_shared=is_shared, is_nf4=is_nf4), **given)


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
    shape = LoraShape(
        rank, alpha, names, usual.dropout, qlora, usual.is_decoder_only, usual.round_to
    )
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
