"""The family `videollama3`: VideoLLaMA3 (2B, 7B), and CogStream's checkpoints of the same model.

A SigLIP-like tower whose patches turn by their row and column, the mean of each 2 x 2 of them, two
matrices, and a Qwen2. A frame is one of a video in the chat template, with its time before it.
Graphs: pixels (1, 3, height, width) → tokens (1, n, dim); inputs_embeds and a past with plain
rotary positions. Peak memory of an export: about three times the float32 weights,
of the tower alone where the decoder stays in its files (over 1.2e9 parameters).

The Hub has it twice: as `video_llama_3`, for the classes of transformers, and as
`videollama3_qwen2`, with code of its own. That code is not run: config.json is mapped key by key
onto the same classes, whose tensors have other prefixes there and otherwise the same names.

Not carried: the pruning of tokens whose pixels stay the same from frame to frame
(`use_token_compression`); a still picture is not shown twice here.

Source: transformers' `video_llama_3`, and LiamZhao326/CogStream at 16f4958.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import VideoLlama3Config, VideoLlama3ForConditionalGeneration

from ..chat_layout import ChatWords
from ..chat_template import PictureWords
from ..checkpoint import config_fields
from ..decoder_weights import FileWeights, fill_beside_decoder_
from ..family import Checkpoint, LoadOptions
from ..frame_grid import frame_grid
from ..hub_assembly import gateless_checkpoint, hub_frame
from ..hub_checkpoint import HubCheckpoint
from ..template_words import hub_prompt
from ..text_parts import decoder_of
from ..transformers_parts import model_of
from ..video_llama_tower import VideoLlamaTower
from ..weights import stored_tensors, weight_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NATIVE, COGSTREAM = "video_llama_3", "videollama3_qwen2"
ARCHITECTURES = ("VideoLlama3ForConditionalGeneration", "Videollama3Qwen2ForCausalLM")
VISION, PROJECTOR = "model.vision_encoder.", "model.mm_projector."
"""Begin the names of tensors in CogStream's files; the decoder's are those of a Qwen2."""
MERGE = 2
"""Patches along each side of a token of a video; a single picture would have 1."""
FPS = 1.0
"""Frames a second of its training videos."""
GREY = (0.5, 0.5, 0.5)
SYSTEM = "You are a helpful assistant."
"""What the authors' own conversations begin with; no template writes it by itself."""
WORDS = ChatWords(
    system=f"<|im_start|>system\n{SYSTEM}<|im_end|>\n",
    user_open="<|im_start|>user\n",
    frame_open="",
    frame_close="",
    frame_join=",",
    frames_close="\n",
    is_timed=True,
    user_close="<|im_end|>\n",
    assistant_open="<|im_start|>assistant\n",
    turn_end="<|im_end|>",
    time_text="Time {:.1f}s:",
)
# Keys of CogStream's config.json that describe its Qwen2, which stand beside all others there.
_TEXT = (
    *("attention_dropout", "bos_token_id", "eos_token_id", "hidden_act", "hidden_size"),
    *("initializer_range", "intermediate_size", "max_position_embeddings", "max_window_layers"),
    *("num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"),
    *("rope_scaling", "rope_theta", "sliding_window", "tie_word_embeddings", "use_sliding_window"),
    "vocab_size",
)


class VideoLlama3:
    """Loads checkpoints of the family `videollama3`."""

    name = "videollama3"
    model_types = (NATIVE, COGSTREAM)
    replaces_code = (COGSTREAM,)

    def load(self, folder: Path, options: LoadOptions) -> Checkpoint:
        """The checkpoint in this folder, float32, checked.

        A frame may be any rectangle of whole tokens, each 28 x 28 px in the released models.

        Raises:
            CheckpointMissing, CheckpointInvalid, VocabularyMismatch, PromptInvalid: what is wrong.
            SettingsInvalid: a size of frames, or a number of tokens, that is none of the model's.

        Cost: the float32 weights in memory.
        """
        hub = HubCheckpoint.opened(folder, ARCHITECTURES)
        if hub.config.text("model_type") == NATIVE:
            hub.check_text("qwen2")
            model = hub.model(
                VideoLlama3Config,
                VideoLlama3ForConditionalGeneration,
                lambda config: frame_grid(config.vision_config.patch_size * MERGE, options),
            )
            decoder = decoder_of(model.model.language_model, model.lm_head)
            stored_decoder = hub.stored_decoder(decoder)
        else:
            model = _mapped(hub)
            decoder = decoder_of(model.model.language_model, model.lm_head)
            stored_decoder = _fill(hub, model, decoder)
        seen: Any = model.config.vision_config
        rows, columns = frame_grid(seen.patch_size * MERGE, options)
        vision = VideoLlamaTower(model.model.vision_model, (MERGE * rows, MERGE * columns), MERGE)
        size_px = (MERGE * rows * seen.patch_size, MERGE * columns * seen.patch_size)
        tokenizer = hub.tokenizer(decoder.config.vocab_size)
        return gateless_checkpoint(
            hub,
            self.name,
            vision=vision,
            connector=model.model.projector.readout,
            decoder=decoder,
            tokenizer=tokenizer,
            prompt=hub_prompt(hub, self.name, tokenizer, WORDS, _pictures(hub, tokenizer)),
            frame=hub_frame(hub, size_px, options.fps or FPS, "squash", (GREY, GREY)),
            tokens=rows * columns,
            stored=stored_decoder,
            config="config.json",
        )


def _pictures(hub: HubCheckpoint, tokenizer: Tokenizer) -> PictureWords:
    """What a template writes for a frame: the token that config.json names."""
    is_native = hub.config.text("model_type") == NATIVE
    key, usual = (
        ("video_token_id", "<|video_pad|>") if is_native else ("image_token_index", "<image>")
    )
    named = hub.config.whole(key) if key in hub.config else -1
    token = (tokenizer.id_to_token(named) if named >= 0 else None) or usual
    variables = {"image_token": token, "add_system_prompt": False}
    return PictureWords(token, is_video=True, system=SYSTEM, variables=variables)


def _mapped(hub: HubCheckpoint) -> Any:
    """The model that CogStream's config.json means, in eval mode; its weights hold anything.

    Raises:
        CheckpointInvalid: config.json makes no model of this kind.
    """
    hub.config.text("mm_projector_type", one_of=("mlp2x_gelu",))
    seen = hub.config.mapping("vision_encoder_config")
    text = {key: value for key, value in config_fields(hub.folder).rest().items() if key in _TEXT}
    described = {
        "text_config": {**text, "model_type": "qwen2"},
        "vision_config": {**seen, "model_type": "video_llama_3_vision"},
    }
    kind = (VideoLlama3Config, VideoLlama3ForConditionalGeneration)
    return model_of(described, "config.json", kind)


def _fill(hub: HubCheckpoint, model: Any, decoder: nn.Module) -> FileWeights | None:
    """Give the model its weights, which have other prefixes in CogStream's files.

    Args:
        decoder: of the model; its names are those in the files.

    Returns:
        The decoder's weights where they are too large and stay in the files.

    Raises:
        CheckpointInvalid: a tensor is missing, left over or of another shape.
    """
    stored = stored_tensors(weight_files(hub.folder))
    if model.config.tie_word_embeddings:
        stored.pop("lm_head.weight", None)
    modules = {VISION: model.model.vision_model, PROJECTOR: model.model.projector}
    return fill_beside_decoder_(decoder, modules, stored)
