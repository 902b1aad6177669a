"""The family `videollama3`: transformers' own classes, and CogStream's names for the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerFast,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
)

from edgestream.models.adapters import merge_adapter
from edgestream.models.chat_layout import chat_layout
from edgestream.models.families import load_checkpoint
from edgestream.models.families.videollama3 import WORDS
from edgestream.models.family import LoadOptions
from edgestream.models.layerwise_merge import layerwise_adapter
from edgestream.models.video_llama_tower import VideoLlamaTower
from edgestream.models.weights import stored_tensors, weight_files
from edgestream.runtime.errors import CheckpointInvalid, RemoteCodeNeeded, SettingsInvalid
from edgestream.runtime.prompt import PromptParts
from edgestream.runtime.prompt_layout import ids_of
from edgestream.runtime.prompt_plan import planned_prompt
from edgestream.runtime.recent import DialogueTurn

from ..family_law import QUESTION, FamilyLaw
from ..family_tests import AlsoQuantized
from ..hub_checkpoints import (
    LICENCE,
    QWEN2_FILES,
    chat_tokenizer,
    qwen2_tokenizer,
    save_hub,
    varied_,
)

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|video_pad|>", "<|endoftext|>")
TOKENIZER = chat_tokenizer(SPECIAL)
PATCH, FOUR = 4, LoadOptions(tokens_per_frame=16)
PREPROCESSOR = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}
# As LiamZhao326/CogStream publishes it, line feeds between the statements left out.
TEMPLATE_FILE = QWEN2_FILES / "chat_template.json"
OWN_FILES = tuple(
    f"{name}.json"
    for name in ("added_tokens", "vocab", "tokenizer_config", "generation_config",
                 "preprocessor_config", "chat_template")
)  # fmt: skip
# Prefix in the classes of transformers → in CogStream's files, the longest first.
RENAMED = {
    "model.vision_model.": "model.vision_encoder.",
    "model.projector.": "model.mm_projector.",
    "model.language_model.": "model.",
}


def tiny_model(
    tokenizer: Tokenizer, video: str, *, is_tied: bool = False
) -> VideoLlama3ForConditionalGeneration:
    """Patches of 4 px, so that 16 tokens a frame are 32 px."""
    config = VideoLlama3Config(
        text_config={
            "model_type": "qwen2", "vocab_size": tokenizer.get_vocab_size() + 9, "hidden_size": 64,
            "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "tie_word_embeddings": is_tied,
        },
        vision_config={
            "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "patch_size": PATCH,
        },
        video_token_id=tokenizer.token_to_id(video), image_token_id=0, tie_word_embeddings=is_tied,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VideoLlama3ForConditionalGeneration(config).eval()
        varied_(model, 2.0)
        for name, part in model.named_parameters():
            if name.endswith("bias"):
                part.data.normal_(std=0.05)
    return model


def full_inputs(ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Patches as the model's own processor orders them: by blocks of 2 x 2."""
    frames, _, height, width = pixels.shape
    rows, columns = height // PATCH, width // PATCH
    blocks = pixels.reshape(frames, 3, rows // 2, 2, PATCH, columns // 2, 2, PATCH)
    patches = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(frames * rows * columns, -1)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": patches,
        "video_grid_thw": torch.tensor([[frames, rows, columns]]),
        "video_merge_sizes": torch.tensor([2]),
    }


def native_law(work: Path, **more: Any) -> FamilyLaw:
    model = tiny_model(TOKENIZER, "<|video_pad|>", **more)
    folder = save_hub(work / "checkpoint", model, TOKENIZER, preprocessor=PREPROCESSOR)
    image = TOKENIZER.token_to_id("<|video_pad|>")
    return FamilyLaw(folder, work, model, image, full_inputs, FOUR)


