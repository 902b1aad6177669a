"""Checkpoints of the Hub whose decoder stays in its files: the same weights, and the same proof."""

from __future__ import annotations

import pytest
import torch

from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.models import decoder_weights
from edgestream.models.families import load_checkpoint
from edgestream.models.large_model import decoder_names
from edgestream.models.weights import stored_tensors, weight_files
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import CheckpointInvalid

from .. import qwen2_5_vl_checkpoint, qwen3_vl_checkpoint
from . import test_smolvlm

FAMILIES = {
    "qwen2_5_vl": qwen2_5_vl_checkpoint.tiny_folder,
    "qwen3_vl": qwen3_vl_checkpoint.tiny_folder,
    "smolvlm": test_smolvlm.tiny_folder,
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    made, _ = FAMILIES[request.param](tmp_path_factory.mktemp(request.param) / "checkpoint")
    return made


@pytest.fixture
def all_are_too_large(monkeypatch):
    monkeypatch.setattr(decoder_weights, "LARGEST_IN_MEMORY", 1000)


@pytest.mark.medium
def test_what_stays_in_the_files_is_the_decoder_and_nothing_else(folder, monkeypatch):
    whole = load_checkpoint(folder)
    monkeypatch.setattr(decoder_weights, "LARGEST_IN_MEMORY", 1000)
    left = load_checkpoint(folder)
    assert whole.stored_decoder is None and left.stored_decoder is not None
    assert all(one.is_meta for one in left.decoder.parameters())
    assert left.decoder_weights().shape == whole.decoder_weights().shape
    for name in left.stored_decoder.shape.parameters():
        stored, loaded = (one.decoder_weights().tensor(name) for one in (left, whole))
        assert (stored == loaded).all(), name
    assert (left.token_rows([3, 1, 7]) == whole.token_rows([3, 1, 7])).all()
    for part in ("vision", "connector"):
        for one, other in zip(
            getattr(left, part).parameters(), getattr(whole, part).parameters(), strict=True
        ):
            assert torch.equal(one, other)
    assert (left.positions, left.layout, left.source) == (
        whole.positions, whole.layout, whole.source,
    )  # fmt: skip
    assert left.row_width == whole.row_width


def test_a_tensor_that_is_missing_is_named(folder, tmp_path, all_are_too_large):
    from safetensors.torch import load_file, save_file

    names = decoder_names(stored_tensors(weight_files(folder)))
    gone = names["model.layers.1.mlp.up_proj.weight"]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in folder.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if name != gone},
        damaged / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(Exception, match=r"layers\.1\.mlp\.up_proj") as raised:
        load_checkpoint(damaged)
    assert getattr(raised.value, "exit_code", None) == CheckpointInvalid.exit_code


@pytest.mark.slow
def test_its_export_passes_the_streamed_proof(folder, tmp_path, all_are_too_large):
    choice = ExportChoice(schemes=Schemes.named("fp32", "int8"), name="large")
    made = export_bundle(folder, tmp_path / "bundle", choice, lambda stage, part: None)
    assert made.report.passed
    assert {check.name for check in made.report.checks} >= {
        "stored lm_head.MatMul.weight", "mean cosine of logits", "greedy match",
    }  # fmt: skip
    open_bundle(tmp_path / "bundle")
