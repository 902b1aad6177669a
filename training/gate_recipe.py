"""What a gate's run is told: the recipe, the choice of data and place, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..models.family import Checkpoint
from .dialogues import Dialogue
from .gate_build import ExtractorSize
from .gate_loss import GateLoss
from .training_loop import CHECKPOINT_S


@dataclass(frozen=True, slots=True)
class GateRecipe:
    """How a gate is trained.

    Attributes:
        head: of `gate_build.HEADS`.
        size: of the extractor, where the base has none.
        loss: how frames are weighed.
        distil: width of a small gate that is taught by the other; 0 for none.
        epochs: how often each dialogue is read, in each stage.
        rows: of a batch, over all processes.
        row_frames: of a row; a longer dialogue is cut.
        no_query: share of rows whose query is left out, so that it goes without one too.
        rate: highest learning rate.
        warm_up: share of a stage over which it rises.
        held_out: share of the videos that are kept for choosing weights and thresholds.
        checks: times that they are looked at in a stage, the last time at its end.
        seed: of everything that is drawn.
        last_spoke: it hears when it last spoke.
    """

    head: str = "mlp"
    size: ExtractorSize = field(default_factory=ExtractorSize)
    loss: GateLoss = field(default_factory=GateLoss)
    distil: int = 0
    epochs: int = 20
    rows: int = 8
    row_frames: int = 128
    no_query: float = 0.15
    rate: float = 1e-3
    warm_up: float = 0.05
    held_out: float = 0.1
    checks: int = 5
    seed: int = 0
    last_spoke: bool = False

    def as_json(self) -> dict[str, Any]:
        """What is kept of it."""
        told: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not self.last_spoke:  # so that a run that was begun before there was the choice goes on
            del told["last_spoke"]
        return told


@dataclass(frozen=True, slots=True)
class GateChoice:
    """What is trained, and where.

    Attributes:
        checkpoint: the base, loaded.
        dialogues: checked; trained on, but for what is held out of them.
        evaluation: held out instead of a share of `dialogues`; empty for the share.
        out: folder of the gate; the run lies in OUT/run.
        cache: folder of the features.
        recipe: all numbers.
        device: cpu or cuda.
        checkpoint_s: between two checkpoints, seconds of work.
    """

    checkpoint: Checkpoint
    dialogues: tuple[Dialogue, ...]
    evaluation: tuple[Dialogue, ...]
    out: Path
    cache: Path
    recipe: GateRecipe
    device: str = "cpu"
    checkpoint_s: float = CHECKPOINT_S


@dataclass(frozen=True, slots=True)
class GateTrained:
    """What came of a run.

    Attributes:
        out: the folder with gate.safetensors and gate.json.
        steps: of each stage.
        best_steps: of each stage, whose weights were kept.
        seconds: of work.
        parameters: of the gate.
        asked: it reads a query.
        figures: on what was held out; empty where nothing was.
        spoken: it hears when it last spoke.
    """

    out: Path
    steps: Mapping[str, int]
    best_steps: Mapping[str, int]
    seconds: float
    parameters: int
    asked: bool
    figures: Mapping[str, float]
    spoken: bool = False
