"""The family `qwen3_vl`: Qwen3-VL (2B, 4B, 8B Instruct) as the Hub has it.

A tower with learned places that are stretched to the grid, rotations beside them, and mergers: m x
m patches become one token, once after the last block and once after each block that DeepStack
taps. The decoder norms queries and keys, turns them with interleaved mRoPE, and adds the taps'
tokens after its first layers. A frame is an image of the chat template. Graphs: pixels (1, 3, px,
px) → tokens (1, (px / patch / m)², (1 + taps) · m² · dim) → rows (1, n, (1 + taps) · hidden), which
the decoder reads whole, with position_ids (3, 1, S). Peak memory of an export: about three times
the float32 weights.

Source: transformers' `qwen3_vl`; differs: what follows from the size of a frame is constant, and
the taps' tokens come to the decoder in the rows of the frame.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from ...runtime.errors import CheckpointInvalid, SettingsInvalid
from ...runtime.manifest_values import FrameInput, Positions
from ..chat_layout import ChatWords, chat_layout
from ..deepstack_decoder import DeepStackDecoder
from ..family import Checkpoint, LoadOptions
from ..hub_checkpoint import HubCheckpoint
from ..qwen3_vl_vision import DeepMergers, GridTower

WORDS = ChatWords(
    user_open="<|im_start|>user\n",
    frame_open="<|vision_start|>",
    frame_close="<|vision_end|>",
    user_close="<|im_end|>\n",
    assistant_open="<|im_start|>assistant\n",
    turn_end="<|im_end|>",
)
SIDE_TOKENS = 8
"""Tokens along each side of a frame, unless the user says otherwise: 64 of 256 x 256 px."""
FPS = 2.0
"""Frames a second of its training videos."""
GREY = (0.5, 0.5, 0.5)
SECTIONS = (24, 20, 20)
"""Of mRoPE, where config.json does not say."""


class Qwen3Vl:
    """Loads checkpoints of the family `qwen3_vl`."""

    name = "qwen3_vl"
    model_types = ("qwen3_vl",)
    replaces_code: tuple[str, ...] = ()

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong.
            SettingsInvalid: a size of frames, or a number of tokens, that no grid of the tower has.

        Cost: the float32 weights in memory.
        """
        hub = HubCheckpoint.opened(folder, ("Qwen3VLForConditionalGeneration",))
        model = hub.model(Qwen3VLConfig, Qwen3VLForConditionalGeneration)
        tower = model.model.visual
        token_px = tower.config.patch_size * tower.config.spatial_merge_size
        side = _side_tokens(token_px, options)
        grid = side * tower.config.spatial_merge_size
        decoder = _decoder(model)
        tokenizer = hub.tokenizer(decoder.config.vocab_size)
        mean, std = hub.colours(GREY, GREY)
        return Checkpoint(
            vision=GridTower(tower, (grid, grid)).eval().requires_grad_(False),
            connector=DeepMergers(tower).eval(),
            decoder=decoder,
            gate=None,
            gate_facts=None,
            tokenizer=tokenizer,
            layout=chat_layout(WORDS, tokenizer, hub.stop_texts(tokenizer)),
            positions=_positions(decoder, side),
            frame_input=FrameInput(
                size_px=(side * token_px, side * token_px),
                fps=options.fps or FPS,
                resize="letterbox",
                channels=3,
                mean=mean,
                std=std,
            ),
            tokens_per_frame=side * side,
            source=hub.source(self.name),
            stored_decoder=hub.stored_decoder(decoder),
        )


def _decoder(model: Any) -> DeepStackDecoder:
    text, taps = model.model.language_model, model.config.vision_config.deepstack_visual_indexes
    if len(taps) > text.config.num_hidden_layers:
        raise CheckpointInvalid(
            f"config.json has {len(taps)} deepstack_visual_indexes for "
            f"{text.config.num_hidden_layers} layers, expected one layer for each"
        )
    # The axes always take turns, whether the configuration says so or not.
    rotation = {"mrope_section": list(SECTIONS), **text.config.rope_parameters}
    text.config.rope_parameters = {**rotation, "mrope_interleaved": True}
    return DeepStackDecoder(text, model.lm_head, len(taps)).eval()


def _positions(decoder: DeepStackDecoder, side: int) -> Positions:
    rotation = decoder.config.rope_parameters
    if (kind := rotation.get("rope_type", "default")) != "default":
        raise CheckpointInvalid(
            f"config.json.text_config.rope_parameters: got rope_type {kind!r}, expected 'default'",
            hint="scaled rotations cannot be exported yet",
        )
    return Positions(
        axes=3,
        theta=float(rotation["rope_theta"]),
        sections=tuple(rotation["mrope_section"]),
        frame_grid=(side, side),
        extra={"interleaved": True},
    )


def _side_tokens(token_px: int, options: LoadOptions) -> int:
    """Tokens along each side of a frame.

    Raises:
        SettingsInvalid: frames are squares of whole tokens, and this is none.
    """
    px, tokens = options.frame_px, options.tokens_per_frame
    side = SIDE_TOKENS
    if px is not None:
        side = px // token_px
    elif tokens is not None:
        side = math.isqrt(tokens)
    if side < 1 or px not in (None, side * token_px) or tokens not in (None, side * side):
        raise SettingsInvalid(
            f"got --frame-px {px}, --tokens-per-frame {tokens}; a frame of this model is a square "
            f"of n x n tokens of {token_px} px each",
            hint=f"for example --frame-px {SIDE_TOKENS * token_px}, which has "
            f"{SIDE_TOKENS**2} tokens",
        )
    return side
