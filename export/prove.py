"""The proof of an export: every engine against PyTorch, as checks and golden calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..calibration.parity import (
    Check,
    float_check,
    snr_check,
    stored_weight_check,
    token_checks,
)
from ..models.family import Checkpoint, FrameGate
from ..quant.numerics import dequantize_int8_per_channel, quantize_int8_per_channel
from ..runtime.engine import Engine
from ..runtime.engines.ort import OrtBackend
from ..runtime.errors import EngineError
from ..runtime.golden import GoldenCall, Tolerance
from ..runtime.values import Float32
from .given_weights import given_checks, likeness_check, put_in
from .graphs import Graph
from .int8_vision import stored_int8
from .part_inputs import seen_by_gate
from .proof_data import ProofData
from .prove_decoder import prove_decoder
from .prove_streamed import prove_streamed

Tell = Callable[[str], None]
GOLDEN_FRAMES = 2
GATE_STEPS = 32
# Between processors int8 rounding moves the last digits; a wrong file moves the first.
CLOSE = Tolerance(min_cosine=0.99)
EXACT = Tolerance(max_abs=1e-3, min_cosine=0.9999)


@dataclass(slots=True)
class Proof:
    """What the proofs found so far.

    Attributes:
        checks: of all parts.
        golden: calls for the bundle's golden.npz.
    """

    checks: list[Check] = field(default_factory=list)
    golden: list[GoldenCall] = field(default_factory=list)


def prove(
    checkpoint: Checkpoint,
    graphs: Sequence[Graph],
    data: ProofData,
    threads: int,
    tell: Tell,
    opened: Callable[[Path], Engine] | None = None,
) -> Proof:
    """All three gates over all parts.

    Args:
        checkpoint: full precision.
        graphs: as written.
        data: what they are run on.
        threads: of each engine.
        tell: called with the name of each part before it is proven.
        opened: opens a graph on the CPU; None for an engine that takes what the graph takes.

    Cost: a copy of the largest part in memory; for 135 M parameters about two minutes on one core.
    """
    proof = Proof()
    opened = opened or OrtBackend("cpu", threads).open
    read = [data.tokens, data.states] if checkpoint.connector_reads_state else [data.tokens]
    inputs = {"vision": [(one,) for one in data.pixels], "connector": list(zip(*read, strict=True))}
    exact = {"vision": data.tokens, "connector": data.embeds}
    modules = {"vision": checkpoint.vision, "connector": checkpoint.connector}
    for graph in graphs:
        tell(graph.role)
        with opened(graph.path) as engine:
            if graph.role in modules:
                role = graph.role
                _tokens(proof, graph, engine, modules[role], inputs[role], exact[role])
            elif graph.role == "gate":
                assert checkpoint.gate is not None
                _gate(proof, graph, engine, checkpoint.gate, data, checkpoint.frame_input.fps)
            elif graph.role == "evict":
                _evict(proof, graph, engine)
            else:
                is_in_memory = checkpoint.stored_decoder is None
                prove_it = prove_decoder if is_in_memory else prove_streamed
                checks, golden = prove_it(checkpoint, graph, engine, data)
                proof.checks += checks
                proof.golden += golden
    return proof


def _tokens(
    proof: Proof,
    graph: Graph,
    engine: Engine,
    module: nn.Module,
    inputs: Sequence[tuple[Float32, ...]],
    exact: Sequence[Float32],
) -> None:
    """Vision or connector: every weight in the file, then what comes out.

    `exact` is what full precision gives; a quantized graph is held to what is left of the weights.
    """
    expected = list(exact)
    if graph.scheme.weights != "float32":
        reference = copy.deepcopy(module)
        proof.checks += _weights(graph, module, reference)
        with torch.inference_mode():
            expected = [_first(reference(*map(torch.from_numpy, one))) for one in inputs]
    names, first = [spec.name for spec in engine.inputs], engine.outputs[0].name
    given = [dict(zip(names, one, strict=True)) for one in inputs]
    found = [engine.run(one) for one in given]
    left, right = np.concatenate(expected), np.concatenate([one[first] for one in found])
    if graph.scheme.weights == "float32":
        proof.checks.append(float_check(graph.role, first, left, right))
    else:
        proof.checks += token_checks(graph.role, left, right)
    if graph.given is not None:
        proof.checks.append(likeness_check(graph.role, np.concatenate(exact), right))
    proof.golden += [
        _call(graph, f"frame {number}", one, outputs, CLOSE)
        for number, (one, outputs) in enumerate(zip(given, found, strict=True))
        if number < GOLDEN_FRAMES
    ]


def _first(outputs: Any) -> NDArray[np.float32]:
    tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    array: NDArray[np.float32] = tensor.numpy()
    return array


def _weights(graph: Graph, module: nn.Module, reference: nn.Module) -> list[Check]:
    """What the file holds of each weight; leaves what is left of it in `reference`."""
    if graph.given is None:
        return _int8_weights(graph, module, reference)
    put_in(graph.given, reference)
    return given_checks(graph.role, graph.given)


def _int8_weights(graph: Graph, module: nn.Module, reference: nn.Module) -> list[Check]:
    """Codes and scales of every weight, its SNR; leaves what is left of it in `reference`."""
    assert graph.traced is not None
    stored = stored_int8(graph.loaded())
    ours = dict(module.named_parameters())
    left = dict(reference.named_parameters())
    checks: list[Check] = []
    if unlike := stored.keys() ^ {one.graph_name for one in graph.traced}:
        raise EngineError(
            f"the {graph.role} graph holds other int8 weights than were made: {min(unlike)}"
        )
    for traced in graph.traced:
        rows = slice(*traced.rows)
        original = ours[traced.parameter].detach().numpy()[rows]
        quantized = quantize_int8_per_channel(original, 0, traced.name)
        codes, scales = stored[traced.graph_name]
        expected = (quantized.codes.T, quantized.scales)
        checks.append(stored_weight_check(graph.role, traced.name, (codes, scales), expected))
        approximation = dequantize_int8_per_channel(quantized, 0)
        floor = graph.scheme.floor_db or 0.0
        checks.append(snr_check(graph.role, traced.name, original, approximation, floor))
        with torch.no_grad():
            left[traced.parameter][rows] = torch.from_numpy(approximation)
    return checks


def _gate(
    proof: Proof, graph: Graph, engine: Engine, gate: FrameGate, data: ProofData, fps: float
) -> None:
    """The gate over a stream of GATE_STEPS frames: its state goes out and comes in again."""
    state = dict(zip(("conv", "ssm"), gate.first_state(), strict=True))
    carried = {name: part.numpy() for name, part in state.items()}
    told = [name for name in gate.output_names() if not name.startswith("new_")]
    left: dict[str, list[Float32]] = {name: [] for name in told}
    right: dict[str, list[Float32]] = {name: [] for name in told}
    for step in range(GATE_STEPS):
        seen = seen_by_gate(data, step, fps)
        inputs = {name: {**seen, **carried}[name] for name in gate.input_names()}
        outputs = engine.run(inputs)
        wanted = {**{name: torch.from_numpy(one) for name, one in seen.items()}, **state}
        with torch.inference_mode():
            given = gate(*(wanted[name] for name in gate.input_names()))
        exact = dict(zip(gate.output_names(), given, strict=True))
        for name in told:
            left[name].append(exact[name].numpy())
            right[name].append(outputs[name])
        if step in (0, GATE_STEPS - 1):
            proof.golden.append(_call(graph, f"step {step}", inputs, outputs, EXACT))
        state = {name: exact[f"new_{name}"] for name in state}
        carried = {name: outputs[f"new_{name}"] for name in carried}
    for name in told:
        what = f"{name} after {GATE_STEPS} steps"
        pair = np.concatenate(left[name]), np.concatenate(right[name])
        proof.checks.append(float_check("gate", what, *pair))


def _evict(proof: Proof, graph: Graph, engine: Engine) -> None:
    """Keys and values that moved, against the rotation written with complex numbers."""
    random = np.random.default_rng(0)
    _, heads, _, head_dim = engine.inputs[0].shape
    assert isinstance(heads, int) and isinstance(head_dim, int)
    slots, half = 64, head_dim // 2
    key, value = (random.standard_normal((1, heads, slots, head_dim), np.float32) for _ in range(2))
    keep = np.r_[0:4, 20:40, 50:64]
    delta = keep - np.arange(len(keep))
    angles = np.arange(slots)[:, None] * 10000.0 ** (-np.arange(half) / half)
    inputs = {
        "key": key,
        "value": value,
        "keep": keep,
        "delta": delta,
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
    }
    outputs = engine.run(inputs)
    turned = (key[..., :half] + 1j * key[..., half:])[:, :, keep] * np.exp(-1j * angles[delta])
    expected = np.concatenate([turned.real, turned.imag], -1)
    proof.checks.append(float_check("evict", "moved keys", expected, outputs["kept_key"]))
    same = stored_weight_check("evict", "values", (outputs["kept_value"],), (value[:, :, keep],))
    proof.checks.append(same)
    proof.golden.append(_call(graph, "moved slots", inputs, outputs, EXACT))


def _call(
    graph: Graph,
    name: str,
    inputs: dict[str, NDArray[Any]],
    outputs: dict[str, NDArray[Any]],
    tolerance: Tolerance,
) -> GoldenCall:
    bounds = dict.fromkeys(outputs, tolerance)
    return GoldenCall(graph.role, graph.variant, name, inputs, outputs, bounds)
