"""The family `llava_onevision`: LLaVA-OneVision with a SigLIP tower and Qwen2, as the Hub has it.

The frames of a turn are one video: each picture whole at the tower's own size, projected, its grid
of tokens halved by bilinear interpolation (27 x 27 → 14 x 14); behind the last frame stands one
learned row for a new line, which a bundle keeps as that of the token `<video>`. Fewer tokens are
the same interpolation to a smaller grid. Graphs: pixels (1, 3, px, px) → tokens (1, patches, dim) →
embeds (1, cells², hidden); inputs_embeds and a past with plain rotary positions. Peak memory of an
export: about three times the float32 weights (0.5B: 11 GB).

Source: transformers' `llava_onevision`, its `get_video_features`; differs: images are not cut into
tiles, which costs up to ten times the tokens.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from ...runtime.errors import CheckpointInvalid, SettingsInvalid
from ...runtime.prompt_layout import single_id
from ...runtime.values import Float32
from ..chat_layout import ChatWords
from ..chat_template import PictureWords
from ..family import Checkpoint, LoadOptions
from ..hub_assembly import gateless_checkpoint, hub_frame
from ..hub_checkpoint import HubCheckpoint
from ..template_words import hub_prompt
from ..text_parts import decoder_of

VIDEO = "<video>"
"""Of the video's token; the one that stands in a prompt is read as the new line."""
WORDS = ChatWords(
    user_open="<|im_start|>user ",
    text_open="<|im_start|>user \n",
    frame_open="",
    frame_close="",
    frames_close=f"{VIDEO}\n",
    user_close="<|im_end|>",
    assistant_open="<|im_start|>assistant\n",
    answer_open="<|im_start|>assistant \n",
    turn_end="<|im_end|>",
    after_turn="",
)
PICTURES = PictureWords(VIDEO, is_video=True, video_close=VIDEO)
FPS = 1.0
GREY = (0.5, 0.5, 0.5)
CELLS = 8
"""Along each side of a frame, where nobody says otherwise: 64 tokens, which is what a small machine
reads in time. The model's own videos have 14, 196 tokens."""


class LlavaOnevision:
    """Loads checkpoints of the family `llava_onevision`."""

    name = "llava_onevision"
    model_types = ("llava_onevision",)
    replaces_code: tuple[str, ...] = ()

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong.
            SettingsInvalid: another size of frames than the tower's, or a number of tokens that no
                grid gives.

        Cost: the float32 weights in memory.
        """
        hub = HubCheckpoint.opened(folder, ("LlavaOnevisionForConditionalGeneration",))
        hub.check_text("qwen2")
        model = hub.model(
            LlavaOnevisionConfig,
            LlavaOnevisionForConditionalGeneration,
            lambda config: _cells(config, options),
        )
        inner: Any = model.model
        vision = LlavaVision(inner.vision_tower, _layers(model.config))
        cells = _cells(model.config, options)
        connector = LlavaConnector(inner.multi_modal_projector, vision.grid, cells)
        decoder = decoder_of(inner.language_model, model.lm_head)
        tokenizer = hub.tokenizer(decoder.config.vocab_size)
        side_px = model.config.vision_config.image_size
        return gateless_checkpoint(
            hub,
            self.name,
            vision=vision,
            connector=connector,
            decoder=decoder,
            tokenizer=tokenizer,
            prompt=hub_prompt(hub, self.name, tokenizer, WORDS, PICTURES),
            frame=hub_frame(hub, (side_px, side_px), options.fps or FPS, "squash", (GREY, GREY)),
            tokens=cells * cells,
            stored=hub.stored_decoder(decoder),
            own_rows={single_id(tokenizer, VIDEO, "the video's token"): _row(inner.image_newline)},
        )


class LlavaVision(nn.Module):
    """The tower up to the layer that the model reads.

    Pixels (1, 3, px, px) float32, normalised → tokens (1, patches, dim), row by row; summary
    (1, dim) of unit length: the mean of the patches.

    Args:
        tower: SigLIP.
        layers: how many of its layers are run.

    Attributes:
        grid: patches along each side.
    """

    def __init__(self, tower: nn.Module, layers: int) -> None:
        super().__init__()
        whole: Any = tower
        self.grid: int = whole.config.image_size // whole.config.patch_size
        self.embeddings, self.layers = whole.embeddings, whole.encoder.layers[:layers]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.embeddings(pixels)
        for layer in self.layers:
            tokens = layer(tokens, None)
        return tokens, normalize(tokens.mean(1), dim=-1)


class LlavaConnector(nn.Module):
    """Projector, and interpolation to cells x cells.

    Tokens (1, grid², dim) → embeds (1, cells², hidden).
    """

    pooling: Tensor

    def __init__(self, projector: nn.Module, grid: int, cells: int) -> None:
        super().__init__()
        self.projector = projector
        each = torch.eye(grid * grid).view(-1, 1, grid, grid)
        pooled = interpolate(each, size=(cells, cells), mode="bilinear")
        self.register_buffer("pooling", pooled.flatten(1).T.contiguous(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        embeds: Tensor = self.pooling @ self.projector(tokens)
        return embeds


def _row(newline: Tensor) -> Float32:
    """(hidden,) float32, an array of its own."""
    row: Float32 = newline.detach().float().numpy().copy()
    return row


def _layers(config: LlavaOnevisionConfig) -> int:
    """Layers of the tower up to the one that is read."""
    seen: Any = config.vision_config
    layer, strategy = config.vision_feature_layer, config.vision_feature_select_strategy
    if seen.model_type != "siglip_vision_model" or strategy != "full" or not isinstance(layer, int):
        raise CheckpointInvalid(
            f"config.json has the tower {seen.model_type}, vision_feature_layer {layer} and "
            f"vision_feature_select_strategy {strategy!r}, expected siglip_vision_model, one layer "
            "and 'full'",
            hint="take a published LLaVA-OneVision checkpoint of the Hub, such as the 0.5B",
        )
    count: int = seen.num_hidden_layers
    return layer if layer >= 0 else count + 1 + layer


def _cells(config: LlavaOnevisionConfig, options: LoadOptions) -> int:
    """Cells along each side of a frame.

    Raises:
        SettingsInvalid: another size than the tower's, or tokens that are no square.
    """
    seen: Any = config.vision_config
    most = math.ceil(seen.image_size // seen.patch_size / 2)
    tokens = options.tokens_per_frame or min(CELLS, most) ** 2
    cells = math.isqrt(tokens)
    is_square = cells * cells == tokens and 1 <= cells <= most
    if not is_square or options.frame_px not in (None, seen.image_size):
        raise SettingsInvalid(
            f"got --frame-px {options.frame_text}, --tokens-per-frame {tokens}; this model sees "
            f"{seen.image_size} px and gives a square of up to {most * most} tokens, such as "
            f"{min(CELLS, most) ** 2}",
            hint=f"leave both options out, or choose --tokens-per-frame {most * most}",
        )
    return cells
