"""The family `llava_onevision`: SigLIP, projector, pooling and Qwen2, held to transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from edgestream.models.chat_layout import chat_layout
from edgestream.models.families import load_checkpoint
from edgestream.models.families.llava_onevision import WORDS
from edgestream.models.family import LoadOptions
from edgestream.runtime.errors import CheckpointInvalid, SettingsInvalid

from ..family_law import FamilyLaw, check_layout
from ..family_tests import AlsoQuantized
from ..hub_checkpoints import chat_tokenizer, save_hub, varied_
from .test_checkpoint_faults import config

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
# As llava-hf/llava-onevision-qwen2-0.5b-ov-hf publishes it.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{# Render all images first #}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{# Render all video then #}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\\n' + content['text'] }}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}"
    "{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TOKENIZER = chat_tokenizer(SPECIAL)
STOP, IMAGE, VIDEO = (TOKENIZER.token_to_id(text) for text in SPECIAL[2:])


def tiny_llava(layer: int = -1) -> LlavaOnevisionForConditionalGeneration:
    """56 px in patches of 8: 7 x 7 patches, 4 x 4 cells and the new line."""
    model_config = LlavaOnevisionConfig(
        text_config={
            "model_type": "qwen2", "vocab_size": TOKENIZER.get_vocab_size() + 3, "hidden_size": 64,
            "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 2048,
        },
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56, "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_index=IMAGE, video_token_index=VIDEO, vision_feature_layer=layer,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LlavaOnevisionForConditionalGeneration(model_config).eval()
        varied_(model, seeing=1.5)
    model.generation_config.eos_token_id = STOP
    return model


def full_inputs(ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each frame is a video of one frame."""
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values_videos": pixels[:, None]}


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    work = tmp_path_factory.mktemp("llava")
    model = tiny_llava()
    folder = save_hub(work / "checkpoint", model, TOKENIZER, chat_template=TEMPLATE)
    return FamilyLaw(folder, work, model, VIDEO, full_inputs)


class TestLlavaOnevision(AlsoQuantized):
    """Held to the model that it comes from."""


def test_the_prompt_is_what_the_published_template_writes():
    layout = chat_layout(WORDS, TOKENIZER)

    def expand(text: str) -> str:
        return text.replace("<image>", "<image>" * 5)

    check_layout(layout, TOKENIZER, TEMPLATE, expand, IMAGE, tokens_per_frame=5)


@pytest.mark.parametrize("layer", [-1, -2])
def test_a_frame_is_a_video_of_one_frame(tmp_path, layer):
    model = tiny_llava(layer)
    loaded = load_checkpoint(save_hub(tmp_path / "checkpoint", model, TOKENIZER))
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        expected = model.model.get_video_features(pixels[None]).pooler_output
        tokens, summary = loaded.vision(pixels)
        torch.testing.assert_close(loaded.connector(tokens), expected, atol=1e-5, rtol=1e-5)
    assert loaded.tokens_per_frame == expected.shape[1] == 17
    assert tokens.shape == (1, 49, 48) and summary.shape == (1, 48)


def test_fewer_tokens_are_a_smaller_grid(tmp_path):
    folder = save_hub(tmp_path / "checkpoint", tiny_llava(), TOKENIZER)
    loaded = load_checkpoint(folder, LoadOptions(tokens_per_frame=5, fps=2.0))
    with torch.no_grad():
        embeds = loaded.connector(loaded.vision(torch.randn(1, 3, 56, 56))[0])
    assert embeds.shape == (1, 5, 64) and loaded.frame_input.fps == 2.0
    for options in (LoadOptions(tokens_per_frame=16), LoadOptions(tokens_per_frame=26),
                    LoadOptions(frame_px=64)):  # fmt: skip
        with pytest.raises(SettingsInvalid, match="up to 16 tokens and one more"):
            load_checkpoint(folder, options)


def test_another_tower_is_refused(tmp_path):
    folder: Path = save_hub(tmp_path / "checkpoint", tiny_llava(), TOKENIZER)
    config(vision_feature_select_strategy="default")(folder)
    with pytest.raises(CheckpointInvalid, match="expected siglip_vision_model, one layer"):
        load_checkpoint(folder)
