"""The proof of adapters beside one decoder: logits against PyTorch, and a golden call for each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..calibration.decoder_calls import Stretch, decoder_inputs, empty_cache, next_logits
from ..calibration.parity import Check, cosines, float_check, logit_checks
from ..models.family import Checkpoint
from ..models.lora_matrices import LoraMatrices
from ..models.text_decoder import Decoder
from ..runtime.engine import NOTHING, Arrays, Engine
from ..runtime.engines.ort import OrtBackend
from ..runtime.golden import GoldenCall, Tolerance
from ..runtime.values import Float32
from .adapter_inputs import PackedAdapter
from .graphs import Graph
from .proof_data import ProofData
from .prove import Proof
from .prove_decoder import left_of_weights, torch_logits
from .swappable_adapters import OF_ADAPTER, ReadAdapter

MOST_PREFIXES = 16
FARTHEST, NEAREST = 1e-2, 1e-3
"""How far (1 - cosine) a golden call of an adapter may be off: what one without may be, and what
the rounding of another processor may take."""


def prove_adapters(
    proof: Proof,
    checkpoint: Checkpoint,
    graph: Graph,
    adapters: Sequence[tuple[ReadAdapter, PackedAdapter]],
    data: ProofData,
    threads: int,
) -> None:
    """Put the engine gate with each adapter bound into a proof, and a golden call of each.

    The other side is PyTorch over what is left of the weights, the adapter unmerged. The golden
    call is the prefix at which the adapter's logits are farthest from those of any other adapter
    and of the base, and its bound is half of that way: a file that stands in another one's place
    fails it.

    Cost: a copy of the decoder in memory.
    """
    reference: Decoder = checkpoint.decoder
    if not graph.is_float:
        reference = copy.deepcopy(checkpoint.decoder)
        left_of_weights(graph, checkpoint.decoder, reference)
    prefixes = data.prefixes[:MOST_PREFIXES]
    with OrtBackend("cpu", threads).open(graph.path) as engine:
        bound = [_Bound(engine, packed.tensors) for _, packed in adapters]
        found = [_logits(one, prefixes) for one in (*bound, _Bound(engine, NOTHING))]
        for number, (read, _) in enumerate(adapters):
            with added(reference, read.layers):
                expected = torch_logits(reference, prefixes)
            for check in _compared(graph, expected, found[number]):
                proof.checks.append(replace(check, name=f"{check.name}{OF_ADAPTER}{read.name}"))
            others = found[:number] + found[number + 1 :]
            at, apart = farthest(found[number], others)
            proof.checks.append(_apart_check(read.name, apart))
            proof.golden.append(_call(graph, read.name, bound[number], prefixes[at], apart))


def farthest(own: Float32, others: Sequence[Float32]) -> tuple[int, float]:
    """(row, 1 - cosine) at which logits (rows, vocabulary) are farthest from the nearest other."""
    nearest = np.max([cosines(own, one) for one in others], axis=0)
    at = int(nearest.argmin())
    return at, float(1 - nearest[at])


def _logits(engine: Engine, prefixes: Sequence[Stretch]) -> Float32:
    found = [next_logits(engine, one, empty_cache(engine, len(one)))[0] for one in prefixes]
    return np.stack(found)


def _compared(graph: Graph, expected: Float32, found: Float32) -> tuple[Check, ...]:
    if not graph.rounds_activations and graph.cache_type() == "float32":
        return (float_check("decoder", "logits", expected, found),)
    return logit_checks(expected, found)


def _apart_check(name: str, apart: float) -> Check:
    told = f"logits from those of any other (1 - cosine), adapter {name}"
    note = "" if apart >= 2 * NEAREST else "another file in its place would not be found"
    return Check("engine", "decoder", told, apart, 2 * NEAREST, True, is_advisory=True, note=note)


def _call(graph: Graph, name: str, bound: _Bound, prefix: Stretch, apart: float) -> GoldenCall:
    inputs = decoder_inputs(prefix, empty_cache(bound, len(prefix)))
    close = Tolerance(min_cosine=1 - min(FARTHEST, max(NEAREST, apart / 2)))
    outputs = {"logits": bound.run(inputs)["logits"]}
    title = f"prefill {len(prefix)} with {name}"
    return GoldenCall(
        graph.role, graph.variant, title, inputs, outputs, {"logits": close}, adapter=name
    )


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

    def __init__(self, engine: Engine, tensors: Arrays) -> None:
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
