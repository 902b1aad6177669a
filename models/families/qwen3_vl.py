"""The family `qwen3_vl`: Qwen3-VL (2B, 4B, 8B Instruct) as the Hub has it.

A tower with learned places that are stretched to the grid, rotations beside them, and mergers: m x
m patches become one token, once after the last block and once after each block that DeepStack
taps. The decoder norms queries and keys, turns them with interleaved mRoPE, and adds the taps'
tokens after its first layers. A frame is an image of the chat template. Graphs: pixels (1, 3,
height, width) → tokens (1, n, (1 + taps) · m² · dim), one for m x m patches → rows
(1, n, (1 + taps) · hidden), which the decoder reads whole, with position_ids (3, 1, S). Peak memory
of an export: about three times the float32 weights, of the tower alone where the decoder stays in
its files.

Source: transformers' `qwen3_vl`; differs: what follows from the size of a frame is constant, and
the taps' tokens come to the decoder in the rows of the frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from ...runtime.errors import CheckpointInvalid
from ..chat_layout import ChatWords
from ..chat_template import PictureWords
from ..deepstack_decoder import DeepStackDecoder
from ..family import Checkpoint, LoadOptions
from ..frame_grid import block_px, frame_grid
from ..hub_assembly import gateless_checkpoint, hub_frame
from ..hub_checkpoint import HubCheckpoint
from ..qwen3_vl_vision import DeepMergers, GridTower
from ..template_words import hub_prompt

WORDS = ChatWords(
    user_open="<|im_start|>user\n",
    frame_open="<|vision_start|>",
    frame_close="<|vision_end|>",
    user_close="<|im_end|>\n",
    assistant_open="<|im_start|>assistant\n",
    turn_end="<|im_end|>",
)
PICTURES = PictureWords("<|image_pad|>")
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

        The model sees pictures of any size; a bundle sees those of one, 256 x 256 px (64 tokens)
        unless something else is chosen.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong.
            SettingsInvalid: a size of frames, or a number of tokens, that no grid of the tower has.

        Cost: the float32 weights in memory.
        """
        hub = HubCheckpoint.opened(folder, ("Qwen3VLForConditionalGeneration",))
        model = hub.model(
            Qwen3VLConfig,
            Qwen3VLForConditionalGeneration,
            lambda config: frame_grid(block_px(config.vision_config), options),
        )
        tower = model.model.visual
        merge, patch_px = tower.config.spatial_merge_size, tower.config.patch_size
        rows, columns = frame_grid(block_px(tower.config), options)
        vision = GridTower(tower, (rows * merge, columns * merge))
        decoder = _decoder(model)
        tokenizer = hub.tokenizer(decoder.config.vocab_size)
        size_px = (rows * merge * patch_px, columns * merge * patch_px)
        return gateless_checkpoint(
            hub,
            self.name,
            vision=vision,
            connector=DeepMergers(tower),
            decoder=decoder,
            tokenizer=tokenizer,
            prompt=hub_prompt(hub, self.name, tokenizer, WORDS, PICTURES),
            frame=hub_frame(hub, size_px, options.fps or FPS, "letterbox", (GREY, GREY)),
            tokens=rows * columns,
            stored=hub.stored_decoder(decoder),
            grid=(rows, columns),
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
