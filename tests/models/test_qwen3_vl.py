"""The family `qwen3_vl`: its bundle against transformers' whole Qwen3-VL, pixels to words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from edgestream.edge.cli import main
from edgestream.models.chat_layout import chat_layout
from edgestream.models.families import load_checkpoint
from edgestream.models.families.qwen3_vl import WORDS
from edgestream.models.family import LoadOptions
from edgestream.runtime.errors import CheckpointInvalid, SettingsInvalid

from ..family_law import CLIP, FamilyLaw, check_layout
from ..family_tests import SaysWhatTheModelSays
from ..hub_checkpoints import LICENCE, chat_tokenizer, qwen2_tokenizer
from ..qwen3_vl_checkpoint import CHAT_TEMPLATE, SPECIAL, image_grid, image_values, tiny_folder

TOKENIZER = chat_tokenizer(SPECIAL)
IMAGE = TOKENIZER.token_to_id("<|image_pad|>")


def full_inputs(ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    pictures = pixels.numpy()
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "pixel_values": torch.cat([image_values(one) for one in pictures]),
        "image_grid_thw": torch.cat([image_grid(one) for one in pictures]),
    }


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    work = tmp_path_factory.mktemp("qwen3_vl")
    folder, model = tiny_folder(work / "checkpoint", seed=1, is_tied=False)
    return FamilyLaw(folder, work, model, IMAGE, full_inputs, LoadOptions(tokens_per_frame=16))


class TestQwen3Vl(SaysWhatTheModelSays):
    """Held to the model that it comes from."""


@pytest.mark.slow
def test_without_deepstack_it_would_say_something_else(law):
    """The control of the test above: rows that were cut off behind the embedding."""
    whole = law.device.read(law.plan)
    rows = np.concatenate([one for one, _ in law.device.segments(law.plan)])
    places = np.concatenate([places for _, places in law.device.segments(law.plan)], axis=1)
    rows[:, 64:] = 0.0
    law.device.model.arena.reset()
    without = law.device.model.append(rows, positions=places)
    assert np.abs(without - whole).max() > 0.1


@pytest.mark.slow
def test_the_bundle_says_how_wide_a_row_is(law):
    manifest = law.bundle.manifest
    assert manifest.embeddings.shape[1] == 64 and manifest.embeddings.row_width == 3 * 64
    widths = {
        (role, spec.name): spec.shape[-1]
        for role, variant in manifest.variants()
        for spec in (*variant.inputs, *variant.outputs)
    }
    assert widths["connector", "embeds"] == widths["decoder", "inputs_embeds"] == 3 * 64
    assert widths["vision", "tokens"] == widths["connector", "tokens"] == 3 * 4 * 48
    assert manifest.positions.frame_grid == (4, 4)
    assert manifest.positions.sections == (6, 5, 5) and manifest.positions.extra["interleaved"]


@pytest.mark.slow
@pytest.mark.parametrize("llm", ["int8", "int4-32"])
def test_int8_and_int4_pass_the_proof(tmp_path, llm):
    folder, model = tiny_folder(tmp_path / "checkpoint", gains=0.0)
    law = FamilyLaw(folder, tmp_path, model, IMAGE, full_inputs, LoadOptions(frame_px=64))
    law.check_quantized("int8", llm)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["auto", "continuous"])
def test_it_watches_remembers_and_answers(law, tmp_path, context):
    """Wide rows through memory, recall, prompts and evictions; untrained words, so any will do."""
    log = tmp_path / "log.jsonl"
    asked = ["--ask", "6:Is it dark?", "--ask", "30:What happened before?"]
    # Untrained answers end at the limit: long ones would leave no room for what is remembered.
    short = ["--set", "session.max_answer_tokens=48"]
    how = ["--set", f"context.kind={context}", "--jsonl", str(log), *short]
    assert main(["run", str(CLIP), "--bundle", str(law.bundle.folder), *asked, *how]) == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    finals = [one for one in records if one["type"] == "final" and one["question"]]
    assert [one["question"] for one in finals] == ["Is it dark?", "What happened before?"]
    assert all(one["text"] for one in finals)
    assert {one["ended_by"] for one in records if one["type"] == "final"} <= {"model", "limit"}
    if context == "auto":
        assert finals[1]["context"] == "recall" and finals[1]["used"], "key frames were read"


@pytest.mark.slow
def test_a_decoder_that_stays_in_its_files_is_the_same_bundle(tmp_path, monkeypatch):
    folder, model = tiny_folder(tmp_path / "checkpoint", gains=0.0)
    monkeypatch.setattr("edgestream.models.decoder_weights.LARGEST_IN_MEMORY", 0)
    law = FamilyLaw(folder, tmp_path, model, IMAGE, full_inputs, LoadOptions((64, 96)))
    assert law.checkpoint.stored_decoder is not None and law.checkpoint.row_width == 3 * 64
    law.check_logits()


@pytest.mark.parametrize("is_tied", [False, True])
def test_the_axes_take_turns_where_the_configuration_does_not_say_so(tmp_path, is_tied):
    silent = {"rope_type": "default", "rope_theta": 50_000.0, "mrope_section": [6, 5, 5]}
    folder, _ = tiny_folder(tmp_path / "checkpoint", is_tied=is_tied, rope_parameters=silent)
    loaded = load_checkpoint(folder)
    shape = loaded.decoder_weights().shape
    assert shape.is_interleaved and loaded.positions.extra["interleaved"]
    assert (shape.is_tied, shape.deep_levels, shape.has_qk_norm) == (is_tied, 2, True)


def test_a_configuration_in_the_words_of_the_hub(tmp_path):
    """As the published folders have it, written by an older transformers."""
    folder, _ = tiny_folder(tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    rotation = config["text_config"].pop("rope_parameters")
    config["text_config"]["rope_theta"] = 5_000_000
    config["text_config"]["rope_scaling"] = {
        "mrope_interleaved": True,
        "mrope_section": rotation["mrope_section"],
        "rope_type": "default",
    }
    config["vision_config"]["model_type"] = "qwen3_vl"
    config["vision_config"].pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(config))
    positions = load_checkpoint(folder).positions
    assert (positions.theta, positions.sections) == (5_000_000.0, (6, 5, 5))


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_prompt_is_what_the_template_writes(real):
    tokenizer, pad = qwen2_tokenizer() if real else TOKENIZER, "<|image_pad|>"
    layout = chat_layout(WORDS, tokenizer, ["<|im_end|>", "<|endoftext|>"])
    image = tokenizer.token_to_id(pad)
    check_layout(
        layout, tokenizer, CHAT_TEMPLATE, lambda text: text.replace(pad, pad * 5), image, 5
    )


def test_what_the_folder_says_of_itself_is_told(tmp_path):
    folder, _ = tiny_folder(tmp_path / "tiny-qwen3-vl")
    loaded = load_checkpoint(folder)
    assert (loaded.tokens_per_frame, loaded.frame_input.size_px) == (64, (256, 256))
    assert (loaded.frame_input.mean, loaded.frame_input.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (loaded.frame_input.fps, loaded.frame_input.resize) == (2.0, "letterbox")
    assert (loaded.source.checkpoint, loaded.source.licence) == ("tiny-qwen3-vl", LICENCE)
    assert loaded.source.family == "qwen3_vl" and loaded.row_width == 3 * 64
    stops = [TOKENIZER.token_to_id(one) for one in ("<|im_end|>", "<|endoftext|>")]
    assert list(loaded.layout.stop_ids) == stops and loaded.gate is None
    names = {name for name, _ in loaded.decoder.named_parameters(remove_duplicate=False)}
    assert {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
            "model.layers.2.self_attn.q_norm.weight"} <= names  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(frame_px=250),
        LoadOptions(tokens_per_frame=60),
        LoadOptions(frame_px=64, tokens_per_frame=16),
    ],
)
def test_a_frame_is_of_whole_tokens(tmp_path, options):
    folder, _ = tiny_folder(tmp_path / "checkpoint")
    with pytest.raises(SettingsInvalid, match="a token for each 32 x 32 px"):
        load_checkpoint(folder, options)


def test_more_taps_than_layers_are_refused(tmp_path):
    folder, _ = tiny_folder(tmp_path / "checkpoint", num_hidden_layers=1)
    with pytest.raises(CheckpointInvalid, match="2 deepstack_visual_indexes for 1 layers"):
        load_checkpoint(folder)
