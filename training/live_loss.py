"""The LIVE loss: of words, and of whether to speak after each frame, weighted or focused.

Plain, as VideoLLM-online trains: the mean cross-entropy over all labels, those behind frames times
`stream_weight`. Focal, as Streamo trains three states (silent, standby, speak): each label behind a
frame counts alpha · (1 - p) ** gamma, where p is the probability that the model gives it, and alpha
makes the states of a batch equally heavy. A stream is silent a hundred times for once that it
speaks; plain cross-entropy leaves that to the threshold of the device.

Source: VideoLLM-online (arXiv 2406.11816), `models/modeling_live.py` at e2c78ec; differs: a stretch
that ends because the user speaks is not taught to end (dialogue_stream.py). Streamo's focal weights
(alpha = N / (C · n), gamma = 2); differs: a model without a standby token has two states.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

WORD, SILENT, STANDBY, SPEAK = -1, 0, 1, 2
"""What a label is: a word, or the state after a frame."""
STATES = 3


@dataclass(frozen=True, slots=True)
class LiveLoss:
    """How the two parts are weighed.

    Attributes:
        stream_weight: of the labels behind frames; words count 1.
        gamma: of the focal form; None for plain cross-entropy.
    """

    stream_weight: float = 1.0
    gamma: float | None = None

    def terms(self, logits: Tensor, labels: Tensor, states: Tensor, counts: Tensor) -> LiveTerms:
        """The loss of some labels of a batch; the sum over its parts is the loss of the batch.

        Args:
            logits: (labels, vocabulary).
            labels: (labels,) int64 token ids.
            states: (labels,) int64, WORD or a state.
            counts: (1 + STATES,) of `label_counts`, of the whole batch, over all processes.
        """
        each = cross_entropy(logits.float(), labels, reduction="none")
        is_word = states == WORD
        weights = torch.where(is_word, 1.0, self.stream_weight)
        if self.gamma is not None:
            chance = torch.exp(-each.detach())
            focus = _alphas(counts)[states.clamp_min(0)] * (1.0 - chance) ** self.gamma
            weights = torch.where(is_word, weights, weights * focus)
        each = weights * each / counts.sum().clamp_min(1.0)
        return LiveTerms(each[~is_word].sum(), each[is_word].sum())


@dataclass(frozen=True, slots=True)
class LiveTerms:
    """Both parts of the loss, scalars.

    Attributes:
        stream: of the decisions after frames.
        words: of what is said.
    """

    stream: Tensor
    words: Tensor


def label_counts(states: Tensor) -> Tensor:
    """(1 + STATES,) float32: how many words, and how often each state."""
    return torch.bincount(states + 1, minlength=1 + STATES).to(torch.float32)


def _alphas(counts: Tensor) -> Tensor:
    """(STATES,): N / (C · n) of the C states that occur; 0 of the others."""
    states = counts[1:]
    occurring = (states > 0).sum().clamp_min(1)
    return torch.where(states > 0, states.sum() / (occurring * states.clamp_min(1.0)), 0.0)
