"""Stage 1: vision and gate learn together, from scratch, on clips that are rendered as they go."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..models.reference_model import ReferenceModel
from .reference_recipe import Recipe
from .seeing import gate_inputs
from .team import Team
from .two_optimisers import MuonAndAdamW
from .vision_batches import VisionBatch, rendered_batch
from .vision_losses import DenseHeads, vision_losses

Render = Callable[[int, int], VisionBatch]
"""(step, frames) → the batch of this process."""


class VisionStage:
    """See `training_loop.Stage`.

    Args:
        model: vision and gate are trained.
        heads: of training alone, trained too.
        recipe: of the run.
        team: who takes part; each process renders clips of its own.
        render: gives batches; None to render here and now.
        device: of the model.
    """

    name = "vision"
    along = (0.0, 1.0)

    def __init__(
        self,
        model: ReferenceModel,
        heads: DenseHeads,
        recipe: Recipe,
        team: Team,
        render: Render | None = None,
        device: str = "cpu",
    ) -> None:
        self.model, self.heads, self.recipe, self.team = model, heads, recipe, team
        self._render = render or self.batch
        self._device = device

    def batch(self, step: int, frames: int) -> VisionBatch:
        """What this process reads in a step: a matter of the recipe, the step and the rank."""
        return batch_of(self.recipe, self.team, step, frames)

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of one batch; the last share of the stage is of longer clips."""
        recipe = self.recipe
        is_late = progress >= 1.0 - recipe.late_share
        begun = time.monotonic()
        batch = self._render(step, recipe.late_frames if is_late else recipe.frames)
        rendered_s = time.monotonic() - begun
        batch = batch.to(self._device)
        given, whole, patches = gate_inputs(self.model, batch)
        told = self.model.gate.sequence(*given)
        terms = vision_losses(told, whole, patches, self.heads, batch)
        return terms, {"render_s": rendered_s, "frames": float(batch.speak.numel())}

    def tensors(self) -> dict[str, Tensor]:
        """The whole model and the heads."""
        found = {f"model.{name}": one for name, one in self.model.state_dict().items()}
        return found | {f"heads.{name}": one for name, one in self.heads.state_dict().items()}

    def optimiser(self) -> MuonAndAdamW:
        """Muon for the matrices of the tower's layers and of the gate."""
        trained = {
            **{f"vision.{name}": one for name, one in self.model.vision.named_parameters()},
            **{f"gate.{name}": one for name, one in self.model.gate.named_parameters()},
            **{f"heads.{name}": one for name, one in self.heads.named_parameters()},
        }
        inside = ("encoder.layers", "gate.blocks", "gate.read", "gate.join")
        matrices = {
            name
            for name, one in trained.items()
            if one.ndim == 2 and any(part in name for part in inside) and name.endswith("weight")
        }
        return MuonAndAdamW(trained, matrices)


def batch_of(recipe: Recipe, team: Team, step: int, frames: int) -> VisionBatch:
    """The clips of one process in one step."""
    clips = recipe.clips
    first = (step * team.size + team.rank) * clips
    seeds = [recipe.clip_seed("vision", first + at) for at in range(clips)]
    return rendered_batch(
        seeds, frames, recipe.rules(), reused=recipe.reused, other_rates=recipe.other_rates
    )


@torch.no_grad()
def gate_outputs(
    model: ReferenceModel, batch: VisionBatch
) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
    """What vision and gate give for clips.

    Returns:
        scores (B, T, 15) in [0, 1]; attribute → (B, T, values) probabilities; tokens (B, T, 10,
        dim); state_summary (B, T, width).
    """
    given, _, _ = gate_inputs(model, batch)
    told = model.gate.sequence(*given)
    attributes = {
        name: torch.softmax(logits, -1)[..., :-1] for name, logits in told.attributes.items()
    }
    return torch.sigmoid(told.logits), attributes, given[0], told.state_summary
