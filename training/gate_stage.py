"""The stages of a gate: its extractor, its head on the frozen extractor, and a small one taught."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..models.cognition_gate import FRAME_READS, CognitionGate, GateSequence
from .gate_loss import GateLoss
from .gate_streams import GateBatch
from .team import Team
from .two_optimisers import MuonAndAdamW

EXTRACTOR, GATE, DISTIL = "extractor", "gate", "distil"
STAGES = (EXTRACTOR, GATE, DISTIL)
HEAD = ("speak.", "since.")
"""Begin the names of the weights of a head, and of what it hears of when it last spoke."""
INSIDE = ("blocks.", "read.", "join.", "narrow.")
"""Begin the names of the extractor's matrices, which Muon trains."""


class GateStage:
    """See `training_loop.Stage`.

    Args:
        name: of STAGES.
        gate: it is trained: the head alone in the stage `gate`, else the head and the extractor,
            never what it says of events and attributes.
        batch: step → what this process reads in it.
        loss: how frames are weighed.
        team: who takes part.
        teacher: of the stage `distil`, frozen; None for the labels alone.

    Attributes:
        steps: that were taken, counted from the beginning of the stage.
    """

    along = (0.0, 1.0)

    def __init__(
        self,
        name: str,
        gate: CognitionGate,
        batch: Callable[[int], GateBatch],
        loss: GateLoss,
        team: Team,
        teacher: CognitionGate | None = None,
    ) -> None:
        self.name, self.gate, self.loss, self.team = name, gate, loss, team
        self._batch, self._teacher = batch, teacher
        self.steps = 0
        gate.requires_grad_(False)
        for one in self.trained.values():
            one.requires_grad_(True)

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The weights that this stage trains, by name."""
        parts = dict(self.gate.named_parameters())
        wanted = tuple(trained_names(self.name, parts, has_head=self.gate.speak is not None))
        return {name: parts[name] for name in wanted}

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of one batch."""
        self.steps = step + 1  # once this loss is taken back
        batch = self._batch(step)
        teacher = batch.taught
        if teacher is None and self._teacher is not None:
            with torch.no_grad():
                teacher = torch.sigmoid(told_of(self._teacher, batch).logits[..., 0])
        logits = told_of(self.gate, batch).logits[..., 0]
        sums = self.loss.sums(logits, batch.speaks, batch.learned, teacher)
        below = torch.stack([size for _, size in sums.values()])
        # The loop takes the mean over processes of what is here a part of a sum.
        whole = self.team.average_([], below).clamp_min(1e-6)
        terms = {name: sums[name][0] / whole[at] for at, name in enumerate(sums)}
        return terms, {"frames": float(batch.learned.sum())}

    def tensors(self) -> dict[str, Tensor]:
        """The whole gate."""
        return {f"gate.{name}": one for name, one in self.gate.state_dict().items()}

    def optimiser(self) -> MuonAndAdamW:
        """Muon for the matrices of the extractor, AdamW for the rest, the whole head among it."""
        trained = self.trained
        inside = {name for name, one in trained.items() if one.ndim == 2 and name.endswith("weight")
                  and name.startswith(INSIDE)}  # fmt: skip
        return MuonAndAdamW(trained, inside)


def trained_names(stage: str, names: Iterable[str], *, has_head: bool) -> list[str]:
    """Which weights a stage trains.

    Args:
        stage: of STAGES.
        names: of all weights.
        has_head: what speaks is a head of its own; else it is a row of `head`, with the events.
    """
    head = HEAD if has_head else ("head.",)
    if stage == GATE:
        return [name for name in names if name.startswith(head)]
    others = ("head.", "heads.")
    return [name for name in names if name.startswith(head) or not name.startswith(others)]


def told_of(gate: CognitionGate, batch: GateBatch) -> GateSequence:
    """What a gate says of a batch; what it does not read of it does not matter."""
    tokens, summary, motion = (batch.seen.get(name, batch.dt_s) for name in FRAME_READS)
    query = batch.query if gate.shape.reads_query else None
    spoken = batch.spoken if gate.shape.reads_spoken else None
    return gate.sequence(tokens, summary, motion, batch.dt_s, query=query, spoken=spoken)
