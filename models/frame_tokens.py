"""Frame tokens of VideoLLM-online: one token for the whole picture, then pooled patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPVisionModel, SiglipVisionModel


class FrameEncoder(nn.Module):
    """A vision tower, and the few tokens that are kept of its grid.

    Pixels (1, 3, size, size) float32, normalised → tokens (1, tokens_per_frame, dim), the whole
    picture first, then the pooled cells row by row; summary (1, dim) of unit length.

    The token of the whole picture is the pooled output of a SigLIP tower, which has no CLS token,
    and the first token of a CLIP tower.

    Args:
        tower: SigLIP or CLIP.
        tokens_per_frame: 1, or 1 + the square of the cells along each side (10 is 1 + 3 x 3).

    Raises:
        ValueError: as `cells_along_side` and `patches_along_side`.

    Source: VideoLLM-online, `models/vision_live.py`; differs: CLIP works here, and pooling is a
    fixed matrix, exact also where the cells do not divide the grid, with no operator of its own.
    """

    pooling: Tensor

    def __init__(self, tower: SiglipVisionModel | CLIPVisionModel, tokens_per_frame: int) -> None:
        super().__init__()
        self.tower = tower
        self.has_cls = isinstance(tower, CLIPVisionModel)
        grid = patches_along_side(tower.config.image_size, tower.config.patch_size)
        cells = cells_along_side(tokens_per_frame, grid)
        self.register_buffer("pooling", pooling_matrix((grid, grid), cells), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens, summary, _ = self.see(pixels)
        return tokens, summary

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tokens and summary as `forward` gives them, and patches (1, rows · columns, dim).

        Any number of frames may stand in the place of the 1.
        """
        seen = self.tower(pixel_values=pixels)
        whole, patches = seen.pooler_output[:, None], seen.last_hidden_state
        summary = normalize(seen.pooler_output, dim=-1)
        if self.has_cls:
            whole, patches = patches[:, :1], patches[:, 1:]
        if not len(self.pooling):
            return whole, summary, patches
        return torch.cat([whole, self.pooling @ patches], dim=1), summary, patches


def pooling_matrix(grid: tuple[int, int], cells: int) -> Tensor:
    """Adaptive average pooling of a grid to cells x cells, as a matrix on its patches.

    Args:
        grid: (rows, columns) of patches.
        cells: along each side; 0 gives a matrix without rows.

    Returns:
        (cells * cells, rows * columns) float32; each row sums to 1. Times the patches it equals
        `torch.nn.functional.adaptive_avg_pool2d`, cells that share patches included.
    """
    rows, columns = (_pooling_line(length, cells) for length in grid)
    return torch.kron(rows, columns)


def _pooling_line(length: int, cells: int) -> Tensor:
    line = torch.zeros(cells, length)
    for cell in range(cells):
        # Cells of a length that they do not divide overlap by one patch: down, and up.
        begin, end = cell * length // cells, -(-(cell + 1) * length // cells)
        line[cell, begin:end] = 1 / (end - begin)
    return line


def cells_along_side(tokens_per_frame: int, grid: int) -> int:
    """Cells along each side of a picture that gives so many tokens; 0 for the one token alone.

    Raises:
        ValueError: the count is not 1 + a square, or there are more cells than patches.
    """
    cells = math.isqrt(max(tokens_per_frame - 1, 0))
    if cells * cells != tokens_per_frame - 1 or cells > grid:
        raise ValueError(
            f"{tokens_per_frame} tokens per frame of {grid} x {grid} patches, "
            "expected 1, or 1 + a square of cells, for example 10"
        )
    return cells


def patches_along_side(size_px: object, patch_px: object) -> int:
    """Patches along each side of a square picture.

    Raises:
        ValueError: they do not fill it.
    """
    if not isinstance(size_px, int) or not isinstance(patch_px, int):
        raise ValueError(
            f"a picture of {size_px} px and patches of {patch_px} px, expected squares"
        )
    if patch_px < 1 or size_px < patch_px or size_px % patch_px:
        raise ValueError(f"patches of {patch_px} px do not fill a picture of {size_px} px")
    return size_px // patch_px
