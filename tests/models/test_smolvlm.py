"""The family `smolvlm`: tower, pixel shuffle and Llama of SmolVLM2, held to its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from edgestream.models.chat_layout import chat_layout
from edgestream.models.families import load_checkpoint
from edgestream.models.families.smolvlm import WORDS
from edgestream.models.family import LoadOptions
from edgestream.runtime.errors import SettingsInvalid

from ..family_law import FamilyLaw, check_layout
from ..family_tests import AlsoQuantized
from ..hub_checkpoints import LICENCE, chat_tokenizer, save_hub, varied_

SPECIAL = ("<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>",
           "<image>")  # fmt: skip
# As HuggingFaceTB/SmolVLM2-256M-Video-Instruct publishes it.
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TOKENIZER = chat_tokenizer(SPECIAL)
IMAGE = TOKENIZER.token_to_id("<image>")
STOP = TOKENIZER.token_to_id("<end_of_utterance>")
PREPROCESSOR = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}


def tiny_smolvlm(
    seed: int = 0, *, is_tied: bool = False, image_size: int = 64
) -> SmolVLMForConditionalGeneration:
    """64 px in patches of 8, blocks of 2 x 2: 16 tokens; unused rows at the end of the table."""
    config = SmolVLMConfig(
        text_config={
            "model_type": "llama", "vocab_size": TOKENIZER.get_vocab_size() + 7, "hidden_size": 64,
            "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        },
        vision_config={
            "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "image_size": image_size, "patch_size": 8,
        },
        scale_factor=2, image_token_id=IMAGE, tie_word_embeddings=is_tied, pad_token_id=0,
        eos_token_id=STOP,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SmolVLMForConditionalGeneration(config).eval()
        varied_(model)
    return model


def tiny_folder(folder: Path, **more) -> tuple[Path, SmolVLMForConditionalGeneration]:
    model = tiny_smolvlm(**more)
    model.generation_config.eos_token_id = STOP
    save_hub(folder, model, TOKENIZER, chat_template=TEMPLATE, preprocessor=PREPROCESSOR)
    return folder, model


def full_inputs(ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels[None]}


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    work = tmp_path_factory.mktemp("smolvlm")
    folder, model = tiny_folder(work / "checkpoint")
    return FamilyLaw(folder, work, model, IMAGE, full_inputs)


class TestSmolvlm(AlsoQuantized):
    """Held to the model that it comes from."""


@pytest.mark.slow
def test_smaller_frames_have_fewer_tokens(tmp_path):
    folder, model = tiny_folder(tmp_path / "checkpoint", is_tied=True)
    law = FamilyLaw(folder, tmp_path, model, IMAGE, full_inputs, LoadOptions(tokens_per_frame=4))
    assert law.checkpoint.frame_input.size_px == (32, 32)
    law.check_logits()


def test_the_prompt_is_what_the_published_template_writes():
    def expand(text: str) -> str:
        image = get_image_prompt_string(
            0, 0, 3, "<fake_token_around_image>", "<image>", "<global-img>"
        )
        return text.replace("<image>", image)

    layout = chat_layout(WORDS, TOKENIZER)
    check_layout(layout, TOKENIZER, TEMPLATE, expand, IMAGE, tokens_per_frame=3)


def test_what_the_folder_says_of_itself_is_told(tmp_path):
    folder, _ = tiny_folder(tmp_path / "tiny-smolvlm")
    loaded = load_checkpoint(folder)
    assert (loaded.tokens_per_frame, loaded.frame_input.size_px) == (16, (64, 64))
    assert (loaded.frame_input.mean, loaded.frame_input.std) == ((0.5,) * 3, (0.25, 0.5, 0.5))
    assert (loaded.frame_input.fps, loaded.frame_input.resize) == (1.0, "squash")
    assert (loaded.source.checkpoint, loaded.source.licence) == ("tiny-smolvlm", LICENCE)
    assert (loaded.source.family, loaded.source.revision) == ("smolvlm", None)
    assert loaded.layout.stop_ids == (STOP,) and loaded.gate is None
    tokens, summary = loaded.vision(torch.randn(1, 3, 64, 64))
    assert tokens.shape == (1, 16, 192) and summary.shape == (1, 48)
    torch.testing.assert_close(summary.norm(), torch.tensor(1.0))


def test_sizes_that_the_tower_cannot_see_are_refused_with_those_it_can(tmp_path):
    folder, _ = tiny_folder(tmp_path / "checkpoint")
    for options in (
        LoadOptions(frame_px=40),
        LoadOptions(frame_px=80),
        LoadOptions(tokens_per_frame=5),
        LoadOptions(frame_px=32, tokens_per_frame=16),
    ):
        with pytest.raises(SettingsInvalid, match="1 at 16 px, 4 at 32 px, 9 at 48 px, 16 at 64"):
            load_checkpoint(folder, options)
    loaded = load_checkpoint(folder, LoadOptions(frame_px=48, tokens_per_frame=9, fps=2.0))
    assert (loaded.tokens_per_frame, loaded.frame_input.fps) == (9, 2.0)


def test_shards_of_half_precision_are_read_as_float32(tmp_path):
    model = tiny_smolvlm()
    folder = save_hub(
        tmp_path / "checkpoint", model, TOKENIZER, dtype=torch.bfloat16, max_shard_size="100KB"
    )
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    loaded = load_checkpoint(folder)
    pairs = (
        (loaded.decoder.lm_head, model.lm_head),
        (loaded.decoder.model.layers[2].mlp.up_proj, model.model.text_model.layers[2].mlp.up_proj),
        (loaded.connector.proj, model.model.connector.modality_projection.proj),
    )
    for ours, theirs in pairs:
        assert ours.weight.dtype == torch.float32
        torch.testing.assert_close(ours.weight, theirs.weight.bfloat16().float(), rtol=0, atol=0)
