"""The family `qwen2_5_vl`: Qwen2.5-VL (3B, 7B) as the Hub has it.

A tower with window attention, a merger (2 x 2 patches become one token), and a Qwen2 whose
positions have three axes. A frame is an image of the chat template. Graphs: pixels (1, 3, height,
width) → tokens (1, height · width / 28², 4 dim); embeds and position_ids [3, 1, tokens] into a past
whose keys are turned by time, height and width. Peak memory of an export: about three times the
float32 weights, of the tower alone where the decoder stays in its files (over 1.2e9 parameters).

Source: transformers' `qwen2_5_vl`; differs: windows, rotations and places of the tower are
constants of its graph, since every frame has the same size.
"""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from ..chat_layout import ChatWords
from ..chat_template import PictureWords
from ..family import Checkpoint, LoadOptions
from ..frame_grid import block_px, frame_grid
from ..hub_assembly import gateless_checkpoint, hub_frame
from ..hub_checkpoint import HubCheckpoint
from ..qwen2_5_vl_vision import Merger, WindowTower
from ..template_words import hub_prompt
from ..text_decoder import TextDecoder

WORDS = ChatWords(
    system="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    user_open="<|im_start|>user\n",
    frame_open="<|vision_start|>",
    frame_close="<|vision_end|>",
    user_close="<|im_end|>\n",
    assistant_open="<|im_start|>assistant\n",
    turn_end="<|im_end|>",
)
PICTURES = PictureWords("<|image_pad|>")
FPS = 2.0
"""Frames a second that its processor takes of a video."""
# Those of OpenAI's CLIP, per colour on the scale [0, 1].
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Qwen25Vl:
    """Loads checkpoints of the family `qwen2_5_vl`."""

    name = "qwen2_5_vl"
    model_types = ("qwen2_5_vl",)
    replaces_code: tuple[str, ...] = ()

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        The model sees pictures of any size; a bundle sees those of one, 224 x 224 px (64 tokens)
        unless something else is chosen.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong.
            SettingsInvalid: a size of frames, or a number of tokens, that the model cannot have.

        Cost: the float32 weights in memory.
        """
        hub = HubCheckpoint.opened(folder, ("Qwen2_5_VLForConditionalGeneration",))
        model = hub.model(
            Qwen2_5_VLConfig,
            Qwen2_5_VLForConditionalGeneration,
            lambda config: frame_grid(block_px(config.vision_config), options),
        )
        tower = model.model.visual
        merge, patch_px = tower.config.spatial_merge_size, tower.config.patch_size
        rows, columns = frame_grid(block_px(tower.config), options)
        vision = WindowTower(tower, (rows * merge, columns * merge))
        decoder = TextDecoder(model.model.language_model, model.lm_head).eval()
        tokenizer = hub.tokenizer(decoder.config.vocab_size)
        size_px = (rows * merge * patch_px, columns * merge * patch_px)
        return gateless_checkpoint(
            hub,
            self.name,
            vision=vision,
            connector=Merger(tower.merger),
            decoder=decoder,
            tokenizer=tokenizer,
            prompt=hub_prompt(hub, self.name, tokenizer, WORDS, PICTURES),
            frame=hub_frame(hub, size_px, options.fps or FPS, "letterbox", (MEAN, STD)),
            tokens=rows * columns,
            stored=hub.stored_decoder(decoder),
            grid=(rows, columns),
        )
