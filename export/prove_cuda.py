"""The proof of the CUDA variants where there is no GPU: their float32 twins, and what typing costs.

Each twin goes through the gates that a CPU variant goes through. Then the graph typed float16 runs
on the CPU, which has kernels for it or casts in between, and must say what its twin says. What it
said there are the golden calls by which a device proves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.decoder_calls import Cache, empty_cache, next_logits
from ..calibration.parity import Check, float_check, stored_weight_check
from ..models.family import Checkpoint
from ..runtime.engine import Arrays, BoundCall, Engine
from ..runtime.engines.ort import OrtBackend
from ..runtime.errors import EngineUnusable
from ..runtime.golden import GoldenCall, Tolerance
from ..runtime.values import Float32
from .cuda_decoder import counted
from .cuda_graphs import CudaGraph
from .embeddings import StoredEmbeddings
from .part_inputs import examples_of, seen_by_gate
from .proof_data import ANSWERS, ProofData
from .prove import GATE_STEPS, GOLDEN_FRAMES, Proof, prove
from .prove_decoder import golden_calls
from .prove_streamed import said_by

Tell = Callable[[str], None]
Outputs = dict[str, NDArray[Any]]
TYPING_NOISE = 2e-2
"""Of float16 against float32: root mean square of the difference, by the spread of the numbers."""
SAME_TOKEN = 0.97
"""Of the next tokens along the twin's answers; two that are nearly equal may change places."""
TYPED_PREFIXES, LARGE_ANSWERS = 32, 4
"""A CPU is slow at float16: prefixes, and answers of a decoder that stays in its files."""
CLOSE = Tolerance(min_cosine=0.99)


def prove_cuda(
    checkpoint: Checkpoint, graphs: Sequence[CudaGraph], data: ProofData, threads: int, tell: Tell
) -> Proof:
    """All gates over the twins, float16 against them, and golden calls of the float16 graphs.

    Args:
        checkpoint: full precision.
        graphs: as written, twins included.
        data: what they are run on.
        threads: of each engine.
        tell: called with the name of each part before it is proven.

    Cost: the proof of the CPU variants once more, and the float16 graphs on the CPU.
    """
    backend = OrtBackend("cpu", threads)

    def opened(path: Path) -> Engine:
        return _Counting(backend.open(path))

    twins = [one.twin for one in graphs if one.twin.role != "evict"]
    found = prove(checkpoint, twins, data, threads, lambda part: tell(f"{part} (cuda)"), opened)
    proof = Proof([_of_cuda(check) for check in found.checks if not _is_of_the_file(check)])
    is_random = any(check.note for check in proof.checks if check.gate == "agreement")
    for one in graphs:
        tell(f"{one.graph.role} (float16)")
        with opened(one.twin.path) as twin, opened(one.graph.path) as half:
            if one.graph.role == "decoder":
                proof.checks += _typed_logits(checkpoint, twin, half, data, is_advisory=is_random)
                proof.golden += [
                    replace(call, inputs=counted(call.inputs))
                    for call in golden_calls(one.graph, half, data)
                ]
            elif one.graph.role == "evict":
                _typed_evict(proof, one, half)
            else:
                _typed_part(proof, checkpoint, one, twin, half, data)
    return proof


class _Counting:
    """An engine whose caller may hand in a mask where the graph takes two counts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.provider, self.inputs, self.outputs = engine.provider, engine.inputs, engine.outputs

    def run(self, arrays: Arrays) -> Outputs:
        return self._engine.run(counted(arrays) if "attention_mask" in arrays else arrays)

    def bind(self, inputs: Arrays, outputs: Arrays) -> BoundCall:
        raise EngineUnusable("the proof of a CUDA variant binds nothing")

    def __enter__(self) -> _Counting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.__exit__(kind, error, trace)


def _of_cuda(check: Check) -> Check:
    return replace(check, part=f"{check.part} (cuda)")


def _is_of_the_file(check: Check) -> bool:
    """About codes and scales, which are those of the CPU variant: it is told of once."""
    return check.gate == "snr_db" or check.name.startswith("stored ")


def typing_check(part: str, name: str, exact: NDArray[Any], half: NDArray[Any]) -> Check:
    """What float16 adds to float32, by the spread of the numbers. Infinities fail it."""
    wide = exact.astype(np.float64)
    error = np.sqrt(np.mean((wide - half.astype(np.float64)) ** 2))
    noise = float(error / max(float(wide.std()), 1e-6))
    return Check("engine", f"{part} (cuda)", f"float16 noise of {name}", noise, TYPING_NOISE, False)


def _typed_logits(
    checkpoint: Checkpoint, twin: Engine, half: Engine, data: ProofData, *, is_advisory: bool
) -> tuple[Check, ...]:
    """Logits after prefixes; and how often the next token is the same along the twin's answers."""
    exact, found = (_logits(engine, data) for engine in (twin, half))
    table, same = StoredEmbeddings(checkpoint), list[bool]()
    count = ANSWERS if checkpoint.stored_decoder is None else LARGE_ANSWERS
    for prompt in data.prompts[:count]:
        said = said_by(twin, prompt, table)
        cache: Cache = empty_cache(half, len(prompt) + len(said.tokens))
        read = prompt
        for step, token in enumerate(said.tokens):
            logits, cache = next_logits(half, read, cache)
            same.append(int(logits.argmax()) == token)
            read = prompt.after(table.rows([token]), step)
    share = Check("agreement", "decoder (cuda)", "float16: same next token", float(np.mean(same)),
                  SAME_TOKEN, True, is_advisory=is_advisory)  # fmt: skip
    return typing_check("decoder", "logits", exact, found), share


