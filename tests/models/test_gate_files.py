"""gate.json with gate.safetensors: written and read, old ones and new ones, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import save_file

from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.models.gate_files import GateMeaning, gate_as_json, load_gate
from edgestream.runtime.errors import CheckpointInvalid
from edgestream.runtime.json_fields import json_from_value
from edgestream.runtime.manifest_values import GateFacts

from .test_gate_heads import EACH, shape_of

MEANING = GateMeaning(("cut", "dark", "pan"), {"speak": 0.3, "cut": 0.5}, {"side": ("l", "r")})
ALONE = GateMeaning((), {"speak": 0.3}, calibrated_on=None)
SCHEMA = Path(__file__).parents[2] / "runtime/schemas/checkpoint_gate.json"


def written(folder: Path, gate: CognitionGate, meaning: GateMeaning) -> dict:
    weights = {name: one.contiguous() for name, one in gate.state_dict().items()}
    save_file(weights, folder / "gate.safetensors")
    told = {"format": 1, **gate_as_json(gate.shape, meaning)}
    (folder / "gate.json").write_text(json.dumps(told))
    return told


def facts_of(folder: Path) -> GateFacts:
    return load_gate(folder, dim=48, tokens_per_frame=5)[1]


@EACH
@pytest.mark.parametrize(("events", "spoken"), [(0, False), (3, False), (3, True)])
def test_every_head_comes_back_as_it_was(tmp_path, name, events, spoken):
    gate = CognitionGate(shape_of(name, events=events, token_width=4, spoken=spoken))
    told = written(tmp_path, gate, MEANING if events else ALONE)
    assert facts_of(tmp_path).reads_spoken == (True if spoken else None)
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    found, facts = load_gate(tmp_path, dim=48, tokens_per_frame=5)
    assert found.shape == gate.shape and len(facts.events) == events
    assert facts.thresholds["speak"] == 0.3
    assert all(torch.equal(one, gate.state_dict()[key]) for key, one in found.state_dict().items())


def test_a_gate_of_the_first_kind_is_told_as_it_always_was(tmp_path):
    """Files that were written before there were heads and queries load, and are not changed."""
    shape = GateShape(dim=48, tokens=5, events=3, attributes={"side": 2}, width=32)
    told = written(tmp_path, CognitionGate(shape), MEANING)
    assert told["architecture"].keys() == {"reads", "width", "layers", "cells", "map_std"}
    found, _ = load_gate(tmp_path, dim=48, tokens_per_frame=5)
    assert found.shape == shape and "head.weight" in found.state_dict()
    assert not any(name.startswith(("speak.", "since.")) for name in found.state_dict())
    manifest = json_from_value(facts_of(tmp_path))
    assert not {"query_dim", "reads_spoken"} & manifest.keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": {"kind": "quadratic"}}, "head.kind"),
        ({"head": {"kind": "cross-attention"}}, "head.over"),
        ({"head": {"kind": "mlp", "narrow": 4}}, "narrows a query to 4"),
        ({"head": {"kind": "llm", "layers": 2}}, "head.decoder"),
        ({"head": {"kind": "llm", "layers": 1, "decoder": {"model_type": "gpt2"}}}, "'gpt2'"),
        ({"query_dim": 24}, "query_dim 24"),
        ({"reads": ["summary", "query"]}, "query_dim 0"),
        ({"token_width": 0}, "token_width"),
        ({"reads": ["spoken"]}, "reads"),
        ({"reads": ["spoken", "summary"]}, "in this order"),
    ],
)
def test_what_makes_no_gate_is_refused(tmp_path, changes, words):
    shape = GateShape(dim=48, tokens=5, events=3, attributes={"side": 2}, width=32)
    told = written(tmp_path, CognitionGate(shape), MEANING)
    told["architecture"] |= changes
    (tmp_path / "gate.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointInvalid, match=words):
        load_gate(tmp_path, dim=48, tokens_per_frame=5)
