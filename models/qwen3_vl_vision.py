"""Qwen3-VL's tower and mergers for frames of one size: what follows from the grid is constant.

transformers works out places, rotations and segments from each picture's grid while it runs, which
no graph of fixed shapes can hold. Here they are worked out once, by transformers' own functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize, scaled_dot_product_attention
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLVisionAttention,
    Qwen3VLVisionModel,
    Qwen3VLVisionPatchMerger,
    apply_rotary_pos_emb_vision,
)
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)


class GridTower(nn.Module):
    """The blocks of the tower over one frame.

    Pixels (1, 3, rows * patch, columns * patch) float32, normalised → tokens (1, n, (1 + levels) *
    m * m * dim), summary (1, dim) of unit length. A token is m x m patches, in the order of the
    mergers: their last states, then those after each block that DeepStack taps.

    A frame is a picture of the chat template, which Qwen3-VL reads as two equal pictures in a row:
    the kernel of the patches is summed over the two.

    Args:
        tower: of a checkpoint; its blocks are shared.
        grid: (rows, columns) of patches, both multiples of the merge size m.
    """

    places: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, tower: Qwen3VLVisionModel, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.merge = grid, int(tower.config.spatial_merge_size)
        self.taps = frozenset(tower.config.deepstack_visual_indexes)
        self.patches = _patches_of_a_picture(tower)
        self.blocks = tower.blocks
        thw = torch.tensor([[1, *grid]])
        with torch.no_grad():
            indices, weights = get_vision_interpolation_indices_and_weights(
                thw,
                num_grid_per_side=tower.num_grid_per_side,
                mode=tower.interpolation_mode,
                align_corners=tower.interpolation_align_corners,
                spatial_merge_size=self.merge,
            )
            places = (tower.pos_embed(indices) * weights[:, :, None]).sum(1)
            cos, sin = tower.rotary_pos_emb(places, get_vision_position_ids(thw, self.merge))
        for name, part in {"places": places, "cos": cos, "sin": sin}.items():
            self.register_buffer(name, part, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        states = self._in_blocks(self.patches(pixels)) + self.places
        tapped: list[Tensor] = []
        blocks: Any = self.blocks
        for index, block in enumerate(blocks):
            states = states + self._attended(block.attn, block.norm1(states))
            states = states + block.mlp(block.norm2(states))
            if index in self.taps:
                tapped.append(states)
        count = states.shape[1] // self.merge**2
        tokens = torch.cat([one.reshape(1, count, -1) for one in (states, *tapped)], dim=-1)
        # A few channels of the last states are large everywhere; a mean of them would be of those.
        typical = layer_norm(states, states.shape[-1:]).mean(1)
        return tokens, normalize(typical, dim=-1)

    def _in_blocks(self, patches: Tensor) -> Tensor:
        """(1, dim, rows, columns) → (1, rows * columns, dim), patches of one token together."""
        rows, columns = (side // self.merge for side in self.grid)
        cut = patches.reshape(-1, rows, self.merge, columns, self.merge)
        return cut.permute(1, 3, 2, 4, 0).reshape(1, -1, len(cut))

    def _attended(self, attention: Qwen3VLVisionAttention, states: Tensor) -> Tensor:
        """Every patch of the frame looks at every other: one segment."""
        count = states.shape[1]
        qkv = attention.qkv(states).reshape(count, 3, attention.num_heads, -1)
        query, key, value = qkv.permute(1, 0, 2, 3).unbind(0)
        query, key = apply_rotary_pos_emb_vision(query, key, self.cos, self.sin)
        query, key, value = (one.transpose(0, 1)[None] for one in (query, key, value))
        seen = scaled_dot_product_attention(query, key, value, scale=attention.scaling)
        mixed: Tensor = attention.proj(seen.transpose(1, 2).reshape(1, count, -1))
        return mixed


class DeepMergers(nn.Module):
    """Tokens of a `GridTower` → rows (1, n, (1 + levels) * hidden) that the decoder reads.

    The first hidden numbers stand in for an embedding; each further hidden ones are added to the
    residual stream after one of the first layers.

    Args:
        tower: of a checkpoint; its mergers are shared.
    """

    def __init__(self, tower: Qwen3VLVisionModel) -> None:
        super().__init__()
        taps = list(tower.config.deepstack_visual_indexes)
        deep = [tower.deepstack_merger_list[taps.index(tap)] for tap in sorted(taps)]
        self.mergers = nn.ModuleList([tower.merger, *deep])

    def forward(self, tokens: Tensor) -> Tensor:
        parts = tokens.chunk(len(self.mergers), dim=-1)
        pairs = zip(self.mergers, parts, strict=True)
        return torch.cat([_merged(merger, part) for merger, part in pairs], dim=-1)


def _merged(merger: nn.Module, part: Tensor) -> Tensor:
    """(1, n, m * m * dim) → (1, n, hidden); as the merger does, which drops the first axis."""
    assert isinstance(merger, Qwen3VLVisionPatchMerger)
    width = merger.norm.normalized_shape[0]
    normed = merger.norm(part.reshape(1, -1, width)).reshape(part.shape)
    rows: Tensor = merger.linear_fc2(merger.act_fn(merger.linear_fc1(normed)))
    return rows


def _patches_of_a_picture(tower: Qwen3VLVisionModel) -> nn.Conv2d:
    """The patch embedding for a picture that stands still."""
    kernel = tower.patch_embed.proj
    side = int(kernel.kernel_size[-1])
    patches = nn.Conv2d(kernel.in_channels, kernel.out_channels, side, side)
    with torch.no_grad():
        patches.weight.copy_(kernel.weight.sum(2))
        assert kernel.bias is not None and patches.bias is not None
        patches.bias.copy_(kernel.bias)
    return patches
