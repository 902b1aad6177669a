"""The family `smolvlm`: SmolVLM2 (256M, 500M, 2.2B) as the Hub has it.

A SigLIP tower whose positions follow the size of the picture, pixel shuffle (blocks of scale x
scale patches become one token), one matrix, and a Llama. A frame is an image of the chat template
that is not split into tiles. Graphs: pixels (1, 3, px, px) → tokens (1, (px / patch / scale)²,
dim · scale²); inputs_embeds and a past with plain rotary positions. Peak memory of an export: about
three times the float32 weights (256M: 3 GB).

Source: transformers' `smolvlm`; differs: positions of patches are constants of the graph, since
every frame has the same size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from ...runtime.errors import SettingsInvalid
from ..chat_layout import ChatWords
from ..chat_template import PictureWords
from ..family import Checkpoint, LoadOptions
from ..hub_assembly import gateless_checkpoint, hub_frame
from ..hub_checkpoint import HubCheckpoint
from ..template_words import hub_prompt
from ..text_parts import decoder_of

WORDS = ChatWords(
    bos="<|im_start|>",
    user_open="User:",
    text_open="User: ",
    frame_open="<fake_token_around_image><global-img>",
    frame_close="<fake_token_around_image>",
    user_close="<end_of_utterance>\n",
    assistant_open="Assistant:",
    answer_open="Assistant: ",
    turn_end="<end_of_utterance>",
)
PICTURES = PictureWords(
    "<image>", open="<fake_token_around_image><global-img>", close="<fake_token_around_image>"
)
FPS = 1.0
"""Frames a second of its training videos."""
GREY = (0.5, 0.5, 0.5)


class SmolVlm:
    """Loads checkpoints of the family `smolvlm`."""

    name = "smolvlm"
    model_types = ("smolvlm",)
    replaces_code: tuple[str, ...] = ()

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        Frames may be smaller than the tower's own size, which gives fewer tokens: SmolVLM2-256M at
        512 px has 64, at 256 px 16.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong.
            SettingsInvalid: a size of frames, or a number of tokens, that is none of the model's.

        Cost: the float32 weights in memory.
        """
        hub = HubCheckpoint.opened(folder, ("SmolVLMForConditionalGeneration",))
        hub.check_text("llama")
        model = hub.model(
            SmolVLMConfig, SmolVLMForConditionalGeneration, lambda config: _side_px(config, options)
        )
        side_px = _side_px(model.config, options)
        vision = SmolVlmVision(model.model.vision_model, model.config.scale_factor, side_px)
        decoder = decoder_of(model.model.text_model, model.lm_head)
        tokenizer = hub.tokenizer(decoder.config.vocab_size)
        return gateless_checkpoint(
            hub,
            self.name,
            vision=vision,
            connector=model.model.connector.modality_projection,
            decoder=decoder,
            tokenizer=tokenizer,
            prompt=hub_prompt(hub, self.name, tokenizer, WORDS, PICTURES),
            frame=hub_frame(
                hub, (side_px, side_px), options.fps or FPS, "squash", (GREY, GREY), "lanczos"
            ),
            tokens=vision.tokens,
            stored=hub.stored_decoder(decoder),
        )


class SmolVlmVision(nn.Module):
    """The tower and the pixel shuffle at one size of picture.

    Pixels (1, 3, px, px) float32, normalised → tokens (1, tokens, dim · scale²), row by row;
    summary (1, dim) of unit length: the mean of the patches.

    Args:
        tower: of a loaded model.
        scale: patches along each side of a token.
        side_px: of the picture.

    Attributes:
        tokens: of a frame.
    """

    mask: Tensor

    def __init__(self, tower: nn.Module, scale: int, side_px: int) -> None:
        super().__init__()
        patch_px: Any = tower.patch_size
        self.tower: Any = tower
        self._scale, self._grid = scale, int(side_px // patch_px)
        self.tokens: int = (self._grid // scale) ** 2
        mask = torch.ones(1, self._grid, self._grid, dtype=torch.bool)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tower, scale, side = self.tower, self._scale, self._grid // self._scale
        seen = tower.embeddings(pixel_values=pixels, patch_attention_mask=self.mask)
        seen = tower.encoder(inputs_embeds=seen, attention_mask=None).last_hidden_state
        patches = tower.post_layernorm(seen)
        blocks = patches.view(1, side, scale, side, scale, -1).permute(0, 1, 3, 2, 4, 5)
        tokens = blocks.reshape(1, side * side, -1)
        return tokens, normalize(patches.mean(1), dim=-1)


def _side_px(config: SmolVLMConfig, options: LoadOptions) -> int:
    """Side of the frames, px.

    Raises:
        SettingsInvalid: the tower cannot see frames of this size, or none gives so many tokens.
    """
    seen: Any = config.vision_config
    block: int = seen.patch_size * config.scale_factor
    most: int = seen.image_size
    # The tower's own size need not be a multiple of its patches (384 px in patches of 14).
    sizes = {(side // block) ** 2: side for side in (*range(block, most, block), most)}
    own: int = (most // block) ** 2
    tokens = options.tokens_per_frame
    if tokens is None and options.frame_px is not None:
        tokens = next((n for n, side in sizes.items() if side == options.frame_px), 0)
    chosen: int = own if tokens is None else tokens
    if chosen not in sizes or options.frame_px not in (None, sizes[chosen]):
        told = ", ".join(f"{n} at {side} px" for n, side in sizes.items())
        raise SettingsInvalid(
            f"got --frame-px {options.frame_text}, --tokens-per-frame {options.tokens_per_frame}; "
            f"the tokens of a frame of this model are {told}",
            hint="choose one of them, or leave both options out for the last",
        )
    side: int = sizes[chosen]
    return side
