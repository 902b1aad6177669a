"""The proof of a cache that is not float32: what the decoder says after evictions, as with float32.

Both decoders have the same weights and read the same: a prompt several times over, each time with
the oldest third let go before. Only the cache's type differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from ..calibration.decoder_calls import Stretch
from ..calibration.parity import Check
from ..models.family import Checkpoint
from ..runtime.arena import Arena
from ..runtime.engine import Engine
from ..runtime.engines.lane import OpenLane
from ..runtime.engines.ort import OrtBackend
from ..runtime.language_model import LanguageModel
from ..runtime.manifest_values import CacheShape
from ..runtime.token_rows import TokenRows
from ..runtime.values import Float32
from .cache_type import CacheType, set_cache_type
from .graphs import Graph

EVICTIONS, SINK_SLOTS, CAPACITY = 8, 4, 512
SAME_TOKEN, MEAN_COSINE = 0.98, 0.999
"""Of all positions, after the first eviction."""


def cache_checks(
    checkpoint: Checkpoint, graph: Graph, engine: Engine, prompts: Sequence[Stretch]
) -> list[Check]:
    """Whether the cache's type changes what is said after evictions.

    Args:
        checkpoint: whose positions and shape they are.
        graph: with a cache of another type than float32.
        engine: of it.
        prompts: what they read.

    Cost: a copy of the graph, and two decoders over `EVICTIONS` prompts each.
    """
    dtype = graph.cache_type()
    found = logits_after_evictions(checkpoint, engine, dtype, prompts)
    with tempfile.TemporaryDirectory(prefix="edgestream-cache-") as work:
        model = graph.loaded()
        set_cache_type(model, "float32")
        path = Path(work) / "decoder.onnx"
        onnx.save(model, str(path), save_as_external_data=True, location="decoder.data")
        with OrtBackend("cpu").open(path) as exact:
            wanted = logits_after_evictions(checkpoint, exact, "float32", prompts)
    same = float((found.argmax(-1) == wanted.argmax(-1)).mean())
    left, right = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    cosine = float(((left * right).sum(-1) / lengths).mean())
    after = f"after {EVICTIONS} evictions, {dtype} against float32"
    return [
        Check("engine", "decoder", f"same token {after}", same, SAME_TOKEN, True),
        Check("engine", "decoder", f"mean cosine {after}", cosine, MEAN_COSINE, True),
    ]


def logits_after_evictions(
    checkpoint: Checkpoint, engine: Engine, dtype: CacheType, prompts: Sequence[Stretch]
) -> Float32:
    """(positions, vocabulary): of each position of the prompts, read on and on with evictions."""
    facts = checkpoint.decoder_weights().shape
    shape = CacheShape(facts.layers, facts.kv_heads, facts.head_dim, CAPACITY)
    arena = Arena(shape, checkpoint.positions, dtype=dtype)
    rows = TokenRows(np.zeros((1, facts.width), np.float32))
    model = LanguageModel(engine, arena, rows, OpenLane())
    found: list[Float32] = []
    for number in range(EVICTIONS + 1):
        prompt = prompts[number % len(prompts)]
        if number:
            gone = SINK_SLOTS + (arena.length - SINK_SLOTS) // 3
            model.evict(np.r_[0:SINK_SLOTS, gone : arena.length])
        offset = arena.next_position
        for at in range(len(prompt)):
            row = prompt.part(at, at + 1)
            positions = None if row.positions is None else row.positions + offset
            logits = model.append(row.embeds, positions=positions)
            if number:
                found.append(logits.copy())
    return np.stack(found)
