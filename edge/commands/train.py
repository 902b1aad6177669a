"""`edgestream train`: train a model upstream, in PyTorch; `reference` is our own assistant."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ...training.reference_training import Trained, TrainingChoice

MOST_PROCESSES = 4
"""Without --processes: each more makes the batch larger, and at some point slower to learn from."""
QUICK_MINUTES = 4.5

train = typer.Typer(
    name="train",
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Train a model upstream; needs the extra `train`.",
)


@train.callback()
def _train() -> None:
    """Train a model upstream; needs the extra `train`."""


@train.command("reference")
def reference(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Checkpoint folder; the run lies in DIR/run."),
    ],
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="How long to train, minutes of work.", min=0.05),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            metavar="N|LIST",
            help="Steps instead of minutes, as config.json of a checkpoint names them.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Under five minutes: to see that it learns.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and data.")] = 0,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", min=1, max=64, help="That share each step; one a core, at most 4."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, or auto: cuda where there is one.")
    ] = "auto",
    renderers: Annotated[
        int | None,
        typer.Option(
            "--renderers", min=0, max=256, help="Processes that render ahead; for cuda, one a core."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew where a run lies in DIR.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Train the reference assistant from nothing on rendered video, and write its checkpoint.

    A run that was cut short goes on when the same command is given again. Curves are in
    DIR/run/curve.jsonl, and for TensorBoard in DIR/run/tensorboard.
    """
    train_reference = _tools()
    from ..training_progress import told_progress

    choice = _choice(out, minutes, steps, quick, seed, processes, device, renderers)
    with told_progress() as tell:
        made = train_reference(choice, tell, force=force)
    _say(made, as_json=as_json)


def _tools() -> Any:
    """The training; it imports PyTorch, which a device does not have."""
    from ...runtime.errors import BackendMissing

    # Read when numpy is loaded, here and in the processes that follow: the arrays of a clip are
    # small, and threads for them only take the cores from each other. PyTorch is told its own.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        from ...training.reference_training import train_reference
    except ImportError as error:
        raise BackendMissing(
            f"training needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[train]'; a device needs neither to run a bundle",
        ) from error
    return train_reference


def _choice(
    out: Path,
    minutes: float | None,
    steps: str | None,
    quick: bool,
    seed: int,
    processes: int | None,
    device: str,
    renderers: int | None,
) -> TrainingChoice:
    from ...runtime.engine_pool import usable_cores
    from ...runtime.errors import UsageError
    from ...training.reference_recipe import QUICK, Recipe, budgets_of_minutes
    from ...training.reference_training import TrainingChoice

    if sum((minutes is not None, steps is not None, quick)) != 1 and not (quick and steps):
        raise UsageError(
            "got none or several of --minutes, --steps and --quick, expected one of them",
            hint="edgestream train reference --minutes 70 --out DIR",
        )
    if minutes is not None and not math.isfinite(minutes):
        raise UsageError(f"got --minutes {minutes}, expected a number", hint="try --minutes 70")
    on = chosen_device(device)
    cores = usable_cores()
    count = processes or (1 if on == "cuda" else min(cores, MOST_PROCESSES))
    if on == "cuda" and count > 1:
        raise UsageError(
            f"got --processes {count} with cuda, expected 1", hint="use --renderers to render ahead"
        )
    recipe = replace(QUICK if quick else Recipe(), seed=seed, processes=count)
    if steps is not None:
        budgets = _step_budgets(steps)
    else:
        budgets = budgets_of_minutes(recipe, QUICK_MINUTES if quick else minutes or 0.0)
    ahead = renderers if renderers is not None else (cores if on == "cuda" else 0)
    return TrainingChoice(out, recipe, budgets, on, ahead)


def _step_budgets(steps: str) -> Any:
    from ...runtime.errors import UsageError
    from ...training.reference_recipe import budgets_of_steps, steps_from_text

    try:
        return budgets_of_steps(steps_from_text(steps))
    except ValueError as error:
        raise UsageError(
            f"--steps: {error}", hint="try --steps vision=3000,cache=400,text=300,stream=900"
        ) from error


def chosen_device(name: str) -> str:
    """The device of --device.

    Raises:
        UsageError: there is no such device here.
    """
    import torch

    from ...runtime.errors import UsageError

    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"got --device {name}, expected cpu, cuda or auto", hint="leave it out")
    has_one = torch.cuda.is_available()
    if name == "cuda" and not has_one:
        raise UsageError("got --device cuda, but PyTorch sees none here", hint="try --device cpu")
    return "cuda" if has_one and name != "cpu" else "cpu"


def _say(made: Trained, *, as_json: bool) -> None:
    if as_json:
        told = {
            "checkpoint": str(made.out),
            "steps": dict(made.steps),
            "seconds": dict(made.seconds),
            "held_out": dict(made.held_out),
        }
        print(json.dumps(told))
        return
    minutes = sum(made.seconds.values()) / 60
    print(f"trained  {made.out}, {minutes:.1f} minutes of work")
    for name, value in made.held_out.items():
        print(f"  {name:14} {value:6.2f}")
    print("next: edgestream export " + quote(str(made.out)) + " --out BUNDLE --llm int8")
