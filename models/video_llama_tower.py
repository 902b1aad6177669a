"""VideoLLaMA3's vision tower at a fixed grid: what depends on the grid is computed once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize, scaled_dot_product_attention
from transformers import VideoLlama3VisionModel


class VideoLlamaTower(nn.Module):
    """The tower of `transformers`, called for one picture of one size.

    Pixels (1, 3, height, width) float32, normalised → tokens (1, rows · columns, dim), row by row,
    each the mean of merge x merge patches; summary (1, dim) of unit length, their mean.

    The original orders patches by the blocks that it merges later. Attention does not care, as long
    as each patch turns by its own row and column, so that here they stay in the order of the
    picture, and the two tables of that turn are constants of the graph.

    Args:
        tower: its patches are square.
        grid: (rows, columns) of patches; `merge` divides both.
        merge: patches along each side of a token: 2 for video, 1 for a picture.

    Source: `VideoLlama3VisionModel` of transformers; differs: bilinear halving is written as the
    mean of four, which it is exactly.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, tower: VideoLlama3VisionModel, grid: tuple[int, int], merge: int) -> None:
        super().__init__()
        self.tower: Any = tower
        self.grid, self.merge = grid, merge
        rows, columns = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
        places = torch.stack([rows.flatten(), columns.flatten()], dim=-1)
        for name, table in zip(("cos", "sin"), tower.rotary_pos_emb(places, places), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        for layer in self.tower.encoder.layers:
            x = x + self._attention(layer.self_attn, layer.layer_norm1(x))
            x = x + layer.mlp(layer.layer_norm2(x))
        patches = self.tower.post_layernorm(x).transpose(1, 2).unflatten(2, self.grid)
        tokens = avg_pool2d(patches, self.merge).flatten(2).transpose(1, 2)
        return tokens, normalize(tokens.mean(1), dim=-1)

    def _attention(self, part: Any, x: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(2, (part.num_heads, part.head_dim)).transpose(1, 2)
            for projection in (part.q_proj, part.k_proj, part.v_proj)
        )
        mixed = scaled_dot_product_attention(self._turned(query), self._turned(key), value)
        out: Tensor = part.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _turned(self, x: Tensor) -> Tensor:
        """(1, heads, patches, head_dim), each patch turned by its row and column."""
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin
