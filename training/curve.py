"""The curve of a training run: one JSON object a line, and TensorBoard where that is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CURVE_FILE = "curve.jsonl"


class Curve:
    """Appends points; a run that goes on forgets the points after its checkpoint.

    State: the open files; for TensorBoard one folder a stage.

    Args:
        folder: of the run, there.
        order: names of the stages, in their order.
        at: (stage, step) that the run goes on from.
    """

    def __init__(self, folder: Path, order: tuple[str, ...], at: tuple[str, int]) -> None:
        path = folder / CURVE_FILE
        stage, step = at
        kept = [
            line
            for line in (path.read_text("utf-8").splitlines() if path.is_file() else [])
            if _is_before(line, order, order.index(stage), step)
        ]
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in kept), "utf-8")
        os.replace(fresh, path)
        self._file = path.open("a", encoding="utf-8")
        self._folder, self._at = folder, at
        self._boards: dict[str, Any] = {}

    def add(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """One point, on disk at once."""
        rounded = {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in values.items()
        }
        self._file.write(json.dumps({"stage": stage, "step": step, **rounded}) + "\n")
        self._file.flush()
        if stage not in self._boards:
            self._boards[stage] = self._board(stage)
        board = self._boards[stage]
        if board is not None:
            for name, value in rounded.items():
                if isinstance(value, int | float):
                    board.add_scalar(name, value, step)
            board.flush()

    def close(self) -> None:
        """No more points."""
        self._file.close()
        for board in self._boards.values():
            if board is not None:
                board.close()

    def _board(self, stage: str) -> Any:
        """A TensorBoard writer; None where the optional package is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        at, step = self._at
        # What an earlier run wrote after the checkpoint is taken back, as in the other file.
        purge = step + 1 if stage == at and step else None
        return SummaryWriter(str(self._folder / "tensorboard" / stage), purge_step=purge)


def _is_before(line: str, order: tuple[str, ...], stage: int, step: int) -> bool:
    """Whether a line is of a step that is done; what a crash left of a line is not."""
    try:
        point = json.loads(line)
        at = order.index(point["stage"])
        return at < stage or (at == stage and point["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False
