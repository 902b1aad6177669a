"""Folders of the Hub that cannot be exported: each is one sentence, and says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgestream.models.adapters import merge_adapter
from edgestream.models.families import load_checkpoint
from edgestream.models.weights import INDEX, SINGLE
from edgestream.runtime.errors import (
    BundleError,
    CheckpointInvalid,
    CheckpointMissing,
    FamilyUnknown,
    PromptInvalid,
    RemoteCodeNeeded,
    VocabularyMismatch,
)

from ..hub_checkpoints import chat_tokenizer, save_hub
from .test_checkpoint_faults import config, cut, remove, tensors, write
from .test_smolvlm import SPECIAL, TOKENIZER, tiny_folder, tiny_smolvlm

LAYER = "model.text_model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("whole") / "tiny")[0]


def tokenizer_of(special: tuple[str, ...], more: int = 0) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        words = [*special, *(f"<extra-{number}>" for number in range(more))]
        chat_tokenizer(words).save(str(folder / "tokenizer.json"))

    return change


def pickled(folder: Path) -> None:
    (folder / SINGLE).unlink()
    torch.save({}, folder / "pytorch_model.bin")


def no_shard(folder: Path) -> None:
    save_hub(folder, tiny_smolvlm(), TOKENIZER, max_shard_size="100KB")
    (folder / SINGLE).unlink(missing_ok=True)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def both_forms(folder: Path) -> None:
    weight_map = dict.fromkeys([LAYER], SINGLE)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


FAULTS: dict[str, tuple[Callable[[Path], Any], type[BundleError], str]] = {
    "another architecture": (
        config(model_type="blip"), FamilyUnknown,
        "has model_type 'blip', expected one of "),
    "its own code": (
        config(model_type="my_vlm", auto_map={"AutoModel": "x.Y"}), RemoteCodeNeeded,
        "config.json.auto_map asks for code"),
    "its own code for a known type": (
        config(auto_map={"AutoModel": "x.Y"}), RemoteCodeNeeded, "asks for code"),
    "no type at all": (
        config(model_type=None), CheckpointInvalid, "edgestream_family is missing"),
    "a part of the model": (
        config(architectures=["SmolVLMModel"]), CheckpointInvalid,
        "has the architecture SmolVLMModel, expected SmolVLMForConditionalGeneration"),
    "quantized weights": (
        config(quantization_config={"quant_method": "bitsandbytes"}), CheckpointInvalid,
        "weights are quantized (bitsandbytes)"),
    "another language model": (
        config(text_config__model_type="gpt2"), CheckpointInvalid,
        "config.json.text_config.model_type: got 'gpt2', expected one of llama"),
    "sizes that make no model": (
        config(text_config__num_attention_heads=7), CheckpointInvalid, "makes no SmolVLM"),
    "scaled rotation": (
        config(text_config__rope_parameters={"rope_type": "linear", "factor": 2.0,
                                             "rope_theta": 10000.0}),
        CheckpointInvalid, "got rope_type 'linear'"),
    "no config": (remove("config.json"), CheckpointMissing, "there is no file"),
    "config is no JSON": (write("config.json", "{"), CheckpointInvalid, "is no JSON"),
    "no weights": (remove(SINGLE), CheckpointMissing, "expected the weights there"),
    "pickled weights": (pickled, CheckpointMissing, "pickled weights are never read"),
    "a shard that is not there": (no_shard, CheckpointMissing, f"but {INDEX} names it"),
    "one file and shards": (both_forms, CheckpointInvalid, "cannot be told"),
    "an adapter beside it": (
        write("adapter_config.json", "{}"), CheckpointInvalid, "holds an adapter beside"),
    "truncated weights": (cut(SINGLE, -100), CheckpointInvalid, "is truncated"),
    "a missing tensor": (
        tensors(lambda all_: all_.pop(LAYER)), CheckpointInvalid,
        f"the tensor {LAYER} is missing from the weights of"),
    "a tensor too many": (
        tensors(lambda all_: all_.update(more=torch.ones(1))), CheckpointInvalid,
        "the tensor more is no part of the model"),
    "another shape": (
        tensors(lambda all_: all_.update({LAYER: torch.ones(160, 63)})), CheckpointInvalid,
        f"the tensor {LAYER} has the shape [160, 63], expected [160, 64]"),
    "no tokenizer": (
        remove("tokenizer.json"), CheckpointMissing, "nor vocab.json and merges.txt"),
    "tokenizer is none": (write("tokenizer.json", "{}"), CheckpointInvalid, "is no tokenizer"),
    "a tokenizer with more tokens": (
        tokenizer_of(SPECIAL, more=8), VocabularyMismatch, "'<extra-7>' with the id"),
    "a tokenizer of another model": (
        tokenizer_of(SPECIAL[:1]), PromptInvalid, "'<end_of_utterance>', which this tokenizer"),
    "colours as they are": (
        write("preprocessor_config.json", '{"do_normalize": false}'), CheckpointInvalid,
        "preprocessor_config.json has do_normalize false"),
    "colours that are none": (
        write("preprocessor_config.json", '{"image_mean": "grey"}'), CheckpointInvalid,
        "preprocessor_config.json.image_mean: got 'grey'"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "kind", "message"), FAULTS.values(), ids=FAULTS)
def test_a_folder_that_cannot_be_exported_is_one_sentence(whole, tmp_path, damage, kind, message):
    folder = Path(shutil.copytree(whole, tmp_path / "damaged"))
    damage(folder)
    with pytest.raises(BundleError) as caught:
        load_checkpoint(folder)
    assert type(caught.value) is kind, caught.value
    assert message in caught.value.message, caught.value.message
    assert caught.value.exit_code == 3 and "\n" not in caught.value.message
    # What the field of a config file should hold is said in the message itself.
    assert caught.value.hint or "expected" in caught.value.message or kind is CheckpointInvalid


def lora(folder: Path, prefix: str, tokenizer: Any = None) -> Path:
    """A LoRA adapter of rank 2 on one matrix, as PEFT saves it."""
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["up_proj"],
              "layers_to_transform": [1], "task_type": None}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = f"base_model.model.{prefix}layers.1.mlp.up_proj"
    torch.manual_seed(0)
    parts = {"A": torch.randn(2, 64), "B": torch.randn(160, 2)}
    tensors = {f"{name}.lora_{side}.weight": part for side, part in parts.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_an_adapter_of_the_whole_model_is_merged_into_its_language_model(whole, tmp_path):
    from safetensors.torch import load_file

    adapter = lora(tmp_path / "lora", "model.text_model.", TOKENIZER)
    base = load_checkpoint(whole)
    merged = merge_adapter(base, adapter)
    parts = load_file(adapter / "adapter_model.safetensors")
    a, b = (next(part for name, part in parts.items() if f"lora_{side}" in name) for side in "AB")
    before, after = (one.decoder.model.layers[1].mlp.up_proj.weight for one in (base, merged))
    torch.testing.assert_close(after, before + 2.0 * b @ a)
    assert merged.source.adapter == "lora"


def test_an_adapter_of_another_vocabulary_is_refused_by_its_first_token(whole, tmp_path):
    other = lora(tmp_path / "lora", "model.text_model.", chat_tokenizer((*SPECIAL, "<act>")))
    with pytest.raises(VocabularyMismatch, match="'<act>' has the id") as caught:
        merge_adapter(load_checkpoint(whole), other)
    assert "differs from the checkpoint's in 1 tokens" in caught.value.message
    assert caught.value.hint and caught.value.exit_code == 3


def test_an_adapter_s_scale_of_single_layers_reaches_them(whole, tmp_path):
    adapter = lora(tmp_path / "lora", "model.text_model.")
    file = adapter / "adapter_config.json"
    told = json.loads(file.read_text())
    base = load_checkpoint(whole)
    plain = merge_adapter(base, adapter).decoder.model.layers[1].mlp.up_proj.weight
    pattern = {"text_model.layers.1.mlp.up_proj": 40}
    file.write_text(json.dumps({**told, "alpha_pattern": pattern}))
    scaled = merge_adapter(base, adapter).decoder.model.layers[1].mlp.up_proj.weight
    before = base.decoder.model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(scaled - before, 10 * (plain - before), atol=1e-4, rtol=1e-4)
    file.write_text(json.dumps({**told, "alpha_pattern": {"layers.7.mlp.up_proj": 40}}))
    with pytest.raises(
        CheckpointInvalid, match=r"pattern layers\.7\.mlp\.up_proj matches no layer"
    ):
        merge_adapter(base, adapter)


@pytest.mark.medium
def test_colours_are_read_where_transformers_5_writes_them(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "newer"))
    (folder / "preprocessor_config.json").unlink()
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_normalize": True}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": told}))
    found = load_checkpoint(folder)
    assert found.frame_input.mean == (0.1, 0.2, 0.3) and found.frame_input.std == (0.4, 0.5, 0.6)
    assert found.source.sha256 != load_checkpoint(whole).source.sha256


def test_a_tokenizer_s_last_length_cuts_no_text(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "cut"))
    file = folder / "tokenizer.json"
    cut_short = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation": cut_short}))
    text = "a question of many more words than four"
    ids = load_checkpoint(folder).tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == TOKENIZER.encode(text, add_special_tokens=False).ids and len(ids) > 4


@pytest.mark.parametrize("hidden", ["generation_config.json", "config.json"])
def test_a_null_end_token_does_not_hide_the_next_file_s(whole, tmp_path, hidden):
    folder = Path(shutil.copytree(whole, tmp_path / "null"))
    other = TOKENIZER.token_to_id("<image>")
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        told = json.loads(file.read_text())
        told["eos_token_id"] = None if name == hidden else other
        file.write_text(json.dumps(told))
    assert load_checkpoint(folder).layout.token_texts["stop_ids"][1:] == ("<image>",)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("resample", "kind"),
    [(3, "bicubic"), (4, "area"), (0, "lanczos"), ("no number", "lanczos"), (None, "lanczos")],
)
def test_pictures_are_made_smaller_as_the_folder_says(whole, tmp_path, resample, kind):
    folder = Path(shutil.copytree(whole, tmp_path / "filter"))
    assert load_checkpoint(folder).frame_input.filter == "lanczos", "SmolVLM's own"
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "resample": resample}))
    assert load_checkpoint(folder).frame_input.filter == kind
