"""LoRA: merged it is base + scale * B A, and an adapter of another base is refused."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from edgestream.models.adapters import merge_adapter
from edgestream.models.families import load_checkpoint
from edgestream.models.family import Checkpoint
from edgestream.models.weights import check_finite
from edgestream.runtime.errors import (
    AdapterMismatch,
    BundleError,
    CheckpointInvalid,
    CheckpointMissing,
    FormatTooNew,
    RemoteCodeNeeded,
)

from ..checkpoints import random_live_checkpoint

TARGETS = r"(model\..*(q|k|v|o|gate|up|down)_proj|lm_head)"
RANK, ALPHA = 4, 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("base")
    return load_checkpoint(random_live_checkpoint(folder, is_tied=False))


def adapter(folder: Path, base: Checkpoint, targets: str | Sequence[str] = TARGETS) -> Path:
    """A random adapter as VideoLLM-online has one: seven projections, head, connector in full."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        decoder: Any = copy.deepcopy(base.decoder)
        decoder.connector = copy.deepcopy(base.connector)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets,
                            modules_to_save=["connector"], task_type="CAUSAL_LM")  # fmt: skip
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that is on its way out.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
            model = get_peft_model(decoder, config)
        for name, weight in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def claim(folder: Path, **changes: Any) -> Path:
    """Beside the adapter, what it says of its base."""
    ours = {"format": 1, "base_sha256": "0" * 64, "role": "narrate", **changes}
    (folder / "edgestream_adapter.json").write_text(json.dumps(ours))
    return folder


def outputs(checkpoint: Checkpoint) -> torch.Tensor:
    ids = torch.arange(12)[None]
    with torch.no_grad():
        return checkpoint.decoder(input_ids=ids).logits


@pytest.mark.medium
def test_merged_is_base_plus_scaled_product(checkpoint, tmp_path):
    folder = claim(adapter(tmp_path / "speaks", checkpoint), base_sha256=checkpoint.source.sha256)
    before = outputs(checkpoint)
    merged = merge_adapter(checkpoint, folder)
    stored = load_file(folder / "adapter_model.safetensors")
    expected = copy.deepcopy(checkpoint.decoder)
    changed = 0
    for name, layer in expected.named_modules():
        key = f"base_model.model.{name}.lora_"
        if f"{key}A.weight" in stored:
            product = stored[f"{key}B.weight"] @ stored[f"{key}A.weight"]
            layer.weight.data += ALPHA / RANK * product
            changed += 1
    assert changed == 3 * 7 + 1
    for name, weight in expected.named_parameters():
        torch.testing.assert_close(merged.decoder.get_parameter(name), weight)
    torch.testing.assert_close(outputs(merged), outputs(replace(checkpoint, decoder=expected)))
    assert (outputs(merged) - before).abs().max() > 0.1
    for name, weight in merged.connector.named_parameters():
        assert torch.equal(weight, stored[f"base_model.model.connector.{name}"])
    assert torch.equal(outputs(checkpoint), before), "the base was changed"
    assert list(merged.decoder.state_dict()) == list(checkpoint.decoder.state_dict())
    assert merged.source.adapter == "speaks" and "assumed" not in merged.source.extra
    assert len(merged.source.extra["adapter_sha256"]) == 64


