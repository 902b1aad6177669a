"""The text part of Qwen3-VL: it reads wide rows, whose rest is added after its first layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen3VLTextModel

from .text_decoder import TextDecoder


class DeepStackDecoder(TextDecoder):
    """A `TextDecoder` that reads rows of (1 + deep_levels) * hidden numbers.

    The first hidden numbers are the embedding; the next ones are added after layer 0, and so on. A
    row of hidden numbers alone is a row of text: nothing is added.

    Args:
        model: adds visual features after its first layers.
        lm_head: as in `TextDecoder`.
        deep_levels: layers after which something is added.

    Source: DeepStack (arXiv 2406.04334), as transformers' Qwen3VLTextModel does it; differs: what
    is added comes in with every row, zero for text, so that no mask tells pictures from text.
    """

    def __init__(self, model: Qwen3VLTextModel, lm_head: nn.Linear, deep_levels: int) -> None:
        super().__init__(model, lm_head)
        self.deep_levels = deep_levels

    def read(self, embeds: Tensor, **given: Any) -> Any:
        """What the text model gives for these rows."""
        hidden = self.get_input_embeddings().embedding_dim
        first, *deep = torch.split(embeds, hidden, dim=-1)
        if not deep:
            return super().read(first, **given)
        assert len(deep) == self.deep_levels, f"{len(deep)} levels in a row of {embeds.shape[-1]}"
        everywhere = torch.ones(first.shape[:-1], dtype=torch.bool)
        added = [level.reshape(-1, hidden) for level in deep]
        return super().read(
            first, visual_pos_masks=everywhere, deepstack_visual_embeds=added, **given
        )
