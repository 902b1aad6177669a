"""The proof of an export: every engine against PyTorch, as checks and golden calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from ..models.event_gate import EventGate
from ..models.family import Checkpoint
from ..quant.numerics import dequantize_int8_per_channel, quantize_int8_per_channel
from ..runtime.engine import Engine
from ..runtime.engines.ort import OrtBackend
from ..runtime.golden import GoldenCall, Tolerance
from ..runtime.values import Float32
from .graphs import Graph
from .int8_vision import stored_int8
from .proof_data import ProofData
from .prove_decoder import prove_decoder
from .traced_weights import traced_weights

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
    checkpoint: Checkpoint, graphs: Sequence[Graph], data: ProofData, threads: int, tell: Tell
) -> Proof:
    """All three gates over all parts.

    Args:
        checkpoint: full precision.
        graphs: as written.
        data: what they are run on.
        threads: of each engine.
        tell: called with the name of each part before it is proven.

    Cost: a copy of the largest part in memory; for 135 M parameters about two minutes on one core.
    """
    proof = Proof()
    backend = OrtBackend("cpu", threads)
    inputs = {"vision": data.pixels, "connector": data.tokens}
    exact = {"vision": data.tokens, "connector": data.embeds}
    modules = {"vision": checkpoint.vision, "connector": checkpoint.connector}
    for graph in graphs:
        tell(graph.role)
        with backend.open(graph.path) as engine:
            if graph.role in modules:
                role = graph.role
                _tokens(proof, graph, engine, modules[role], inputs[role], exact[role])
            elif graph.role == "gate":
                assert isinstance(checkpoint.gate, EventGate)
                _gate(proof, graph, engine, checkpoint.gate, data.summaries)
            elif graph.role == "evict":
                _evict(proof, graph, engine)
            else:
                checks, golden = prove_decoder(checkpoint, graph, engine, data)
                proof.checks += checks
                proof.golden += golden
    return proof


def _tokens(
    proof: Proof,
    graph: Graph,
    engine: Engine,
    module: nn.Module,
    inputs: Sequence[Float32],
    exact: Sequence[Float32],
) -> None:
    """Vision or connector: every weight in the file, then what comes out.

    `exact` is what full precision gives; a quantized graph is held to what is left of the weights.
    """
    expected = list(exact)
    if graph.scheme.weights != "float32":
        reference = copy.deepcopy(module)
        proof.checks += _int8_weights(graph, module, reference)
        with torch.inference_mode():
            expected = [_first(reference(torch.from_numpy(one))) for one in inputs]
    name, first = engine.inputs[0].name, engine.outputs[0].name
    found = [engine.run({name: one}) for one in inputs]
    left, right = np.concatenate(expected), np.concatenate([one[first] for one in found])
    if graph.scheme.weights == "float32":
        proof.checks.append(float_check(graph.role, first, left, right))
    else:
        proof.checks += token_checks(graph.role, left, right)
    proof.golden += [
        _call(graph, f"frame {number}", {name: one}, outputs, CLOSE)
        for number, (one, outputs) in enumerate(zip(inputs, found, strict=True))
        if number < GOLDEN_FRAMES
    ]


def _first(outputs: Any) -> NDArray[np.float32]:
    tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    array: NDArray[np.float32] = tensor.numpy()
    return array


def _int8_weights(graph: Graph, module: nn.Module, reference: nn.Module) -> list[Check]:
    """Codes and scales of every weight, its SNR; leaves what is left of it in `reference`."""
    assert graph.float_model is not None
    stored = stored_int8(graph.loaded())
    ours = dict(module.named_parameters())
    left = dict(reference.named_parameters())
    checks: list[Check] = []
    for traced in traced_weights(graph.float_model, stored, module):
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
    proof: Proof, graph: Graph, engine: Engine, gate: EventGate, summaries: Sequence[Float32]
) -> None:
    """The gate over a stream of GATE_STEPS frames: its state goes out and comes in again."""
    state = gate.first_state()
    carried = {"conv": state[0].numpy(), "ssm": state[1].numpy()}
    dt_s = np.full((1, 1), 0.25, np.float32)
    left, right = [], []
    for step in range(GATE_STEPS):
        inputs = {"summary": summaries[step % len(summaries)], "dt_s": dt_s, **carried}
        outputs = engine.run(inputs)
        with torch.inference_mode():
            scores, _, *state = gate(
                torch.from_numpy(inputs["summary"]), torch.from_numpy(dt_s), *state
            )
        left.append(scores.numpy())
        right.append(outputs["scores"])
        if step in (0, GATE_STEPS - 1):
            proof.golden.append(_call(graph, f"step {step}", inputs, outputs, EXACT))
        carried = {"conv": outputs["new_conv"], "ssm": outputs["new_ssm"]}
    what = f"scores after {GATE_STEPS} steps"
    proof.checks.append(float_check("gate", what, np.concatenate(left), np.concatenate(right)))


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
