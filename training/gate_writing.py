"""A trained gate as files: gate.safetensors and gate.json, as `models.gate_files` reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..models.checkpoint import FORMAT, GATE_FACTS, GATE_WEIGHTS
from ..models.cognition_gate import SPEAK, CognitionGate
from ..models.family import Checkpoint
from ..models.gate_files import GateMeaning, gate_as_json
from ..models.weights import stored_form
from .dialogues import Dialogue
from .lora_training import digest_of

OPEN_ABOVE = 0.5
"""Of a gate of which nothing was held out."""


def meaning_of(
    checkpoint: Checkpoint,
    gate: CognitionGate,
    above: float | None,
    held: Sequence[Dialogue],
    frames: int,
) -> GateMeaning:
    """What the scores of a gate mean: `speak` anew, events and attributes as the base tells them.

    Args:
        checkpoint: the base.
        gate: whose scores they are.
        above: the threshold of `speak`; None where nothing was held out.
        held: what it was chosen on.
        frames: of these.
    """
    base = checkpoint.gate_facts if gate.shape.events else None
    calibrated = None
    if above is not None:
        calibrated = {"source": "dialogues", "sha256": digest_of(held), "frames": frames}
    return GateMeaning(
        events=base.events if base else (),
        thresholds={
            **(base.thresholds if base else {}),
            SPEAK: OPEN_ABOVE if above is None else above,
        },
        attributes=(base.attributes or {}) if base else {},
        attributes_of=(base.attributes_of or {}) if base else {},
        close_ratio=base.close_ratio if base else None,
        calibrated_on=calibrated,
    )


def save_gate(
    folder: Path, gate: CognitionGate, meaning: GateMeaning, checkpoint: Checkpoint
) -> None:
    """Write both files of a gate into a folder, which is made.

    What a base's own gate says of events is put back exactly: a row beside that of `speak` decays a
    little while that one is trained.
    """
    folder.mkdir(exist_ok=True)
    own = checkpoint.gate
    if isinstance(own, CognitionGate) and gate.speak is None and gate.head and gate.shape.events:
        assert own.head is not None
        with torch.no_grad():
            for name, one in gate.head.named_parameters():
                count = gate.shape.events
                one[-count:].copy_(own.head.get_parameter(name)[-count:])
    save_file(stored_form({"": gate}), folder / GATE_WEIGHTS)
    told = {"format": FORMAT, **gate_as_json(gate.shape, meaning)}
    (folder / GATE_FACTS).write_text(json.dumps(told, indent=1) + "\n", "utf-8")
