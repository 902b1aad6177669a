"""What a gate costs: its parameters, and a frame's time in ONNX Runtime, one thread, in turn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from torch import nn

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.cognition_gate import CognitionGate

ROUNDS, FRAMES = 60, 40
"""Each gate is timed so often, over so many frames at a time; the median of the rounds counts."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a frame takes.

    Attributes:
        us: of each gate, microseconds, the median of the rounds.
        cpu_share: of one core that the process had while it was timed.
    """

    us: Mapping[str, float]
    cpu_share: float


def parameters(module: nn.Module) -> int:
    """Of the whole gate, but for its attributes, which not all of them tell."""
    return sum(one.numel() for name, one in module.named_parameters()
               if not name.startswith(("heads.", "head.")))  # fmt: skip


def times_us(gates: Mapping[str, CognitionGate], folder: Path) -> Times:
    """How long a frame takes in each of some gates, in turn so that all have the same weather."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = {name: _session(gate, folder / f"{name}.onnx") for name, gate in gates.items()}
    found: dict[str, list[float]] = {name: [] for name in gates}
    begun, worked = time.perf_counter(), time.process_time()
    for _ in range(ROUNDS):
        for name, (session, inputs) in runs.items():
            at = time.perf_counter()
            for _ in range(FRAMES):
                session.run(None, inputs)
            found[name].append((time.perf_counter() - at) / FRAMES * 1e6)
    share = (time.process_time() - worked) / (time.perf_counter() - begun)
    us = {name: round(float(np.median(rounds)), 1) for name, rounds in found.items()}
    return Times(us, round(share, 3))


def _session(gate: CognitionGate, path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    shape, (conv, ssm) = gate.shape, gate.first_state()
    known = {
        "tokens": torch.randn(1, shape.tokens, shape.dim), "summary": torch.randn(1, shape.dim),
        "motion": torch.randn(1, len(shape.map_std), shape.cells, shape.cells),
        "query": torch.randn(1, shape.query_dim), "spoken": torch.rand(1, 1),
        "dt_s": torch.full((1, 1), 0.25), "conv": conv, "ssm": ssm,
    }  # fmt: skip
    inputs = {name: known[name] for name in gate.input_names()}
    onnx_from_torch(gate, list(inputs.values()), list(inputs), gate.output_names(), path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, {name: part.detach().numpy() for name, part in inputs.items()}
