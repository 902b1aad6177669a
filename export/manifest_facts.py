"""What the manifest says of an export, but for its files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from .. import __version__
from ..calibration.dataset import CalibrationSet
from ..calibration.parity import ParityReport
from ..models.family import Checkpoint
from ..runtime.json_fields import json_from_value
from ..runtime.prompt_json import layout_as_json
from .embeddings import StoredEmbeddings
from .graphs import Graph

PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-genai", "numpy")
MEMORY_BUDGET_BYTES = 64 << 20
"""For key frames and dialogue, unless the user says otherwise: a guess, to be measured."""
CHUNK_POSITIONS = 64
FLOAT32_BYTES = 4


def manifest_facts(
    checkpoint: Checkpoint,
    graphs: Sequence[Graph],
    calibration: CalibrationSet,
    report: ParityReport,
    name: str,
    capacity: int,
) -> dict[str, Any]:
    """The manifest as JSON, without `files`.

    Args:
        checkpoint: full precision.
        graphs: as they were written.
        calibration: what the proofs were made on.
        report: of the proofs.
        name: of the bundle.
        capacity: positions of the decoder's cache.
    """
    table = StoredEmbeddings(checkpoint)
    facts: dict[str, Any] = {
        "format": 1,
        "name": name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "made_with": {"edgestream": __version__, **_versions()},
        "source": json_from_value(checkpoint.source),
        "input": json_from_value(checkpoint.frame_input),
        "tokens_per_frame": checkpoint.tokens_per_frame,
        "positions": json_from_value(checkpoint.positions),
        "cache": _cache(checkpoint, capacity),
        "prompt": layout_as_json(checkpoint.layout),
        "parts": _parts(graphs),
        "embeddings": _embeddings(checkpoint, table),
        "calibration": {
            "sha256": calibration.sha256,
            "frames": len(calibration.frames),
            "source": calibration.source,
        },
        "parity": report.summary(),
        "memory": _memory(checkpoint, graphs, table.n_bytes, capacity),
    }
    if checkpoint.gate_facts is not None:
        facts["gate"] = json_from_value(checkpoint.gate_facts)
    if checkpoint.notes:
        facts["notes"] = list(checkpoint.notes)
    return facts


def _parts(graphs: Sequence[Graph]) -> list[dict[str, Any]]:
    """Each role once, in the order of its first variant."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for graph in graphs:
        variants.setdefault(graph.role, []).append(graph.facts())
    return [{"role": role, "variants": found} for role, found in variants.items()]


def _embeddings(checkpoint: Checkpoint, table: StoredEmbeddings) -> dict[str, Any]:
    facts = {"file": "embeddings.bin", "dtype": str(table.dtype), "shape": list(table.shape)}
    width = checkpoint.row_width
    return facts if width == table.shape[1] else {**facts, "width": width}


def _cache(checkpoint: Checkpoint, capacity: int) -> dict[str, int]:
    config = checkpoint.decoder.config
    return {
        "layers": config.num_hidden_layers,
        "kv_heads": config.num_key_value_heads,
        "head_dim": getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        "capacity": capacity,
    }


def _memory(
    checkpoint: Checkpoint, graphs: Sequence[Graph], table_bytes: int, capacity: int
) -> dict[str, int]:
    """By arithmetic: files, cache, and the arrays of one layer for one chunk of positions.

    Of the CPU variants: the others are not in its memory.
    """
    graphs = [graph for graph in graphs if graph.provider == "cpu"]
    config, cache = checkpoint.decoder.config, _cache(checkpoint, capacity)
    a_position = 4 * config.hidden_size + 3 * config.intermediate_size
    a_slot = 2 * cache["layers"] * cache["kv_heads"] * cache["head_dim"]
    return {
        "weights_bytes": sum(graph.n_bytes() for graph in graphs) + table_bytes,
        "kv_bytes": sum(
            np.dtype(graph.cache_type()).itemsize for graph in graphs if graph.role == "decoder"
        )
        * capacity
        * a_slot,
        "workspace_bytes": FLOAT32_BYTES * (CHUNK_POSITIONS * a_position + config.vocab_size),
        "budget_default_bytes": MEMORY_BUDGET_BYTES,
        **checkpoint.remembers,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
