"""The folder of a training run: its state in one file, replaced whole, and what it was begun with.

`state.safetensors` holds weights and optimiser; its header holds the counters as JSON. A run that
is killed at any moment goes on from the last whole file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..runtime.errors import CheckpointInvalid, OutputUnwritable, UsageError

STATE_FILE, BEGUN_FILE = "state.safetensors", "begun.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run is.

    Attributes:
        stage: that is under way.
        step: steps of it that are done.
        seconds: of work in it.
        done: steps of the stages before, by name.
        tensors: weights and optimiser, by name.
        notes: whatever else has to be known to go on; JSON.
    """

    stage: str
    step: int = 0
    seconds: float = 0.0
    done: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


def save_state(folder: Path, state: RunState) -> None:
    """Replace the state of a run; whoever reads meanwhile finds the one or the other, whole.

    Raises:
        OutputUnwritable: as `replace_tensors`.
    """
    told = {"format": FORMAT, "stage": state.stage, "step": state.step, "seconds": state.seconds,
            "done": dict(state.done), "notes": dict(state.notes)}  # fmt: skip
    replace_tensors(folder / STATE_FILE, state.tensors, {"run": json.dumps(told)})


def replace_tensors(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> None:
    """Replace a safetensors file whole; where that fails, what was there stays.

    Args:
        path: of the file.
        tensors: by name.
        told: of its header.

    Raises:
        OutputUnwritable: the disk is full, or the folder cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    # Copies: a tied table has two names, and safetensors wants each tensor to be alone.
    alone = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(alone, str(fresh), metadata=dict(told))
        with fresh.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(fresh, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise OutputUnwritable(
            f"{path} cannot be written: {error}",
            hint="make room: the same command goes on from the checkpoint before",
        ) from error


def load_state(folder: Path) -> RunState | None:
    """The state of a run; None where it has not saved one yet.

    Raises:
        CheckpointInvalid: the file is damaged, or of a newer program.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as found:
            told = json.loads((found.metadata() or {})["run"])
            tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}, expected {FORMAT}")
        return RunState(
            told["stage"], told["step"], told["seconds"], told["done"], tensors, told["notes"]
        )
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointInvalid(
            f"{path} cannot be read: {error}",
            hint="begin anew with --force, or take the folder out of the way",
        ) from error


def make_folder(folder: Path, option: str) -> None:
    """Make a folder and those above it, where they are not there yet.

    Args:
        folder: to make.
        option: that names it on the command line, for the hint.

    Raises:
        OutputUnwritable: there can be no such folder: a file of that name, or no right to write.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritable(
            f"the folder {folder} cannot be made: {error.strerror}",
            hint=f"give {option} in a folder that you may write to",
        ) from error


def begin_or_continue(folder: Path, begun: Mapping[str, Any]) -> None:
    """Note what a run is begun with, or refuse to go on with something else.

    Args:
        folder: of the run; it is made.
        begun: JSON: recipe and budgets.

    Raises:
        UsageError: a run of another recipe lies there.
        CheckpointInvalid: what says with which recipe is damaged.
        OutputUnwritable: there can be no such folder.
    """
    make_folder(folder, "--out")
    path = folder / BEGUN_FILE
    wanted = json.loads(json.dumps(dict(begun)))
    if path.is_file():
        there = _begun(path)
        differs = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
        if differs:
            name = differs[0]
            got, expected = _first_difference(wanted.get(name), there.get(name))
            raise UsageError(
                f"{folder} holds a run that was begun with {name}{expected}, got {got}",
                hint="repeat its own command to go on with it, or begin anew with --force",
            )
        return
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(wanted, indent=1) + "\n", "utf-8")
    os.replace(fresh, path)


def _begun(path: Path) -> dict[str, Any]:
    """What the run that lies there was begun with."""
    try:
        there = json.loads(path.read_text("utf-8"))
        if not isinstance(there, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointInvalid(
            f"{path} cannot be read: {error}",
            hint="begin anew with --force, or take the folder out of the way",
        ) from error
    return there


def _first_difference(one: Any, other: Any, place: str = "") -> tuple[Any, str]:
    """What the one has, and where the other has what, at the first place where they differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                return _first_difference(one.get(name), other.get(name), f"{place}.{name}")
    return one, f"{place} = {other}"