@pytest.mark.medium
def test_the_longer_names_of_some_peft_versions_are_read(checkpoint, tmp_path):
    folder = adapter(tmp_path / "speaks", checkpoint)
    short = merge_adapter(checkpoint, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    longer = {
        name.replace(".connector.", ".connector.modules_to_save.default."): tensor
        for name, tensor in weights.items()
    }
    save_file(longer, folder / "adapter_model.safetensors")
    long = merge_adapter(checkpoint, folder)
    for name, weight in short.connector.named_parameters():
        assert torch.equal(weight, long.connector.get_parameter(name))


@pytest.mark.medium
def test_a_tied_table_stays_as_it_was_when_the_head_changes(tmp_path):
    tied = load_checkpoint(random_live_checkpoint(tmp_path / "tied"))
    merged = merge_adapter(tied, adapter(tmp_path / "speaks", tied, targets=r"lm_head"))
    assert torch.equal(merged.embeddings, tied.embeddings)
    assert not torch.equal(merged.decoder.lm_head.weight, tied.decoder.lm_head.weight)
    assert not merged.decoder.config.tie_word_embeddings
    kept = merge_adapter(tied, adapter(tmp_path / "other", tied, targets=["q_proj"]))
    assert kept.decoder.config.tie_word_embeddings
    assert kept.decoder.lm_head.weight.data_ptr() == kept.embeddings.data_ptr()


@pytest.mark.medium
def test_without_our_file_what_was_assumed_is_said(checkpoint, tmp_path):
    merged = merge_adapter(checkpoint, adapter(tmp_path / "speaks", checkpoint))
    assert "is assumed from its modules and their shapes" in merged.source.extra["assumed"]


def test_another_base_is_refused_by_its_hash(checkpoint, tmp_path):
    folder = claim(adapter(tmp_path / "speaks", checkpoint))
    with pytest.raises(AdapterMismatch, match="sha256 000000000000…") as caught:
        merge_adapter(checkpoint, folder)
    assert caught.value.exit_code == 3 and "random-tiny" in caught.value.message


def _rename(weights, old, new):
    return {name.replace(old, new): tensor for name, tensor in weights.items()}


DAMAGE = {
    "another depth": (
        lambda weights: _rename(weights, "layers.2.", "layers.9."),
        AdapterMismatch,
        "changes model.layers.9.mlp.down_proj.lora_A.weight, which this checkpoint does not have",
    ),
    "another width": (
        lambda weights: {name: part[:, :32].contiguous() for name, part in weights.items()
                         if "lora_A" in name},
        AdapterMismatch,
        "has the shape [4, 32], this checkpoint needs [4, 64]",
    ),
    "another vocabulary": (
        lambda weights: {name: part[:-1].contiguous() if "lm_head.lora_B" in name else part
                         for name, part in weights.items()},
        AdapterMismatch,
        "lm_head.lora_B.weight has the shape [479, 4], this checkpoint needs [480, 4]",
    ),
    "another connector": (
        lambda weights: {name: part[:-1].contiguous() if "connector.0.bias" in name else part
                         for name, part in weights.items()},
        AdapterMismatch,
        "connector.0.bias has the shape [63]",
    ),
    "half an adapter": (
        lambda weights: {name: part for name, part in weights.items() if "q_proj" not in name},
        CheckpointInvalid,
        "do not agree on base_model.model.model.layers.0.self_attn.q_proj.lora_A",
    ),
    "another kind of tensor": (
        lambda weights: _rename(weights, "lora_A", "lora_C"), AdapterMismatch, "does not have"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "message"), DAMAGE.values(), ids=DAMAGE)
def test_an_adapter_that_does_not_fit_is_refused(checkpoint, tmp_path, change, kind, message):
    folder = adapter(tmp_path / "speaks", checkpoint)
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(kind) as caught:
        merge_adapter(checkpoint, folder)
    assert message in caught.value.message


def _edit(name: str, **changes: Any):
    def edit(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def _pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _truncate(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


FAULTS = {
    "pickled": (_pickle, CheckpointMissing, "adapter_model.safetensors"),
    "truncated": (_truncate, CheckpointInvalid, "truncated"),
    "no LoRA": (_edit("adapter_config.json", peft_type="IA3"), CheckpointInvalid, "'IA3'"),
    "code": (_edit("adapter_config.json", auto_mapping={"x": "y"}), RemoteCodeNeeded, "auto_map"),
    "DoRA": (_edit("adapter_config.json", use_dora=True), CheckpointInvalid, "is DoRA"),
    "ours is newer": (lambda folder: claim(folder, format=2), FormatTooNew, "format 2"),
    "ours lacks the hash": (
        lambda folder: claim(folder, base_sha256=None), CheckpointInvalid, "base_sha256",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "kind", "message"), FAULTS.values(), ids=FAULTS)
def test_a_damaged_adapter_is_one_sentence(checkpoint, tmp_path, damage, kind, message):
    folder = adapter(tmp_path / "speaks", checkpoint)
    damage(folder)
    with pytest.raises(BundleError) as caught:
        merge_adapter(checkpoint, folder)
    assert type(caught.value) is kind and message in caught.value.message
    assert "\n" not in caught.value.message


def test_an_adapter_with_nan_is_refused_by_every_road(tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    save_file({"a": torch.ones(2), "b": torch.tensor([0.0, float("nan")])}, str(file))
    with pytest.raises(CheckpointInvalid, match="the adapter x has NaN or infinity in b"):
        check_finite(file, "the adapter x")
