"""A merged checkpoint on disk: the family's own layout, and what merging in memory gives."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgestream.edge.cli import main
from edgestream.models import decoder_weights
from edgestream.models.adapters import merge_adapter
from edgestream.models.families import load_checkpoint
from edgestream.models.merged_checkpoint import write_merged
from edgestream.runtime.errors import AdapterMismatch, CheckpointInvalid

from .. import qwen2_5_vl_checkpoint
from ..checkpoints import random_live_checkpoint
from ..reference_checkpoints import small_reference_checkpoint
from . import test_smolvlm
from .test_adapters import adapter

ALL = r"(model\..*(q|k|v|o|gate|up|down)_proj|lm_head)"
WITHOUT_HEAD = r"model\..*(q|k|v|o|gate|up|down)_proj"


def parameters(checkpoint):
    """Every parameter of what an adapter may change."""
    named = {**dict(checkpoint.decoder.named_parameters())}
    return named | {f"connector.{key}": one for key, one in checkpoint.connector.named_parameters()}


def names_in(folder):
    found = {}
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            found |= {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    return found


@pytest.mark.medium
@pytest.mark.parametrize(
    ("made", "targets", "bound"),
    [
        (dict(is_tied=False, has_gate=True), ALL, 0.0),
        (dict(is_tied=True, max_shard_bytes=100_000), ALL, 0.0),
        (dict(decoder="qwen2", is_tied=True), WITHOUT_HEAD, 0.0),
    ],
)
def test_what_was_written_loads_as_what_was_merged(tmp_path, made, targets, bound):
    base = random_live_checkpoint(tmp_path / "base", **made)
    checkpoint = load_checkpoint(base)
    peft = adapter(tmp_path / "speaks", checkpoint, targets=targets)
    merged = merge_adapter(checkpoint, peft)
    told = write_merged(base, peft, tmp_path / "merged")
    again = load_checkpoint(tmp_path / "merged")
    expected = parameters(merged)
    assert parameters(again).keys() == expected.keys()
    for name, value in parameters(again).items():
        assert (value - expected[name]).abs().max() <= bound, name
    assert again.decoder.config.tie_word_embeddings == (made["is_tied"] and targets != ALL)
    assert (again.gate is None) == (checkpoint.gate is None) and again.layout == checkpoint.layout
    assert again.source.sha256 != checkpoint.source.sha256
    before, after = names_in(base), names_in(tmp_path / "merged")
    assert before.items() <= after.items()
    assert after.keys() - before.keys() <= {"lm_head.weight"} and told.changed
    assert "is assumed" in told.assumed


def test_what_describes_the_model_is_copied_and_nothing_else(tmp_path):
    base = random_live_checkpoint(tmp_path / "base", has_gate=True)
    peft = adapter(tmp_path / "speaks", load_checkpoint(base), targets=["q_proj"])
    kept = {"LICENSE", "NOTICE", "Licence-of-the-tower", "vocab.txt", "chat_template.jinja"}
    left = {"Makefile", "core", "train", "consolidated.safetensors", "optimizer.safetensors",
            "pytorch_model.bin", "modeling.py", "adapter_config.json", ".env"}  # fmt: skip
    for name in kept | left:
        (base / name).write_text("{}")
    own = {file.name for file in base.iterdir()} - kept - left
    write_merged(base, peft, tmp_path / "merged")
    written = {file.name for file in (tmp_path / "merged").iterdir()}
    assert written == own | kept | {"README.md"} and "gate.safetensors" in own


@pytest.mark.medium
def test_weights_stay_of_the_type_that_they_were(tmp_path):
    base = small_reference_checkpoint(tmp_path / "base")
    checkpoint = load_checkpoint(base)
    peft = adapter(tmp_path / "speaks", checkpoint, targets=["q_proj", "down_proj"])
    write_merged(base, peft, tmp_path / "merged")
    expected = parameters(merge_adapter(checkpoint, peft))
    assert names_in(base) == names_in(tmp_path / "merged")
    kinds = set(names_in(base).values())
    bound = 1e-3 if "F16" in kinds else 0.0
    for name, value in parameters(load_checkpoint(tmp_path / "merged")).items():
        torch.testing.assert_close(value, expected[name], rtol=bound, atol=bound / 10)


def hub_adapter(folder: Path, model, targets, task_type="CAUSAL_LM"):
    """(adapter of a whole model of the Hub, as PEFT saves it; what PEFT itself merges)."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(2)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Model (has|with) `tie_word_embeddings=True`")
        config = LoraConfig(r=4, lora_alpha=8, task_type=task_type, target_modules=targets)
        tuned = get_peft_model(copy.deepcopy(model), config)
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.2)
        tuned.save_pretrained(folder, save_embedding_layers=False)
        return folder, tuned.merge_and_unload().eval()


