"""What a LoRA run is told: the recipe, the choice of data and place, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..models.family import Checkpoint
from ..models.reference_checkpoint import FAMILY
from .dialogues import Dialogue
from .live_loss import LiveLoss
from .lora_model import LoraShape
from .training_loop import CHECKPOINT_S


@dataclass(frozen=True, slots=True)
class Usual:
    """What a run does where nobody says otherwise.

    Attributes:
        epochs, rows, rate, rehearse: see `LoraRecipe`.
        dropout, is_decoder_only, round_to: see `LoraShape`.
    """

    epochs: int = 10
    rows: int = 8
    rate: float = 1e-3
    rehearse: int = 0
    dropout: float = 0.05
    is_decoder_only: bool = False
    round_to: str = ""


REFERENCE = Usual(
    epochs=3, rows=4, rate=2e-3, rehearse=240, dropout=0.0, is_decoder_only=True,
    round_to="int4-64",
)  # fmt: skip
"""Of a reference assistant: so it learned an event of 160 clips in seven minutes of one core, and
kept what it knew; without a rehearsal it lost ten points of its answers (docs/LOG.md)."""


def usual_of(family: str, *, is_shared: bool = False, is_nf4: bool = False) -> Usual:
    """What is usual for a base of a family.

    Any other base than a reference assistant knows nothing of the rendered world; one whose parts
    lie in several processes cannot be asked what it said before, nor read rounded; one that is kept
    as NF4 is rounded already.
    """
    found = REFERENCE if family == FAMILY else Usual()
    if is_shared:
        found = replace(found, rehearse=0)
    return replace(found, round_to="") if is_shared or is_nf4 else found


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How an adapter is trained.

    Attributes:
        shape: what is trained.
        loss: how its parts are weighed.
        epochs: how often each dialogue is read.
        rows: of a batch, over all processes.
        portions: that a process reads its share of a batch in.
        row_tokens: of a row, about; a longer dialogue is cut.
        rate: highest learning rate.
        warm_up: share of the steps over which it rises; VideoLLM-online's.
        standby_s: frames so shortly before a text are taught as standby, seconds.
        rehearse: clips of the rendered world, of each process, of which a reference assistant is to
            say what it said before; 0 for none.
        held_out: share of the videos that are kept for choosing the best checkpoint.
        checks: times that they are looked at, the last time at the end.
        seed: of everything that is drawn.
    """

    shape: LoraShape = field(default_factory=LoraShape)
    loss: LiveLoss = field(default_factory=LiveLoss)
    epochs: int = 10
    rows: int = 8
    portions: int = 1
    row_tokens: int = 400
    rate: float = 1e-3
    warm_up: float = 0.05
    standby_s: float = 0.0
    rehearse: int = 0
    held_out: float = 0.1
    checks: int = 5
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """What is kept of it."""
        told: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return told


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """What is trained, and where.

    Attributes:
        checkpoint: the base, loaded.
        dialogues: checked; trained on, but for what is held out of them.
        evaluation: held out instead of a share of `dialogues`; empty for the share.
        out: adapter folder; the run lies in OUT/run.
        cache: folder of the features.
        recipe: all numbers.
        base: folder of the checkpoint, for a rehearsal.
        device: cpu or cuda.
        checkpoint_s: between two checkpoints, seconds of work.
        is_shared: each process keeps its part of the base (FSDP); in `checkpoint` it is given up.
    """

    checkpoint: Checkpoint
    dialogues: tuple[Dialogue, ...]
    evaluation: tuple[Dialogue, ...]
    out: Path
    cache: Path
    recipe: LoraRecipe
    base: Path | None = None
    device: str = "cpu"
    checkpoint_s: float = CHECKPOINT_S
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class LoraTrained:
    """What came of a run.

    Attributes:
        out: the adapter folder.
        steps: that were taken.
        best_step: whose weights were kept.
        seconds: of work.
        before, after: figures on what was held out, of the base and of the best weights; empty
            where nothing was.
    """

    out: Path
    steps: int
    best_step: int
    seconds: float
    before: Mapping[str, float]
    after: Mapping[str, float]
