"""The loss of a gate: two classes, of which one is rare, weighted or focused; and a teacher's.

A camera sees nothing worth a word a hundred times for once that it does. Weighted: StreamMind's
weights of silence and response, by which the sum is divided too. Focal: a frame counts less the
surer the gate is of it already.

Source: StreamMind (arXiv 2503.06220) and its code at 4274776 (weights .15 and .85, `CE`'s own
normalisation); Lin et al., "Focal loss" (arXiv 1708.02002), equation 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

SPEAK_WEIGHT = 0.85
"""Of a frame that is worth a word; that of another is the rest to 1. StreamMind's."""


@dataclass(frozen=True, slots=True)
class GateLoss:
    """How frames are weighed.

    Attributes:
        speak_weight: of a frame that is worth a word, in (0, 1); that of another is the rest to 1.
        gamma: of the focal form; None for plain cross-entropy.
        taught: share of the teacher's word in the loss where there is one; the rest is the labels'.

    Raises:
        ValueError: one of them is out of its range.
    """

    speak_weight: float = SPEAK_WEIGHT
    gamma: float | None = None
    taught: float = 0.5

    def __post_init__(self) -> None:
        if not (0.0 < self.speak_weight < 1.0 and 0.0 <= self.taught <= 1.0):
            raise ValueError(f"got {self}, expected shares between 0 and 1")

    def sums(
        self, logits: Tensor, speaks: Tensor, learned: Tensor, teacher: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """(sum, what it is divided by) of each term; a batch's loss is the sum of their quotients.

        So the loss of a batch is the same however many processes share it.

        Args:
            logits: (B, T) of `speak`.
            speaks: (B, T) float32, 0 or 1.
            learned: (B, T) float32, 0 where a frame teaches nothing.
            teacher: (B, T) probabilities of a larger gate; None without one.
        """
        weights = torch.where(speaks > 0, self.speak_weight, 1.0 - self.speak_weight) * learned
        each = binary_cross_entropy_with_logits(logits, speaks, reduction="none")
        if self.gamma is not None:
            each = each * (1.0 - torch.exp(-each)) ** self.gamma
        labels = 1.0 if teacher is None else 1.0 - self.taught
        found = {"speak": (labels * (weights * each).sum(), weights.sum())}
        if teacher is not None:
            soft = binary_cross_entropy_with_logits(logits, teacher, reduction="none")
            found["taught"] = (self.taught * (learned * soft).sum(), learned.sum())
        return found