INSIDE = {"smolvlm": (test_smolvlm, r".*text_model.*(q|v|down)_proj"),
          "qwen2_5_vl": (qwen2_5_vl_checkpoint, r".*language_model.*(q|v|down)_proj")}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("family", "is_tied"), [("smolvlm", False), ("qwen2_5_vl", True)])
def test_transformers_loads_what_was_merged_of_the_hub(tmp_path, family, is_tied, capsys):
    made, targets = INSIDE[family]
    base, model = made.tiny_folder(tmp_path / "base", is_tied=is_tied)
    peft, expected = hub_adapter(tmp_path / "tuned", model, targets)
    words = ["merge", str(base), "--adapter", str(peft), "--out", str(tmp_path / "merged")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    layers = model.config.get_text_config().num_hidden_layers
    assert len(told["changed"]) == 3 * layers and names_in(base) == names_in(tmp_path / "merged")
    loaded = type(model).from_pretrained(tmp_path / "merged")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        got, wanted, before = (one(input_ids=ids).logits for one in (loaded, expected, model))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert (got - before).abs().max() > 0.1
    again = load_checkpoint(tmp_path / "merged")
    with torch.no_grad():
        ours = again.decoder(inputs_embeds=again.decoder.get_input_embeddings()(ids)).logits
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-4)
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "## Merged" in card and card.startswith("---\nlicense: apache-2.0")
    assert main(words) == 8 and main([*words, "--force"]) == 0


@pytest.mark.medium
@pytest.mark.parametrize(("family", "is_tied"), [("smolvlm", True), ("qwen2_5_vl", False)])
def test_matrix_by_matrix_gives_the_same_numbers(tmp_path, monkeypatch, family, is_tied):
    """As for a decoder that is too large for the memory."""
    made, targets = INSIDE[family]
    base, model = made.tiny_folder(tmp_path / "base", is_tied=is_tied)
    peft, _ = hub_adapter(tmp_path / "tuned", model, rf"({targets}|lm_head)")
    expected = parameters(merge_adapter(load_checkpoint(base), peft))
    monkeypatch.setattr(decoder_weights, "LARGEST_IN_MEMORY", 1000)
    assert load_checkpoint(base).stored_decoder is not None
    told = write_merged(base, peft, tmp_path / "merged")
    monkeypatch.undo()
    again = load_checkpoint(tmp_path / "merged")
    assert "lm_head.weight" in told.changed and not again.decoder.config.tie_word_embeddings
    for name, value in parameters(again).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_an_adapter_may_change_the_tower_too(tmp_path):
    """As of a notebook that names layers alone, and no task."""
    base, model = test_smolvlm.tiny_folder(tmp_path / "base")
    peft, expected = hub_adapter(tmp_path / "tuned", model, ["q_proj", "v_proj"], task_type=None)
    assert json.loads((peft / "adapter_config.json").read_text())["auto_mapping"]
    told = write_merged(base, peft, tmp_path / "merged")
    assert any("vision_model" in name for name in told.changed) and len(told.changed) == 10
    loaded = type(model).from_pretrained(tmp_path / "merged").state_dict()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=1e-6, atol=1e-6)
        is_changed = name in told.changed
        assert torch.equal(loaded[name], model.state_dict()[name]) != is_changed, name


@pytest.mark.medium
def test_an_adapter_of_another_model_of_the_hub_is_refused(tmp_path):
    base, model = test_smolvlm.tiny_folder(tmp_path / "base")
    peft, _ = hub_adapter(tmp_path / "tuned", model, ["q_proj"])
    weights = load_file(peft / "adapter_model.safetensors")
    for change, said in (
        (lambda name, part: (name.replace("layers.1.", "layers.9."), part), "does not have"),
        (lambda name, part: (name, part[:, :3].contiguous()), "does not fit the weight"),
        (lambda name, part: (name.replace("lora_A.weight", "bias"), part), "brings .*bias"),
    ):
        changed = dict(change(name, part) for name, part in weights.items())
        save_file(changed, peft / "adapter_model.safetensors")
        with pytest.raises((AdapterMismatch, CheckpointInvalid), match=said):
            write_merged(base, peft, tmp_path / "merged")
        assert not (tmp_path / "merged").exists()
    kept = {name: part for name, part in weights.items() if ".layers.1." not in name}
    save_file(kept, peft / "adapter_model.safetensors")
    with pytest.raises(CheckpointInvalid, match=r"do not agree on model\.layers\.1"):
        write_merged(base, peft, tmp_path / "merged")


def test_an_adapter_that_changes_nothing_is_refused(tmp_path):
    base = random_live_checkpoint(tmp_path / "base")
    checkpoint = load_checkpoint(base)
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        get_peft_model(copy.deepcopy(checkpoint.decoder), config).save_pretrained(tmp_path / "new")
    with pytest.raises(AdapterMismatch, match="changes nothing"):
        write_merged(base, tmp_path / "new", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
