"""The best weights of a run so far, by a loss on what was held out, kept in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor, no_grad

from ..runtime.errors import CheckpointInvalid
from .run_folder import replace_tensors

BEST_FILE = "best.safetensors"


class Trainable(Protocol):
    """What is trained."""

    @property
    def trained(self) -> Mapping[str, Tensor]:
        """Its weights by name, the very memory of them."""
        ...


class BestWeights:
    """Keeps them; a run that goes on finds those of before.

    Args:
        model: whose trained weights are kept.
        folder: of the run, there.
    """

    def __init__(self, model: Trainable, folder: Path) -> None:
        self._model, self._path = model, folder / BEST_FILE

    @property
    def step(self) -> int:
        """After which they were kept."""
        return int(self._told()["step"])

    def offer(self, step: int, loss: float) -> bool:
        """Keep the present weights where no smaller loss was offered; whether they were kept.

        A run that goes on from a checkpoint offers again what it has offered, to the same end.
        """
        if self._path.is_file() and float(self._told()["loss"]) <= loss:
            return False
        told = {"best": json.dumps({"step": step, "loss": loss})}
        replace_tensors(self._path, self._model.trained, told)
        return True

    def take(self) -> None:
        """Put them into the model.

        Raises:
            CheckpointInvalid: the file is damaged or not there.
        """
        trained = self._model.trained
        try:
            with safe_open(str(self._path), framework="pt") as found, no_grad():
                for name, one in trained.items():
                    one.copy_(found.get_tensor(name))
        except (OSError, SafetensorError) as error:
            raise _damaged(self._path, error) from error

    def _told(self) -> dict[str, float]:
        try:
            with safe_open(str(self._path), framework="pt") as found:
                told: dict[str, float] = json.loads((found.metadata() or {})["best"])
                return told
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise _damaged(self._path, error) from error


def publish(made: Path, out: Path) -> None:
    """Copy the files of a folder, each whole or not at all, the weights first."""
    for path in sorted(made.iterdir(), key=lambda one: one.suffix != ".safetensors"):
        fresh = out / f".{path.name}.new"
        fresh.write_bytes(path.read_bytes())
        os.replace(fresh, out / path.name)


def _damaged(path: Path, error: Exception) -> CheckpointInvalid:
    return CheckpointInvalid(f"{path} cannot be read: {error}", hint="begin anew with --force")
