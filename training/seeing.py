"""The vision tower in training: the same numbers as on the device, without laying out the maps.

On the device each cell of a motion map fills its patch of a picture of nine channels. A patch of
one value times the kernel is that value times the kernel's sum, so in training the maps are added
behind a convolution of the three colours: a third of its work, and no picture of nine channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, normalize

from ..models.frame_tokens import FrameEncoder
from ..models.reference_model import ReferenceModel
from ..runtime.motion_input import COLOURS
from .vision_batches import VisionBatch, scaled_maps

COLOUR_MEAN, COLOUR_STD = 0.5, 0.25
"""Of `ReferenceConfig.frame_input`, on the scale [0, 1]."""


def seen(vision: FrameEncoder, colours: Tensor, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `FrameEncoder.see` gives for `vision_input` of the same frames.

    Args:
        vision: with a SigLIP tower whose patches are the cells of the maps.
        colours: (frames, 112, 112, 3) uint8 RGB.
        maps: (frames, 6, 7, 7) float32, in their own units.

    Returns:
        tokens (frames, 10, dim), summary (frames, dim), patches (frames, 49, dim).
    """
    tower: Any = vision.tower
    embeddings = tower.embeddings
    weight, bias = embeddings.patch_embedding.weight, embeddings.patch_embedding.bias
    scaled = (colours.permute(0, 3, 1, 2).to(weight.dtype) / 255.0 - COLOUR_MEAN) / COLOUR_STD
    patches = conv2d(scaled, weight[:, :COLOURS], bias, stride=weight.shape[-1])
    told = weight[:, COLOURS:].sum((2, 3))
    patches = patches + torch.einsum("nmij,dm->ndij", scaled_maps(maps), told)
    rows = patches.flatten(2).transpose(1, 2) + embeddings.position_embedding.weight
    rows = tower.encoder(inputs_embeds=rows).last_hidden_state
    rows = tower.post_layernorm(rows)
    pooled = tower.head(rows)
    tokens = torch.cat([pooled[:, None], vision.pooling @ rows], dim=1)
    return tokens, normalize(pooled, dim=-1), rows


def gate_inputs(
    model: ReferenceModel, batch: VisionBatch
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor, Tensor]:
    """What the gate reads of a batch, and what vision saw.

    Returns:
        (tokens, summary, maps, dt_s) of every frame, still ones with those of an earlier frame; the
        pooled token (B, T, dim) and the patches (B, T, 49, dim) of every frame itself.
    """
    clips, frames = batch.dt_s.shape
    tokens, summary, patches = seen(model.vision, batch.colours.flatten(0, 1),
                                    batch.maps.flatten(0, 1))  # fmt: skip
    tokens = tokens.reshape(clips, frames, *tokens.shape[1:])
    summary = summary.reshape(clips, frames, -1)
    rows = torch.arange(clips, device=tokens.device)[:, None]
    given = (tokens[rows, batch.source], summary[rows, batch.source], batch.maps, batch.dt_s)
    return given, tokens[:, :, 0], patches.reshape(clips, frames, *patches.shape[1:])
