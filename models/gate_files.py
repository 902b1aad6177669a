"""The gate of a checkpoint folder: gate.safetensors with gate.json (docs/FORMATS.md, section 2)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..runtime.errors import CheckpointInvalid, CheckpointMissing
from ..runtime.json_fields import Fields
from ..runtime.manifest_values import GateFacts, TensorSpec
from .checkpoint import GATE_FACTS, GATE_WEIGHTS, read_json
from .event_gate import EventGate, GateShape
from .weights import fill_, stored_tensors

_SIZES = ("width", "layers", "state", "taps")


def load_gate(folder: Path, dim: int) -> tuple[EventGate, GateFacts] | None:
    """The gate and what it was trained to tell; None where the checkpoint has none.

    Args:
        folder: of the checkpoint.
        dim: of the summary that the gate reads.

    Raises:
        CheckpointMissing: one of its two files is not there.
        CheckpointInvalid: one of them is damaged, or they do not fit each other.
    """
    weights, facts = folder / GATE_WEIGHTS, folder / GATE_FACTS
    if not weights.is_file() and not facts.is_file():
        return None
    fields = Fields(read_json(facts), GATE_FACTS, CheckpointInvalid)
    events = fields.texts("events")
    sizes = fields.object("architecture", lambda below: {key: below.whole(key) for key in _SIZES})
    thresholds = fields.mapping("thresholds")
    if not events or not set(thresholds) <= {*events, "speak"}:
        raise CheckpointInvalid(
            f"{GATE_FACTS} has thresholds for {sorted(thresholds)}, expected them for its events "
            f"{list(events)}"
        )
    gate = EventGate(GateShape(dim, len(events), **sizes))
    if not weights.is_file():
        raise CheckpointMissing(
            f"there is no file {weights}, but {GATE_FACTS} describes a gate",
            hint="copy it too, or remove gate.json to go without a gate",
        )
    fill_({"": gate}, stored_tensors((weights,)))
    names = zip(("conv", "ssm"), gate.first_state(), strict=True)
    return gate.eval().requires_grad_(False), GateFacts(
        kind="learned",
        events=events,
        thresholds=thresholds,
        state=tuple(TensorSpec(name, "float32", tuple(part.shape)) for name, part in names),
    )


def gate_as_json(shape: GateShape, events: tuple[str, ...], thresholds: Any) -> dict[str, Any]:
    """gate.json of a gate that was not calibrated, without its `format`."""
    sizes = dataclasses.asdict(shape)
    return {
        "events": list(events),
        "thresholds": dict(thresholds),
        "calibrated_on": None,
        "architecture": {key: sizes[key] for key in _SIZES},
    }
