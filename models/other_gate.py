"""A gate out of a folder of its own, in place of a checkpoint's or beside one that has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch

from ..runtime.block_matching import CELLS
from ..runtime.errors import CheckpointInvalid, CheckpointMissing
from ..runtime.motion_input import MAPS
from .checkpoint import GATE_FACTS, GATE_WEIGHTS, files_sha256
from .cognition_gate import CognitionGate
from .family import Checkpoint
from .gate_files import load_gate
from .perception_gate import PerceptionGate
from .weights import stored_tensors

_TRAINED = "take a gate that was trained for this checkpoint"


def with_gate(checkpoint: Checkpoint, folder: Path | None) -> Checkpoint:
    """The checkpoint with the gate of a folder, or with its own, if that fits it.

    Args:
        checkpoint: any; it stays as it is.
        folder: gate.safetensors and gate.json, as a training of the gate writes them; None for the
            checkpoint's own gate, where it has one.

    Returns:
        Of a folder another checkpoint, whose `source.extra` has the folder's name as `gate`, and
        `gate_sha256`.

    Raises:
        CheckpointMissing: one of the two files is not there.
        CheckpointInvalid: one is damaged, or the gate does not fit; names the file, what it has and
            what the checkpoint needs.

    Cost: vision once, over an empty picture, where the gate reads what it says.
    """
    if folder is None:
        return _checked_query(checkpoint, GATE_FACTS)
    dim = _dim_of(checkpoint)
    _check_weights(folder, dim, checkpoint)
    found = load_gate(folder, dim, checkpoint.tokens_per_frame)
    if found is None:
        raise CheckpointMissing(
            f"there is no gate in {folder}: got neither {GATE_FACTS} nor {GATE_WEIGHTS}",
            hint="give the folder that holds both",
        )
    gate, facts = found
    place = folder / GATE_FACTS
    _check_motion(gate, place)
    _check_state(gate, checkpoint, place)
    files = (folder / GATE_FACTS, folder / GATE_WEIGHTS)
    told = {"gate": folder.resolve().name, "gate_sha256": files_sha256(files)}
    source = checkpoint.source
    return _checked_query(
        replace(
            checkpoint,
            gate=gate,
            gate_facts=facts,
            source=replace(source, extra=MappingProxyType({**source.extra, **told})),
            notes=(*checkpoint.notes, *_notes(checkpoint, gate, folder)),
        ),
        str(place),
    )


def _checked_query(checkpoint: Checkpoint, place: str) -> Checkpoint:
    """The checkpoint, if its gate reads a query as wide as an embedding, or none."""
    wide = 0 if checkpoint.gate is None else checkpoint.gate.shape.query_dim
    hidden = checkpoint.embeddings.shape[1]
    if wide not in (0, hidden):
        raise CheckpointInvalid(
            f"{place}: architecture.query_dim is {wide}, expected {hidden}, the numbers of an "
            f"embedding of {checkpoint.source.checkpoint}",
            hint=_TRAINED,
        )
    return checkpoint


def _dim_of(checkpoint: Checkpoint) -> int:
    """Numbers of a token and of the summary."""
    frame = checkpoint.frame_input
    pixels = torch.zeros(1, frame.channels or 3, *frame.size_px)
    with torch.inference_mode():
        _, summary = checkpoint.vision(pixels)
    return int(summary.shape[-1])


def _check_weights(folder: Path, dim: int, checkpoint: Checkpoint) -> None:
    """Refuse weights that read other tokens or another summary than the checkpoint has."""
    file = folder / GATE_WEIGHTS
    if not file.is_file():
        return  # `load_gate` says so
    shapes = {name: one.shape for name, one in stored_tensors((file,)).items()}
    _check_count(file, "tokens", "numbers", shapes.get("norm.weight"), dim, checkpoint)
    _check_count(file, "a summary", "numbers", shapes.get("read.summary.weight"), dim, checkpoint)
    # Each token as it is, or narrowed first.
    each, read = shapes.get("narrow.weight", (dim,))[0], shapes.get("read.tokens.weight")
    count = None if read is None else (read[-1] // each,)
    _check_count(file, "frames", "tokens", count, checkpoint.tokens_per_frame, checkpoint)


def _check_count(
    file: Path,
    what: str,
    unit: str,
    shape: tuple[int, ...] | None,
    expected: int,
    checkpoint: Checkpoint,
) -> None:
    """Refuse a tensor whose last size is another one; None for a gate that has no such tensor."""
    if shape is not None and shape[-1] != expected:
        raise CheckpointInvalid(
            f"{file}: the gate reads {what} of {shape[-1]} {unit}, expected {expected}, as "
            f"{checkpoint.source.checkpoint} has them",
            hint=_TRAINED,
        )


def _check_motion(gate: CognitionGate, place: Path) -> None:
    """Refuse motion maps that stage 0 does not measure."""
    got, expected = (len(gate.shape.map_std), gate.shape.cells), (len(MAPS), CELLS)
    if "motion" in gate.shape.reads and got != expected:
        raise CheckpointInvalid(
            f"{place}: the gate reads {got[0]} motion maps of {got[1]} cells a side, expected "
            f"{expected[0]} of {expected[1]}",
            hint=_TRAINED,
        )


def _check_state(gate: CognitionGate, checkpoint: Checkpoint, place: Path) -> None:
    """Refuse a gate that cannot stand where the connector reads what the old one remembers."""
    if isinstance(checkpoint.gate, PerceptionGate):
        raise CheckpointInvalid(
            f"{place}: got another gate for {checkpoint.source.checkpoint}, whose own one makes "
            "what the language model reads of a frame",
            hint="export it without --gate",
        )
    width = None if checkpoint.gate is None else checkpoint.gate.shape.width
    if checkpoint.connector_reads_state and gate.shape.width != width:
        raise CheckpointInvalid(
            f"{place}: architecture.width is {gate.shape.width}, expected {width}, which the "
            f"connector of {checkpoint.source.checkpoint} reads",
            hint=_TRAINED,
        )


def _notes(checkpoint: Checkpoint, gate: CognitionGate, folder: Path) -> tuple[str, ...]:
    name, own = folder.resolve().name, checkpoint.gate
    if not checkpoint.connector_reads_state or _has_same_state(gate, own):
        return (f"the gate is that of {name}",)
    return (f"the gate is that of {name}; the connector reads the state of it, "
            "and was trained on that of another one",)  # fmt: skip


def _has_same_state(gate: CognitionGate, own: object) -> bool:
    """Whether the two remember the same of the same frames, whatever each tells of it."""
    if not isinstance(own, CognitionGate) or gate.shape.frame_reads != own.shape.frame_reads:
        return False
    one, other = _extractor(gate), _extractor(own)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _extractor(gate: CognitionGate) -> dict[str, torch.Tensor]:
    """What the state's summary is made with: all but the heads that tell something of it."""
    tensors = {**dict(gate.named_parameters()), "map_std": gate.map_std}
    told = ("head.", "heads.", "speak.", "since.")
    return {name: part for name, part in tensors.items() if not name.startswith(told)}
