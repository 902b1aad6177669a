"""Tokens a second of decoders that multiply int4 codes by int8 activations, and by float32 ones.

Seconds are of CPU time and engines have one thread, so that what else the machine does matters
little; all variants take their turn in each round.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from real_sizes import write_checkpoint, write_graph

from edgestream.export.prove_trt import exact_products
from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.token_rows import TokenRows

PROMPT, SPOKEN, SHAPE = 200, 64, "smollm2-135m"


class _Free:
    """A lane that nobody else is in."""

    speak = staticmethod(contextlib.nullcontext)


def adapted_rows(
    readers: Mapping[str, Any], adapters: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """Each base without an adapter and with each."""

    def using(base: str, name: str | None) -> LanguageModel:
        readers[base].use(name)
        model: LanguageModel = readers[base].model
        return model

    many = {(base, name or "none"): partial(using, base, name)
            for base in readers for name in (None, *adapters)}  # fmt: skip
    return [{"what": "tokens a second of CPU time", "base": base, "adapter": name, **told}
            for (base, name), told in in_turn(many, rounds).items()]  # fmt: skip


def large_rows(work: Path, rounds: int) -> list[dict[str, Any]]:
    """SmolLM2-135M's shape in int4, random weights, with both kinds of activations."""
    place = work / "large"
    graph = place / "layers.onnx"
    if not graph.exists():
        write_checkpoint(place, SHAPE)
        write_graph(place, "int4", SHAPE, "layers")
    with ExitStack() as stack:
        exact = stack.enter_context(exact_products(graph))
        opened = {name: _model(stack, path) for name, path in (("int8", graph), ("float32", exact))}
        found = in_turn({(name, ""): partial(opened.__getitem__, name) for name in opened}, rounds)
    return [{"what": f"tokens a second of CPU time, {SHAPE} (random weights), int4",
             "activations": name, **told} for (name, _), told in found.items()]  # fmt: skip


def _model(stack: ExitStack, graph: Path) -> LanguageModel:
    engine = stack.enter_context(OrtBackend("cpu", 1).open(graph))
    past = [one for one in engine.inputs if one.name.startswith("past_key_values.")]
    heads, head_dim = int(past[0].shape[1]), int(past[0].shape[3])
    width = next(int(one.shape[-1]) for one in engine.inputs if one.name == "inputs_embeds")
    rows = TokenRows(np.random.default_rng(0).normal(0, 1, (64, width)).astype(np.float16))
    arena = Arena(CacheShape(len(past) // 2, heads, head_dim, 512), Positions(1, 1e6))
    return LanguageModel(engine, arena, rows, _Free())


def in_turn(
    models: Mapping[tuple[str, str], Callable[[], LanguageModel]], rounds: int
) -> dict[tuple[str, str], dict[str, int]]:
    """Tokens read and spoken a second, the median of the rounds; a first one warms up."""
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, ready in models.items():
            one = _paced(ready())
            if number:
                taken[name].append(one)
    return {name: {"read": round(statistics.median(one for one, _ in many)),
                   "spoken": round(statistics.median(one for _, one in many))}
            for name, many in taken.items()}  # fmt: skip


def _paced(model: LanguageModel) -> tuple[float, float]:
    """(read, spoken) tokens a second of CPU time."""
    width = model.rows([1]).shape[1]
    prompt = np.random.default_rng(0).normal(0, 0.3, (PROMPT, width)).astype(np.float32)
    model.arena.reset()
    begun = time.process_time()
    model.append(prompt)
    middle = time.process_time()
    for step in range(SPOKEN):
        model.step(1 + step % 32)
    return PROMPT / (middle - begun), SPOKEN / (time.process_time() - middle)
