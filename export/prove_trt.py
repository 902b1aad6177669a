"""The proof of TensorRT's variants where no GPU is: the same graphs, run by ONNX Runtime's CPU.

The decoder's graph, typed float32, is held to the CPU's variant over the same stored weights, both
multiplying in float32: it is the same decoder. Typed float16, as it is compiled, it may differ by
that rounding. Vision in static int8 is held to full precision, by the gates of the CPU's int8. What
an engine makes of it on a GPU is for the golden calls to say, on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..calibration.decoder_calls import Cache, Stretch, next_logits
from ..calibration.decoder_calls import empty_cache as growing_cache
from ..calibration.parity import Check, token_checks
from ..models.family import Checkpoint
from ..runtime.engine import Engine
from ..runtime.engines.ort import OrtBackend
from ..runtime.golden import GoldenCall
from ..runtime.values import Float32
from .decoder_plan import decoder_schemes
from .embeddings import StoredEmbeddings
from .exact_backends import EXACT_PRODUCTS, ExactBackend
from .onnx_from_torch import remove_graph
from .part_inputs import examples_of
from .proof_data import ANSWER_TOKENS, ANSWERS, ProofData
from .prove import CLOSE, GOLDEN_FRAMES, Proof, Tell
from .static_decoder import StaticDecoder
from .trt_decoder import write_trt_decoder
from .trt_int8 import symmetric_graph
from .trt_variants import TrtGraph

FLOAT32_ERROR, FLOAT16_ERROR, SAME_TOKEN = 1e-3, 2e-2, 0.99


def prove_trt(
    checkpoint: Checkpoint,
    graphs: Sequence[TrtGraph],
    data: ProofData,
    cpu: Proof,
    *,
    threads: int = 1,
    tell: Tell = lambda part: None,
) -> Proof:
    """Checks of all graphs, and golden calls.

    Args:
        checkpoint: full precision.
        graphs: as written; the decoder's is written once more beside it, typed float32.
        data: what they are run on.
        cpu: the proof of the CPU's variants; the gate's calls are the same graph's.
        threads: of each engine.
        tell: called with the name of each part before it is proven.

    Cost: the decoder three times in memory, and ANSWERS answers of each.
    """
    proof = Proof()
    looks_random = any(check.note for check in cpu.checks if check.gate == "agreement")
    for graph in graphs:
        tell(f"{graph.role} ({graph.provider})")
        if graph.role == "gate":
            calls = [call for call in cpu.golden if call.role == "gate"]
            proof.golden += [replace(call, variant=graph.variant) for call in calls]
            continue
        if graph.role == "decoder":
            checks, calls = _decoder(checkpoint, graph, data, threads, looks_random)
        else:
            with graph.backend(threads).open(graph.path) as engine:
                if graph.role == "evict":
                    checks, calls = _evict(graph, engine)
                else:
                    checks, calls = _frames(graph, engine, data, threads)
        proof.checks += checks
        proof.golden += calls
    return proof


def _frames(
    graph: TrtGraph, engine: Engine, data: ProofData, threads: int
) -> tuple[list[Check], list[GoldenCall]]:
    """Vision or connector against what full precision makes of the same frames."""
    exact = np.concatenate(data.tokens if graph.role == "vision" else data.embeds)
    given = examples_of(graph.role, [spec.name for spec in engine.inputs], data)
    found = [engine.run(one) for one in given]
    first = engine.outputs[0].name
    right = np.concatenate([one[first] for one in found])
    calls = [
        _call(graph, f"frame {number}", given[number], found[number])
        for number in range(min(GOLDEN_FRAMES, len(given)))
    ]
    if graph.is_static:
        with static_float32(graph) as path, graph.backend(threads).open(path) as whole:
            typed = np.concatenate([whole.run(one)[first] for one in given])
        return [*_static_checks(graph, "float32", exact, typed),
                *_static_checks(graph, "float16", exact, right)], calls  # fmt: skip
    what = f"largest error of {first}, for TensorRT in float16"
    return [_error_check(graph.role, what, exact, right, FLOAT16_ERROR)], calls


def _static_checks(graph: TrtGraph, typed: str, exact: Float32, found: Float32) -> Iterator[Check]:
    """The gates that the CPU's int8 has; here the weights' own rounding counts too."""
    for check in token_checks(graph.role, exact, found):
        yield replace(check, name=f"{check.name}, for TensorRT in int8, else {typed}")


def _evict(graph: TrtGraph, engine: Engine) -> tuple[list[Check], list[GoldenCall]]:
    """Moved keys against those of the float32 graph, over a cache that is full of noise."""
    random = np.random.default_rng(0)
    _, heads, slots, head_dim = engine.inputs[0].shape
    assert isinstance(heads, int) and isinstance(head_dim, int) and isinstance(slots, int)
    half = head_dim // 2
    key, value = (
        random.standard_normal((1, heads, slots, head_dim), np.float32).astype(np.float16)
        for _ in range(2)
    )
    keep = np.r_[0 : slots // 8, slots // 4 : slots - 3]
    delta = keep - np.arange(len(keep))
    angles = np.arange(slots)[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    inputs = {"key": key, "value": value, "keep": keep, "delta": delta, "cos": cos, "sin": sin}
    outputs = engine.run(inputs)
    with OrtBackend("cpu").open(graph.source) as exact:
        whole = {name: inputs[name].astype(np.float32) for name in ("key", "value")}
        expected = exact.run({**inputs, **whole})
    what = "largest error of moved keys, for TensorRT in float16"
    keys = expected["kept_key"], outputs["kept_key"]
    return [_error_check("evict", what, *keys, FLOAT16_ERROR)], [
        _call(graph, "moved slots", inputs, outputs)
    ]


def _decoder(
    checkpoint: Checkpoint, graph: TrtGraph, data: ProofData, threads: int, looks_random: bool
) -> tuple[list[Check], list[GoldenCall]]:
    backend = ExactBackend("cpu", threads)
    with ExitStack() as stack:
        half = stack.enter_context(backend.open(graph.path))
        capacity = StaticDecoder(half).capacity
        exact, typed = (
            stack.enter_context(backend.open(stack.enter_context(path)))
            for path in (
                exact_products(graph.source),
                typed_float32(checkpoint, graph, capacity),
            )
        )
        steps = [
            step
            for prompt in data.prompts[:ANSWERS]
            for step in _answer(StoredEmbeddings(checkpoint), prompt, exact, (typed, half))
        ]
        calls = _golden_calls(graph, half, data)
    expected, float32, float16 = (np.stack(one) for one in zip(*steps, strict=True))
    same = float((expected.argmax(-1) == float16.argmax(-1)).mean())
    what = "largest error of logits, for TensorRT in"
    return [
        _error_check("decoder", f"{what} float32", expected, float32, FLOAT32_ERROR),
        _error_check("decoder", f"{what} float16", expected, float16, FLOAT16_ERROR),
        Check("agreement", "decoder", "same token, for TensorRT in float16", same, SAME_TOKEN,
              True, is_advisory=looks_random),
    ], calls  # fmt: skip


def _answer(
    table: StoredEmbeddings, prompt: Stretch, exact: Engine, others: Sequence[Engine]
) -> Iterator[tuple[Float32, ...]]:
    """Logits of each engine after a prompt and each token that the first one says to it."""
    static = [StaticDecoder(engine) for engine in others]
    room = static[0].capacity - ANSWER_TOKENS
    read = prompt.part(-min(len(prompt), room), None)
    prompt = read
    cache: Cache = growing_cache(exact, static[0].capacity)
    for step in range(ANSWER_TOKENS):
        logits, cache = next_logits(exact, read, cache)
        yield (logits, *(one.logits(read) for one in static))
        read = prompt.after(table.rows([int(logits.argmax())]), step)


def _golden_calls(graph: TrtGraph, engine: Engine, data: ProofData) -> list[GoldenCall]:
    """One prefill, and one step on a cache: of one layer for all, so that the file stays small."""
    prefix = min(data.prefixes, key=len)
    before, last = prefix.part(None, -1), prefix.part(-1, None)
    decoder = StaticDecoder(engine)
    first = decoder.inputs(before)
    decoder.logits(before)
    decoder.share_cache()
    calls = ((f"prefill {len(before)}", first), ("one more position", decoder.inputs(last)))
    return [
        _call(graph, name, inputs, {"logits": engine.run(inputs)["logits"]})
        for name, inputs in calls
    ]


@contextmanager
def exact_products(graph: Path) -> Iterator[Path]:
    """A decoder's graph for the CPU whose matrices multiply in float32; its weights are shared."""
    model = onnx.load(str(graph), load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = EXACT_PRODUCTS
    path = graph.with_name(f"{graph.stem}.exact.onnx")
    onnx.save(model, str(path))
    try:
        yield path
    finally:
        path.unlink()


@contextmanager
def typed_float32(checkpoint: Checkpoint, graph: TrtGraph, capacity: int) -> Iterator[Path]:
    """A decoder's graph for TensorRT with float32 in place of float16."""
    path = graph.path.with_name(f"{graph.path.stem}.float32.onnx")
    schemes = decoder_schemes(checkpoint.decoder, graph.scheme, graph.exceptions)
    weights = checkpoint.decoder_weights()
    write_trt_decoder(weights, schemes, graph.source, path, capacity, "float32")
    try:
        yield path
    finally:
        remove_graph(path)


@contextmanager
def static_float32(graph: TrtGraph) -> Iterator[Path]:
    """A graph with static int8 for TensorRT that has float32 in place of float16."""
    path = graph.path.with_name(f"{graph.path.stem}.float32.onnx")
    onnx.save(symmetric_graph(onnx.load(str(graph.source))), str(path))
    try:
        yield path
    finally:
        path.unlink()


def _error_check(
    part: str, name: str, reference: NDArray[Any], found: NDArray[Any], must: float
) -> Check:
    """The largest difference, in units of the reference's spread where that is above 1."""
    left, right = reference.astype(np.float32), found.astype(np.float32)
    error = float(np.abs(left - right).max()) / max(1.0, float(left.std()))
    return Check("engine", part, name, error, must, False)


def _call(
    graph: TrtGraph, name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> GoldenCall:
    return GoldenCall(
        graph.role, graph.variant, name, inputs, outputs, dict.fromkeys(outputs, CLOSE)
    )
