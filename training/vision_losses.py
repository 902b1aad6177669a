"""What vision and gate are taught: events and speech, and densely what lies where.

Every term is a sum over a batch divided by a fixed expected count, not by the count at hand: so the
average over processes is the loss of all their clips at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..evaluation.world import ATTRIBUTES
from ..evaluation.world.event_types import OTHER_COLOUR
from ..models.cognition_gate import GateSequence
from .vision_batches import IGNORED, VisionBatch

SPEAK_WEIGHT, EVENT_WEIGHT = 2.0, 3.0
"""Of what happens against what does not: it is rare."""
BACKGROUND, OBJECT = 0.4, 2.5
"""Weights of patches: nine of ten are background, and colours learn slowly otherwise."""
EVENT_SCALE, ATTRIBUTE_SCALE, COUNT_SCALE, PRESENT_SCALE = 6.0, 0.3, 0.5, 0.5
ATTRIBUTED = {"colour": 0.12, "side": 0.045, "direction": 0.07, "size": 0.025}
"""Share of frames at which each attribute is asked for, about: what sums are divided by."""
MEAN_PATCH_WEIGHT = 0.7
MOST_COUNTED = 6


class DenseHeads(nn.Module):
    """Heads that only training needs: of every patch, and of the picture's token.

    Args:
        dim: of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.colour = nn.Linear(dim, OTHER_COLOUR + 1)
        self.moving = nn.Linear(dim, 1)
        self.count = nn.Linear(dim, MOST_COUNTED + 1)
        self.scene = nn.Linear(dim, 2)
        self.present = nn.Linear(dim, OTHER_COLOUR)


def vision_losses(
    told: GateSequence, whole: Tensor, patches: Tensor, heads: DenseHeads, batch: VisionBatch
) -> dict[str, Tensor]:
    """The terms of the loss, by name; their sum is what is minimised.

    Args:
        told: of the gate, over all frames.
        whole: (B, T, dim), the picture's token.
        patches: (B, T, 49, dim).
        heads: of training alone.
        batch: the truth.
    """
    frames = batch.speak.numel()
    speak, events = told.logits[..., 0], told.logits[..., 1:]
    terms = {
        "speak": binary_cross_entropy_with_logits(
            speak, batch.speak, pos_weight=speak.new_tensor(SPEAK_WEIGHT)
        ),
        "events": EVENT_SCALE
        * binary_cross_entropy_with_logits(
            events, batch.events, pos_weight=events.new_tensor(EVENT_WEIGHT)
        ),
    }
    for name in ATTRIBUTES:
        loss = cross_entropy(
            told.attributes[name].flatten(0, 1),
            batch.attributes[name].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        terms[name] = ATTRIBUTE_SCALE * loss / (frames * ATTRIBUTED[name])
    return terms | _dense_losses(whole, patches, heads, batch)


def _dense_losses(
    whole: Tensor, patches: Tensor, heads: DenseHeads, batch: VisionBatch
) -> dict[str, Tensor]:
    weights = whole.new_full((OTHER_COLOUR + 1,), OBJECT)
    weights[0] = BACKGROUND
    colours = batch.patch_colour
    patch = cross_entropy(
        heads.colour(patches).flatten(0, 2), colours.flatten(), weight=weights, reduction="sum"
    )
    there = torch.arange(1, OTHER_COLOUR + 1, device=colours.device)
    present = (colours[..., None] == there).any(2).to(whole.dtype)
    return {
        "patch": patch / (colours.numel() * MEAN_PATCH_WEIGHT),
        "moving": binary_cross_entropy_with_logits(
            heads.moving(patches)[..., 0],
            batch.patch_moving,
            pos_weight=whole.new_tensor(EVENT_WEIGHT),
        ),
        "count": COUNT_SCALE
        * cross_entropy(
            heads.count(whole).flatten(0, 1), batch.count.clamp(max=MOST_COUNTED).flatten()
        ),
        "scene": binary_cross_entropy_with_logits(heads.scene(whole), batch.scene),
        "present": PRESENT_SCALE * binary_cross_entropy_with_logits(heads.present(whole), present),
    }
