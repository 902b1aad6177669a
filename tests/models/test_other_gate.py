"""Another gate for a checkpoint: what the export notes of the state that the connector reads."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from edgestream.models.checkpoint import FORMAT, GATE_FACTS, GATE_WEIGHTS
from edgestream.models.families import load_checkpoint
from edgestream.models.gate_files import GateMeaning, gate_as_json
from edgestream.models.gate_heads import HeadShape
from edgestream.models.other_gate import with_gate
from edgestream.models.weights import stored_form
from edgestream.training.gate_build import ExtractorSize, gate_for

from ..reference_checkpoints import EVENTS, small_reference_checkpoint

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load_checkpoint(small_reference_checkpoint(tmp_path_factory.mktemp("base") / "base"))


def notes_with(checkpoint, folder, change=None):
    """The notes about a gate with a new head, as `train gate` begins with it; changed."""
    gate = gate_for(checkpoint, HeadShape(), ExtractorSize(), asked=True, seed=5)
    if change is not None:
        with torch.no_grad():
            dict(gate.named_parameters())[change].add_(0.01)
    folder.mkdir()
    save_file(stored_form({"": gate}, None), folder / GATE_WEIGHTS)
    meaning = GateMeaning(
        EVENTS, {"speak": 0.5, **dict.fromkeys(EVENTS, 0.5)}, checkpoint.gate_facts.attributes
    )
    told = {"format": FORMAT, **gate_as_json(gate.shape, meaning)}
    (folder / GATE_FACTS).write_text(json.dumps(told), "utf-8")
    return with_gate(checkpoint, folder).notes[len(checkpoint.notes) :]


def test_a_new_head_on_the_same_extractor_leaves_the_state_as_it_was(checkpoint, tmp_path):
    assert checkpoint.connector_reads_state
    assert notes_with(checkpoint, tmp_path / "mine") == ("the gate is that of mine",)


@pytest.mark.parametrize("change", ["read.motion.weight", "last_norm.bias"])
def test_another_extractor_is_noted(checkpoint, tmp_path, change):
    (note,) = notes_with(checkpoint, tmp_path / "mine", change)
    assert "was trained on that of another one" in note