def _logits(engine: Engine, data: ProofData) -> Float32:
    prefixes = data.prefixes[:TYPED_PREFIXES]
    return np.stack(
        [next_logits(engine, one, empty_cache(engine, len(one)))[0] for one in prefixes]
    )


def _typed_part(
    proof: Proof,
    checkpoint: Checkpoint,
    one: CudaGraph,
    twin: Engine,
    half: Engine,
    data: ProofData,
) -> None:
    """Vision, connector or gate: every output over the frames, and golden calls of two of them."""
    calls = list(zip(_calls(one, twin, checkpoint, data), _calls(one, half, checkpoint, data),
                     strict=True))  # fmt: skip
    for spec in half.outputs:
        exact, found = (np.stack([pair[side][1][spec.name] for pair in calls]) for side in (0, 1))
        proof.checks.append(typing_check(one.graph.role, spec.name, exact, found))
    golden = calls[:GOLDEN_FRAMES] if one.graph.role != "gate" else [calls[0], calls[-1]]
    for number, (_, (inputs, outputs)) in enumerate(golden):
        proof.golden.append(_call(one, f"call {number}", inputs, outputs))


def _calls(
    one: CudaGraph, engine: Engine, checkpoint: Checkpoint, data: ProofData
) -> Iterator[tuple[Outputs, Outputs]]:
    """(inputs, outputs) of each frame; the gate goes on from its own state."""
    if one.graph.role != "gate":
        names = [spec.name for spec in engine.inputs]
        for example in examples_of(one.graph.role, names, data):
            yield dict(example), engine.run(example)
        return
    assert checkpoint.gate is not None
    first = zip(("conv", "ssm"), checkpoint.gate.first_state(), strict=True)
    state: Outputs = {name: part.numpy() for name, part in first}
    for step in range(GATE_STEPS):
        given = {**seen_by_gate(data, step, checkpoint.frame_input.fps), **state}
        inputs = {spec.name: given[spec.name] for spec in engine.inputs}
        outputs = engine.run(inputs)
        yield inputs, outputs
        state = {name: outputs[f"new_{name}"] for name in state}


def _typed_evict(proof: Proof, one: CudaGraph, half: Engine) -> None:
    """Keys and values that moved, against the rotation written with complex numbers."""
    random = np.random.default_rng(0)
    _, heads, _, head_dim = half.inputs[0].shape
    assert isinstance(heads, int) and isinstance(head_dim, int)
    slots, middle = 64, head_dim // 2
    size = (1, heads, slots, head_dim)
    key, value = (random.standard_normal(size, np.float32).astype(np.float16) for _ in range(2))
    kept = np.r_[0:4, 20:40, 50:64]
    angles = np.zeros((slots, middle))
    shift = kept - np.arange(len(kept))
    angles[: len(kept)] = shift[:, None] * 10000.0 ** (-np.arange(middle) / middle)
    stays = np.arange(slots)[:, None] < len(kept)
    keep = np.zeros(slots, np.int64)
    keep[: len(kept)] = kept
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    inputs: Outputs = {"key": key, "value": value, "keep": keep, "stays": stays}
    inputs |= {"cos": cos, "sin": sin}
    outputs = half.run(inputs)
    wide = key.astype(np.float32)[:, :, keep]
    turned = (wide[..., :middle] + 1j * wide[..., middle:]) * np.exp(-1j * angles)
    expected = np.where(stays, np.concatenate([turned.real, turned.imag], -1), 0)
    proof.checks.append(_half_check(expected, outputs["kept_key"]))
    moved = np.where(stays, value[:, :, keep], np.float16(0))
    same = stored_weight_check("evict (cuda)", "values", (outputs["kept_value"],), (moved,))
    proof.checks.append(same)
    proof.golden.append(_call(one, "moved slots", inputs, outputs))


def _half_check(expected: NDArray[Any], found: NDArray[Any]) -> Check:
    """float16 keys: at most one unit in the last place of a number below 8, from rounding once."""
    rounded = expected.astype(np.float16).astype(np.float32)
    return replace(
        float_check("evict (cuda)", "moved keys", rounded, found.astype(np.float32)), must=4e-3
    )


def _call(one: CudaGraph, name: str, inputs: Outputs, outputs: Outputs) -> GoldenCall:
    bounds = dict.fromkeys(outputs, CLOSE)
    return GoldenCall(one.graph.role, one.graph.variant, name, inputs, outputs, bounds)
