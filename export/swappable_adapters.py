"""Adapters that a bundle keeps beside its decoder: read, checked and written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.adapters import PEFT_WEIGHTS
from ..models.family import Checkpoint
from ..models.lora_matrices import LoraMatrices, lora_matrices
from ..runtime.adapter_facts import is_adapter_name
from ..runtime.adapters import BASE
from ..runtime.errors import CheckpointInvalid, UsageError
from .adapter_inputs import (
    PackedAdapter,
    add_adapter_inputs,
    changed_matrices,
    packed_adapter,
    write_adapter,
)
from .graphs import Graph

_WORDS = "for example --adapters calm=runs/calm --adapters brief=runs/brief"
OF_ADAPTER = ", adapter "
"""In the name of a check, before the name of the adapter that it was made with."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadAdapter:
    """One adapter as PEFT keeps it.

    Attributes:
        name: what it will be chosen by.
        sha256: of its file.
        layers: linear layer of the decoder → its matrices.
    """

    name: str
    sha256: str
    layers: Mapping[str, LoraMatrices]


def adapters_from_words(words: Sequence[str]) -> dict[str, Path]:
    """Name → folder of `NAME=PEFT_DIR` words.

    Raises:
        UsageError: one has another form, or a name stands twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if name.lower() == BASE:
            raise UsageError(
                f"got --adapters {word!r}, expected another name: {BASE} is the model without an "
                "adapter, as in `run --adapter base`",
                hint=_WORDS,
            )
        if not equals or not folder or not is_adapter_name(name):
            raise UsageError(
                f"got --adapters {word!r}, expected NAME=PEFT_DIR with a name of letters, digits, "
                "dots and hyphens",
                hint=_WORDS,
            )
        if name.lower() in {one.lower() for one in found}:
            raise UsageError(
                f"got --adapters {word!r}, expected each name once, in capitals or not", hint=_WORDS
            )
        if Path(folder).resolve() in {one.resolve() for one in found.values()}:
            raise UsageError(
                f"got --adapters {word!r}, a folder that another name has, expected each once",
                hint=_WORDS,
            )
        found[name] = Path(folder)
    return found


def read_adapters(checkpoint: Checkpoint, folders: Mapping[str, Path]) -> tuple[ReadAdapter, ...]:
    """The adapters in these folders, checked against the checkpoint.

    Raises:
        as `lora_matrices`; also CheckpointInvalid for a decoder too large to prove them with.
    """
    if folders and checkpoint.stored_decoder is not None:
        raise CheckpointInvalid(
            "adapters can be kept beside a decoder that fits into memory for their proof; "
            f"this one has {checkpoint.stored_decoder.shape.n_parameters() / 1e9:.1f} thousand "
            "million parameters",
            hint="merge one with `edgestream merge`, and export what that writes",
        )
    return tuple(
        ReadAdapter(name, layers=lora_matrices(checkpoint, folder), sha256=_sha256(folder))
        for name, folder in folders.items()
    )


def keep_adapters(
    checkpoint: Checkpoint, graphs: Sequence[Graph], adapters: Sequence[ReadAdapter], bundle: Path
) -> tuple[PackedAdapter, ...]:
    """Write the adapters' files, and give each decoder's graph the inputs that they fill."""
    if not adapters:
        return ()
    weights = checkpoint.decoder_weights()
    matrices = changed_matrices(weights, [one.layers for one in adapters])
    for graph in graphs:
        if graph.role == "decoder":
            add_adapter_inputs(graph.path, matrices, weights)
    packed = tuple(
        packed_adapter(one.name, one.sha256, one.layers, matrices, weights) for one in adapters
    )
    for one in packed:
        write_adapter(one, bundle)
    return packed


def adapter_facts(packed: Sequence[PackedAdapter], base_sha256: str) -> list[dict[str, Any]]:
    """`adapters` of the manifest."""
    return [
        {"name": one.name, "file": one.file, "tensors": len(one.tensors), "rank": one.rank,
         "base_sha256": base_sha256, "sha256": one.sha256}
        for one in packed
    ]  # fmt: skip


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / PEFT_WEIGHTS).read_bytes()).hexdigest()
