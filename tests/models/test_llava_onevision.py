"""The family `llava_onevision`: SigLIP, projector, pooling and Qwen2, held to transformers' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    PreTrainedTokenizerFast,
)

from edgestream.export.embeddings import StoredEmbeddings
from edgestream.models.chat_layout import chat_layout
from edgestream.models.families import load_checkpoint
from edgestream.models.families.llava_onevision import WORDS
from edgestream.models.family import LoadOptions
from edgestream.runtime.errors import CheckpointInvalid, SettingsInvalid
from edgestream.runtime.prompt import PromptParts
from edgestream.runtime.prompt_layout import ids_of
from edgestream.runtime.prompt_plan import planned_prompt
from edgestream.runtime.recent import DialogueTurn

from ..family_law import QUESTION, FamilyLaw
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
    """56 px in patches of 8: 7 x 7 patches, 4 x 4 cells."""
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
        # Kept in half precision, as the table.
        newline = model.model.image_newline
        newline.data.copy_((newline * 10).half().float())
    model.generation_config.eos_token_id = STOP
    return model


def full_inputs(ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """All frames are one video, whose last token is the new line."""
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values_videos": pixels[None]}


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    work = tmp_path_factory.mktemp("llava")
    model = tiny_llava()
    folder = save_hub(work / "checkpoint", model, TOKENIZER, chat_template=TEMPLATE)
    return FamilyLaw(folder, work, model, VIDEO, full_inputs)


class TestLlavaOnevision(AlsoQuantized):
    """Held to the model that it comes from."""


def test_the_prompt_is_what_the_published_template_writes():
    """As transformers' processor writes a video: its frames without a word, then the new line."""
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.video_token, processor.num_image_tokens = "<video>", 9  # of which 2 x 2 are left
    theirs = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER)
    layout, rows = chat_layout(WORDS, TOKENIZER), np.zeros((4, 1), np.float32)
    before = [("user", "Is it dark?"), ("assistant", "No.")]
    for frames, dialogue in ((1, []), (3, []), (2, before), (0, before), (0, [])):
        turns = [DialogueTurn(1.0, "Is it dark?", "No.")] if dialogue else []
        parts = PromptParts(QUESTION, [(2.0, rows)] * frames, turns)
        plan = planned_prompt(layout, lambda text: ids_of(TOKENIZER, text), parts, 10_000)
        ours = [
            token
            for one in plan.segments
            for token in (one.ids if one.embeds is None else [VIDEO] * one.positions)
        ]
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (*dialogue, ("user", QUESTION))
        ]
        messages[-1]["content"][:0] = [{"type": "video"}] * bool(frames)
        written = theirs.apply_chat_template(
            messages, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True
        )
        seen = {"pixel_values_videos": [np.zeros((frames, 3, 56, 56))]}
        expanded = written.replace("<video>", processor.replace_video_token(seen, 0))
        assert ours == list(ids_of(TOKENIZER, expanded)), (TOKENIZER.decode(ours, False), expanded)


@pytest.mark.medium
@pytest.mark.parametrize("layer", [-1, -2])
def test_frames_are_those_of_a_video_and_its_new_line_a_row_of_the_table(tmp_path, layer):
    model = tiny_llava(layer)
    loaded = load_checkpoint(save_hub(tmp_path / "checkpoint", model, TOKENIZER))
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        expected = model.model.get_video_features(pixels[None]).pooler_output
        tokens, summary = loaded.vision(pixels[:1])
        frames = [loaded.connector(loaded.vision(one[None])[0]) for one in pixels]
    newline = torch.from_numpy(loaded.token_rows([3, VIDEO])[1:, None])
    torch.testing.assert_close(torch.cat([*frames, newline], dim=1), expected, atol=1e-5, rtol=1e-5)
    assert loaded.tokens_per_frame == 16 and expected.shape[1] == 2 * 16 + 1
    assert tokens.shape == (1, 49, 48) and summary.shape == (1, 48)
    table, stored = loaded.embeddings.numpy(), StoredEmbeddings(loaded)
    stored.write(tmp_path / "embeddings.bin")
    kept = np.fromfile(tmp_path / "embeddings.bin", np.float16).reshape(stored.shape)
    assert (kept[VIDEO] == newline.numpy().ravel()).all()
    assert (np.delete(kept, VIDEO, 0) == np.delete(table, VIDEO, 0).astype(np.float16)).all()
    assert (stored.rows([VIDEO, 3]) == kept[[VIDEO, 3]]).all() and stored.check().passed


def test_fewer_tokens_are_a_smaller_grid(tmp_path):
    folder = save_hub(tmp_path / "checkpoint", tiny_llava(), TOKENIZER)
    loaded = load_checkpoint(folder, LoadOptions(tokens_per_frame=4, fps=2.0))
    with torch.no_grad():
        embeds = loaded.connector(loaded.vision(torch.randn(1, 3, 56, 56))[0])
    assert embeds.shape == (1, 4, 64) and loaded.frame_input.fps == 2.0
    for options in (LoadOptions(tokens_per_frame=15), LoadOptions(tokens_per_frame=25),
                    LoadOptions(frame_px=64)):  # fmt: skip
        with pytest.raises(SettingsInvalid, match="a square of up to 16 tokens, such as 16"):
            load_checkpoint(folder, options)


def test_another_tower_is_refused(tmp_path):
    folder: Path = save_hub(tmp_path / "checkpoint", tiny_llava(), TOKENIZER)
    config(vision_feature_select_strategy="default")(folder)
    with pytest.raises(CheckpointInvalid, match="expected siglip_vision_model, one layer"):
        load_checkpoint(folder)