def cogstream_folder(folder: Path, model: Any, *, is_tied: bool = False) -> Path:
    """The same weights under CogStream's names, with its config.json and tokenizer files."""
    native = save_hub(folder.with_name("native"), model, qwen2_tokenizer())
    folder.mkdir()
    for name in ("merges.txt", *OWN_FILES):
        shutil.copyfile(QWEN2_FILES / name, folder / name)
    tensors = {
        renamed(name): part for name, part in load_file(native / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((QWEN2_FILES / "config.json").read_text())
    text, seen = model.config.text_config, model.config.vision_config
    config |= {
        key: getattr(text, key)
        for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                    "num_attention_heads", "num_key_value_heads")
    }  # fmt: skip
    config["tie_word_embeddings"] = is_tied
    config["vision_encoder_config"] |= {
        key: getattr(seen, key)
        for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                    "patch_size")
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def renamed(name: str) -> str:
    for theirs, ours in RENAMED.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    return native_law(tmp_path_factory.mktemp("videollama3"))


class TestVideollama3(AlsoQuantized):
    """Held to the model that it comes from."""


@pytest.mark.slow
def test_the_bundle_answers_about_the_sample_clip(law, capsys):
    records = law.run_on_the_clip(capsys, "--gate", "never")
    final = records[-1]
    assert (final["type"], final["cause"], final["question"]) == ("final", "question", QUESTION)
    assert final["text"] and final["about_s"][1] == 30.0


@pytest.mark.slow
def test_cogstreams_names_are_the_same_model(tmp_path):
    tokenizer = qwen2_tokenizer()
    model = tiny_model(tokenizer, "<image>")
    folder = cogstream_folder(tmp_path / "cogstream", model)
    image = tokenizer.token_to_id("<image>")
    law = FamilyLaw(folder, tmp_path, model, image, full_inputs, FOUR)
    law.check_logits()
    law.check_greedy()


@pytest.mark.slow
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_mapped_config_is_the_config_of_transformers(tmp_path, is_tied):
    model = tiny_model(qwen2_tokenizer(), "<image>", is_tied=is_tied)
    loaded = load_checkpoint(cogstream_folder(tmp_path / "own", model, is_tied=is_tied), FOUR)
    assert "auto_map" in json.loads((tmp_path / "own" / "config.json").read_text())
    theirs, ours = model.config.text_config, loaded.decoder.config
    for key in ("hidden_size", "num_key_value_heads", "rms_norm_eps", "hidden_act"):
        assert getattr(ours, key) == getattr(theirs, key)
    assert ours.rope_parameters["rope_theta"] == loaded.positions.theta == 1_000_000.0
    assert ours.tie_word_embeddings == is_tied
    assert loaded.layout.stop_ids == (151645, 151643)
    tower = model.model.vision_model
    pixels = torch.randn(1, 3, 32, 32)
    expected = VideoLlamaTower(tower, (8, 8), 2)(pixels)
    for one, other in zip(loaded.vision(pixels), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("is_native", [True, False])
def test_a_decoder_too_large_for_the_memory_stays_in_its_files(tmp_path, monkeypatch, is_native):
    if is_native:
        folder = native_law(tmp_path).folder
    else:
        folder = cogstream_folder(tmp_path / "own", tiny_model(qwen2_tokenizer(), "<image>"))
    whole = load_checkpoint(folder, FOUR)
    monkeypatch.setattr("edgestream.models.decoder_weights.LARGEST_IN_MEMORY", 0)
    left = load_checkpoint(folder, FOUR)
    assert whole.stored_decoder is None and next(left.decoder.parameters()).is_meta
    expected, found = whole.decoder_weights(), left.decoder_weights()
    assert found.shape == expected.shape
    for name in expected.shape.parameters():
        np.testing.assert_array_equal(found.tensor(name), expected.tensor(name))
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(left.vision(pixels), whole.vision(pixels))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft 0.21
@pytest.mark.parametrize("is_native", [True, False])
def test_an_adapter_of_the_whole_model_reaches_its_projector(tmp_path, is_native):
    """CogStream's answering adapter has LoRA in the language model and in the projector."""
    from peft import LoraConfig, get_peft_model

    law = native_law(tmp_path)
    targets = r".*(language_model\..*(q_proj|down_proj)|readout\.[02])"
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(law.model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    if not is_native:
        file = tmp_path / "adapter" / "adapter_model.safetensors"
        inside = "base_model.model."
        tensors = {
            inside + renamed(name.removeprefix(inside)): part
            for name, part in load_file(file).items()
        }
        save_file(tensors, file)
    merged = merge_adapter(load_checkpoint(law.folder, FOUR), tmp_path / "adapter")
    expected = adapted.merge_and_unload()
    x, embeds = torch.randn(1, 16, 48), torch.randn(1, 9, 64)
    with torch.inference_mode():
        ours, theirs = merged.connector(x), expected.model.projector(x)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        ours = merged.decoder(inputs_embeds=embeds).logits
        theirs = expected.lm_head(expected.model.language_model(inputs_embeds=embeds)[0])
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    plain = load_checkpoint(law.folder, FOUR)
    assert (merged.connector(x) - plain.connector(x)).abs().max() > 1e-2
    # In the files, matrix by matrix, it is the same.
    stored = stored_tensors(weight_files(law.folder))
    adapter = layerwise_adapter(plain, tmp_path / "adapter", stored)
    assert adapter.tensors["connector.2"] == "model.projector.readout.2.weight"
    weight = adapter.merged("connector.2", plain.connector[2].weight)
    torch.testing.assert_close(weight, merged.connector[2].weight)


@pytest.mark.parametrize(("grid", "merge"), [((8, 8), 2), ((6, 10), 2), ((3, 5), 1)])
def test_the_tower_at_a_fixed_grid_is_the_tower(grid, merge):
    model = tiny_model(TOKENIZER, "<|video_pad|>")
    fixed = VideoLlamaTower(model.model.vision_model, grid, merge)
    rows, columns = grid
    pixels = torch.randn(1, 3, rows * PATCH, columns * PATCH)
    blocks = pixels.reshape(3, rows // merge, merge, PATCH, columns // merge, merge, PATCH)
    patches = blocks.permute(1, 4, 2, 5, 0, 3, 6).reshape(rows * columns, -1)
    with torch.inference_mode():
        expected = model.model.vision_model(
            patches, torch.tensor([[1, rows, columns]]), torch.tensor([merge])
        ).last_hidden_state
        tokens, summary = fixed(pixels)
    assert tokens.shape == (1, rows * columns // merge**2, 48)
    torch.testing.assert_close(tokens[0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(summary.norm(), torch.tensor(1.0))


@pytest.mark.medium
def test_the_prompt_is_what_the_published_template_writes():
    tokenizer = qwen2_tokenizer()
    layout = chat_layout(WORDS, tokenizer)
    template = json.loads(TEMPLATE_FILE.read_text())["chat_template"]
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    image, rows = tokenizer.token_to_id("<image>"), np.zeros((3, 1), np.float32)
    for times, dialogue in (
        ((4.0,), ()),
        ((4.0, 5.5, 7.25), ()),
        ((), ()),
        ((61.0, 62.0), (("Is it dark?", "No."), ("Why?", "The sun shines."))),
        ((), (("Is it dark?", "No."),)),
    ):
        turns = [DialogueTurn(1.0, asked, said) for asked, said in dialogue]
        parts = PromptParts("What is there?", [(time_s, rows) for time_s in times], turns)
        plan = planned_prompt(layout, lambda text: ids_of(tokenizer, text), parts, 10_000)
        ours = [
            token
            for one in plan.segments
            for token in (one.ids if one.embeds is None else [image] * one.positions)
        ]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You are a helpful assistant."}
        ]
        for asked, said in dialogue:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        video = {"type": "video", "num_frames": len(times), "timestamps": list(times)}
        content = [*([video] if times else []), {"type": "text", "text": "What is there?"}]
        messages.append({"role": "user", "content": content})
        written = theirs.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True,
            image_token="<image>", add_system_prompt=False,
        )  # fmt: skip
        expected = list(ids_of(tokenizer, written.replace("<image>", "<image>" * 3)))
        assert ours == expected, (tokenizer.decode(ours, False), written)


@pytest.mark.medium
def test_what_the_folder_says_of_itself_is_told(tmp_path):
    law = native_law(tmp_path)
    loaded = load_checkpoint(law.folder)
    assert (loaded.tokens_per_frame, loaded.frame_input.size_px) == (64, (64, 64))
    assert (loaded.frame_input.mean, loaded.frame_input.std) == ((0.5,) * 3, (0.5, 0.25, 0.5))
    assert (loaded.frame_input.fps, loaded.source.licence) == (1.0, LICENCE)
    assert (loaded.source.family, loaded.gate) == ("videollama3", None)
    loaded = load_checkpoint(law.folder, LoadOptions(frame_px=24, tokens_per_frame=9, fps=0.5))
    assert (loaded.tokens_per_frame, loaded.frame_input.size_px) == (9, (24, 24))
    assert loaded.frame_input.fps == 0.5
    wide = load_checkpoint(law.folder, LoadOptions(frame_px=(24, 40)))
    assert (wide.tokens_per_frame, wide.frame_input.size_px) == (15, (24, 40))
    for options in (
        LoadOptions(frame_px=20),
        LoadOptions(tokens_per_frame=5),
        LoadOptions(frame_px=4),
        LoadOptions(frame_px=32, tokens_per_frame=9),
    ):
        with pytest.raises(SettingsInvalid, match="a token for each 8 x 8 px"):
            load_checkpoint(law.folder, options)


@pytest.mark.slow
def test_what_is_no_such_model_is_refused_by_name(tmp_path):
    folder = cogstream_folder(tmp_path / "own", tiny_model(qwen2_tokenizer(), "<image>"))
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for changes, words in (
        ({"mm_projector_type": "linear"}, "mm_projector_type: got 'linear'"),
        ({"num_attention_heads": 0}, "makes no video_llama_3 model"),
        ({"intermediate_size": 96}, r"layers\.0\.mlp\.\w+_proj\.weight .* shape"),
    ):
        file.write_text(json.dumps({**config, **changes}))
        with pytest.raises(CheckpointInvalid, match=words):
            load_checkpoint(folder)
    # Code of any other kind is refused as everywhere.
    file.write_text(json.dumps({**config, "model_type": "video_llama_3"}))
    with pytest.raises(RemoteCodeNeeded):
        load_checkpoint(folder)
