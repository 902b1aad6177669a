"""Adapters that a bundle keeps beside its decoder: read, written, and proven like the rest."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..calibration.decoder_calls import empty_cache, next_logits
from ..calibration.parity import Check, float_check, logit_checks
from ..models.adapters import PEFT_WEIGHTS
from ..models.family import Checkpoint
from ..models.lora_matrices import LoraMatrices, lora_matrices
from ..models.text_decoder import Decoder
from ..runtime.adapter_facts import is_adapter_name
from ..runtime.adapters import BASE
from ..runtime.engine import Arrays, Engine
from ..runtime.engines.ort import OrtBackend
from ..runtime.errors import CheckpointInvalid, UsageError
from ..runtime.values import Float32
from .adapter_inputs import (
    PackedAdapter,
    add_adapter_inputs,
    changed_matrices,
    packed_adapter,
    write_adapter,
)
from .graphs import Graph
from .proof_data import ProofData
from .prove_decoder import left_of_weights, torch_logits

MOST_PREFIXES = 16
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


def prove_adapters(
    checkpoint: Checkpoint,
    graph: Graph,
    adapters: Sequence[tuple[ReadAdapter, PackedAdapter]],
    data: ProofData,
    threads: int,
) -> list[Check]:
    """The engine gate with each adapter bound: PyTorch over what is left of the weights, unmerged.

    Cost: a copy of the decoder in memory.
    """
    reference: Decoder = checkpoint.decoder
    if not graph.is_float:
        reference = copy.deepcopy(checkpoint.decoder)
        left_of_weights(graph, checkpoint.decoder, reference)
    prefixes, checks = data.prefixes[:MOST_PREFIXES], []
    with OrtBackend("cpu", threads).open(graph.path) as engine:
        for read, packed in adapters:
            bound = _Bound(engine, packed.tensors)
            found = [next_logits(bound, one, empty_cache(bound, len(one)))[0] for one in prefixes]
            with added(reference, read.layers):
                expected = torch_logits(reference, prefixes)
            each = _compared(graph, expected, np.stack(found))
            checks += [replace(one, name=f"{one.name}{OF_ADAPTER}{read.name}") for one in each]
    return checks


def _compared(graph: Graph, expected: Float32, found: Float32) -> tuple[Check, ...]:
    if graph.is_float and graph.cache_type() == "float32":
        return (float_check("decoder", "logits", expected, found),)
    return logit_checks(expected, found)


@contextmanager
def added(decoder: nn.Module, layers: Mapping[str, LoraMatrices]) -> Iterator[None]:
    """A decoder whose linear layers add x A B, for as long as the block lasts."""
    with ExitStack() as stack:
        for name, one in layers.items():
            hook = decoder.get_submodule(name).register_forward_hook(_adding(one))
            stack.callback(hook.remove)
        yield


def _adding(one: LoraMatrices) -> Any:
    a, b = torch.from_numpy(one.a), torch.from_numpy(one.b)

    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        return output + inputs[0] @ a @ b

    return add


class _Bound:
    """An engine with an adapter in every call; see `Engine`."""

    def __init__(self, engine: Engine, tensors: Mapping[str, Float32]) -> None:
        self.provider, self.inputs, self.outputs = engine.provider, engine.inputs, engine.outputs
        self._engine, self._tensors = engine, tensors

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """See `Engine.run`."""
        return self._engine.run({**arrays, **self._tensors})

    def bind(self, inputs: Arrays, outputs: Arrays) -> Any:
        """See `Engine.bind`."""
        return self._engine.bind({**inputs, **self._tensors}, outputs)

    def __enter__(self) -> _Bound:
        return self

    def __exit__(self, *error: object) -> None:
        """Whoever opened the engine closes it."""


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / PEFT_WEIGHTS).read_bytes()).hexdigest()
