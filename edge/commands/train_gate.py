"""`edgestream train gate`: a gate that learns when to speak, and of what; `export` takes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .train_lora import FEATURES_FOLDER

if TYPE_CHECKING:
    from ...training.gate_recipe import GateChoice, GateRecipe, GateTrained

HEADS = ("linear", "narrow", "mlp", "cross-query", "cross-frame", "llm-1", "llm-4")


def gate(
    dialogues: Annotated[
        list[Path], typer.Argument(metavar="DIALOGUES...", help="Files of `train synthesize`.")
    ],
    base: Annotated[
        str, typer.Option("--base", metavar="CHECKPOINT", help="Folder, or id on the Hub.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="The gate's folder; the run lies in DIR/run."),
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
    head: Annotated[
        str, typer.Option("--head", help=f"What says whether to speak: {', '.join(HEADS)}.")
    ] = "mlp",
    width: Annotated[
        int,
        typer.Option(
            "--width", min=8, max=4096, help="Of the extractor, where the base has no gate."
        ),
    ] = 128,
    layers: Annotated[
        int,
        typer.Option("--layers", min=1, max=16, help="Of its recurrence, likewise."),
    ] = 2,
    distil: Annotated[
        int,
        typer.Option(
            "--distil",
            metavar="WIDTH",
            min=0,
            max=1024,
            help="At last a small gate of this width that the other one teaches; 0 for none.",
        ),
    ] = 0,
    speak_weight: Annotated[
        float,
        typer.Option(
            "--speak-weight", help="Of a frame worth a word; that of another is the rest to 1."
        ),
    ] = 0.85,
    focal: Annotated[
        float | None,
        typer.Option("--focal", metavar="GAMMA", min=0, max=10, help="Focal loss; try 2."),
    ] = None,
    no_query: Annotated[
        float,
        typer.Option("--no-query", min=0, max=1, help="Share of rows whose query is left out."),
    ] = 0.15,
    last_spoke: Annotated[
        bool, typer.Option("--last-spoke", help="It hears how long ago it last spoke.")
    ] = False,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, max=10_000, help="How often all is read in a stage.")
    ] = 20,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=4096, help="Of a batch, over all processes.")
    ] = 8,
    row_frames: Annotated[
        int, typer.Option("--row-frames", min=16, help="Of a row; longer dialogues are cut.")
    ] = 128,
    rate: Annotated[float, typer.Option("--rate", help="Highest learning rate.")] = 1e-3,
    checks: Annotated[
        int, typer.Option("--checks", min=1, help="Looks at what is held out, in each stage.")
    ] = 5,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Where features lie; else DIR/features of --out."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and order.")] = 0,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, or auto: cuda where there is one.")
    ] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew where a run lies in DIR.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Train a gate on streaming dialogues: at which frames the assistant speaks of its own accord.

    What the user says in a dialogue, and nobody answers at once, is what the gate is asked for from
    there on. A run that was cut short goes on when the same command is given again.
    """
    tools = _tools()
    from ..training_progress import told_progress

    recipe = _recipe(
        head, width, layers, distil, speak_weight, focal, no_query, epochs, rows, row_frames, rate,
        held_out, checks, seed, last_spoke=last_spoke,
    )  # fmt: skip
    choice = _choice(dialogues, evaluate_on or [], base, out, cache, recipe, device)
    with told_progress() as tell:
        made = tools(choice, tell, force=force)
    if made is not None:  # in the first process
        _say(made, base, as_json=as_json)


def _tools() -> Any:
    from ...runtime.errors import BackendMissing

    try:
        from ...training.gate_training import train_gate
    except ImportError as error:
        raise BackendMissing(
            f"training needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[train]'; a device needs neither to run a bundle",
        ) from error
    return train_gate


def _recipe(
    head: str, width: int, layers: int, distil: int, speak_weight: float, focal: float | None,
    no_query: float, epochs: int, rows: int, row_frames: int, rate: float, held_out: float,
    checks: int, seed: int, *, last_spoke: bool,
) -> GateRecipe:  # fmt: skip
    from ...runtime.errors import UsageError
    from ...training.gate_build import ExtractorSize
    from ...training.gate_loss import GateLoss
    from ...training.gate_recipe import GateRecipe

    if head not in HEADS:
        raise UsageError(
            f"got --head {head}, expected one of {', '.join(HEADS)}", hint="leave it out"
        )
    if not 0 < speak_weight < 1:
        raise UsageError(
            f"got --speak-weight {speak_weight}, expected between 0 and 1", hint="try 0.85"
        )
    if not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"got --rate {rate}, expected above 0", hint="try 1e-3")
    return GateRecipe(
        head, ExtractorSize(width, layers), GateLoss(speak_weight, focal), distil, epochs, rows,
        row_frames, no_query, rate, held_out=held_out, checks=checks, seed=seed,
        last_spoke=last_spoke,
    )  # fmt: skip


def _choice(
    dialogues: list[Path],
    evaluate_on: list[Path],
    base: str,
    out: Path,
    cache: Path | None,
    recipe: GateRecipe,
    device: str,
) -> GateChoice:
    from ...models.families import load_checkpoint
    from ...models.hub import checkpoint_folder
    from ...training.dialogues import check_apart, read_all_dialogues
    from ...training.gate_recipe import GateChoice
    from .train import chosen_device

    read, held = read_all_dialogues(dialogues), read_all_dialogues(evaluate_on)
    check_apart(read, held)
    checkpoint = load_checkpoint(checkpoint_folder(base))
    return GateChoice(
        checkpoint, read, held, out, cache or out / FEATURES_FOLDER, recipe, chosen_device(device)
    )


def _say(made: GateTrained, base: str, *, as_json: bool) -> None:
    if as_json:
        told = {"gate": str(made.out), "steps": dict(made.steps),
                "kept_steps": dict(made.best_steps), "seconds": round(made.seconds, 1),
                "parameters": made.parameters, "reads_query": made.asked,
                "reads_spoken": made.spoken, "held_out": dict(made.figures)}  # fmt: skip
        print(json.dumps(told))
        return
    steps = ", ".join(f"{name} {count} steps" for name, count in made.steps.items())
    asked = "asked for something" if made.asked else "asked nothing"
    asked += " and hears when it last spoke" if made.spoken else ""
    print(f"trained  {made.out}: {steps}, {made.seconds / 60:.1f} minutes of work; a gate of "
          f"{made.parameters:,} parameters that is {asked}")  # fmt: skip
    for name, value in made.figures.items():
        print(f"  {name:14} {value:8.3f}")
    print(f"next: edgestream export {quote(base)} --gate {quote(str(made.out))} --out BUNDLE")
    if made.asked:
        print(
            '      edgestream run VIDEO --bundle BUNDLE --gate learned --gate-query "what to tell"'
        )
