"""Gates in folders of their own, with random weights, for tests of what takes one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from edgestream.models.checkpoint import FORMAT, GATE_FACTS, GATE_WEIGHTS
from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.models.gate_files import GateMeaning, gate_as_json
from edgestream.models.weights import stored_form

EVENTS = ("cut", "dark")
SMALL = GateShape(dim=64, tokens=10, events=2, width=32, query_dim=64,
                  reads=("tokens", "summary", "motion", "query"))  # fmt: skip
"""Beside `reference_checkpoints.SMALL`."""


def random_gate(shape: GateShape = SMALL, seed: int = 3) -> CognitionGate:
    """A gate that nobody trained; the same arguments, the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gate = CognitionGate(shape).eval().requires_grad_(False)
        if gate.since is not None:  # it begins with zeros, which hear nothing
            gate.since.told.weight.normal_()
        return gate


def random_gate_folder(folder: Path, shape: GateShape = SMALL, seed: int = 3) -> Path:
    """A folder with gate.safetensors and gate.json alone, of `random_gate`."""
    folder.mkdir(parents=True, exist_ok=True)
    gate, events = random_gate(shape, seed), EVENTS[: shape.events]
    told = gate_as_json(shape, GateMeaning(events, {"speak": 0.5, **dict.fromkeys(events, 0.5)}))
    save_file(stored_form({"": gate}, None), folder / GATE_WEIGHTS)
    (folder / GATE_FACTS).write_text(json.dumps({"format": FORMAT, **told}) + "\n", "utf-8")
    return folder
