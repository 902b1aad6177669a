"""Qwen2.5-VL's tower for frames of one size: windows, places and turns are constants of its graph.

transformers works them out from each picture's grid while it runs, which no graph of fixed shapes
can hold. Here they are worked out once, by transformers' own functions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLPatchMerger,
    apply_rotary_pos_emb_vision,
)
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

Heads: TypeAlias = "tuple[Tensor, Tensor, Tensor]"


class WindowTower(nn.Module):
    """The blocks of the tower over one frame.

    Pixels (1, 3, rows * patch, columns * patch) float32, normalised → tokens (1, n, m * m * dim),
    row by row, each the last states of m x m patches; summary (1, dim) of unit length, the mean of
    all patches, each of them scaled to unit variance.

    A frame is an image of the chat template, which the model reads as two equal pictures in a row:
    the kernel of the patches is summed over the two.

    Args:
        tower: of a checkpoint; its blocks are shared.
        grid: (rows, columns) of patches, both multiples of the merge size m.
    """

    cos: Tensor
    sin: Tensor
    order: Tensor
    back: Tensor

    def __init__(
        self, tower: Qwen2_5_VisionTransformerPretrainedModel, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        config: Any = tower.config
        merge = int(config.spatial_merge_size)
        self.patches = _patches_of_a_picture(tower)
        self.blocks = tower.blocks
        self.merge_unit = merge * merge
        self.full = frozenset(config.fullatt_block_indexes)
        thw = torch.tensor([[1, *grid]])
        # Merged patches, window by window; and where each window ends, in patches.
        windows, ends = get_vision_window_index(
            thw, spatial_merge_size=merge, window_size=config.window_size,
            patch_size=config.patch_size,
        )  # fmt: skip
        self.lengths: list[int] = ends.diff().tolist()
        places = get_vision_position_ids(thw, merge).view(-1, self.merge_unit, 2)[windows]
        places = places.reshape(-1, 2)
        with torch.no_grad():
            cos, sin = tower.rotary_pos_emb(places.float(), places)
        constants = {
            "cos": cos,
            "sin": sin,
            "order": places[:, 0] * grid[1] + places[:, 1],
            "back": windows.argsort(),
        }
        for name, part in constants.items():
            self.register_buffer(name, part, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        states = self.patches(pixels).flatten(2).transpose(1, 2)[:, self.order]
        block: Any
        for index, block in enumerate(self.blocks):
            lengths = [len(self.order)] if index in self.full else self.lengths
            states = states + self._attended(block.attn, block.norm1(states), lengths)
            states = states + block.mlp(block.norm2(states))
        tokens = states.reshape(1, len(self.back), -1)[:, self.back]
        # A few channels are large in some patches; a plain mean would be of those alone.
        typical = (states * states.square().mean(-1, keepdim=True).rsqrt()).mean(1)
        return tokens, normalize(typical, dim=-1)

    def _attended(self, attention: Any, states: Tensor, lengths: list[int]) -> Tensor:
        """Every patch looks at those of its own window."""
        count = states.shape[1]
        qkv = attention.qkv(states).reshape(count, 3, attention.num_heads, -1)
        query, key, value = qkv.permute(1, 0, 2, 3).unbind(0)
        query, key = apply_rotary_pos_emb_vision(query, key, self.cos, self.sin)
        query, key, value = (one.transpose(0, 1)[None] for one in (query, key, value))
        seen = _within_windows((query, key, value), lengths, attention.scaling)
        mixed: Tensor = attention.proj(seen.transpose(1, 2).reshape(1, count, -1))
        return mixed


class Merger(nn.Module):
    """Tokens of a `WindowTower` (1, n, m * m * dim) → embeds (1, n, hidden).

    Args:
        merger: of a checkpoint; its weights are shared.
    """

    def __init__(self, merger: Qwen2_5_VLPatchMerger) -> None:
        super().__init__()
        self.merger = merger
        self.dim = len(merger.ln_q.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        patches = self.merger.ln_q(tokens.reshape(1, -1, self.dim))
        embeds: Tensor = self.merger.mlp(patches.reshape(tokens.shape))
        return embeds


def _within_windows(heads: Heads, lengths: list[int], scale: float) -> Tensor:
    """Attention of (1, heads, patches, dim) within stretches of these lengths."""
    if len(lengths) == 1:
        return _attention(heads, scale)
    if len(set(lengths)) == 1:  # all at once, as a batch
        shape = heads[0].shape
        query, key, value = (
            one.reshape(shape[1], len(lengths), lengths[0], -1).transpose(0, 1) for one in heads
        )
        return _attention((query, key, value), scale).transpose(0, 1).reshape(shape)
    parts = zip(*(torch.split(one, lengths, dim=2) for one in heads), strict=True)
    return torch.cat([_attention(part, scale) for part in parts], dim=2)


def _attention(heads: Heads, scale: float) -> Tensor:
    query, key, value = heads
    return scaled_dot_product_attention(query, key, value, scale=scale)


def _patches_of_a_picture(tower: Qwen2_5_VisionTransformerPretrainedModel) -> nn.Conv2d:
    """The patch embedding for a picture that stands still."""
    kernel = tower.patch_embed.proj
    _, side, other = kernel.kernel_size
    patches = nn.Conv2d(kernel.in_channels, kernel.out_channels, (side, other), (side, other),
                        bias=False)  # fmt: skip
    with torch.no_grad():
        patches.weight.copy_(kernel.weight.sum(2))
    return patches
