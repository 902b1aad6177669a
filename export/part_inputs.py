"""What the graphs of vision, gate and connector are traced and calibrated with, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..models.family import Checkpoint
from ..runtime.last_spoke import NEVER, spoken_of
from ..runtime.values import Float32
from .proof_data import ProofData


@dataclass(frozen=True, slots=True, eq=False)
class TracedPart:
    """A module and its borders.

    Attributes:
        module: of the checkpoint.
        inputs: name → example array, in the order in which the module takes them.
        outputs: names, in the order in which it gives them.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]


def traced_parts(checkpoint: Checkpoint) -> dict[str, TracedPart]:
    """Role → part, for those that a checkpoint has: vision, gate, connector.

    Cost: vision once, over an empty picture.
    """
    frames = checkpoint.frame_input
    pixels = torch.zeros(1, frames.channels or 3, *frames.size_px)
    with torch.inference_mode():
        tokens, summary = checkpoint.vision(pixels)
    parts = {"vision": TracedPart(checkpoint.vision, {"pixels": pixels}, ["tokens", "summary"])}
    read = {"tokens": tokens}
    gate = checkpoint.gate
    if gate is not None:
        shape = gate.shape
        motion = torch.zeros(1, len(shape.map_std), shape.cells, shape.cells)
        conv, ssm = gate.first_state()
        known = {"tokens": tokens, "summary": summary, "motion": motion,
                 "query": torch.zeros(1, shape.query_dim), "spoken": torch.ones(1, 1),
                 "dt_s": torch.zeros(1, 1), "conv": conv, "ssm": ssm}  # fmt: skip
        inputs = {name: known[name] for name in gate.input_names()}
        parts["gate"] = TracedPart(gate, inputs, gate.output_names())
        if checkpoint.connector_reads_state:
            read["state_summary"] = torch.zeros(1, shape.width)
    parts["connector"] = TracedPart(checkpoint.connector, read, ["embeds"])
    return parts


def seen_by_gate(data: ProofData, step: int, fps: float) -> dict[str, Float32]:
    """What a gate may read at a step of the proof's stream, by name, but for its state.

    A step without a query, all zeros, is followed by one with it. It spoke at the first step, of
    which it hears from the next one on.

    Args:
        data: its frames follow each other again and again.
        step: from 0.
        fps: frames a second.
    """
    index = step % len(data.tokens)
    return {
        "tokens": data.tokens[index],
        "summary": data.summaries[index],
        "motion": data.maps[index],
        "query": data.query if step % 2 else np.zeros_like(data.query),
        "spoken": np.full((1, 1), spoken_of(step / fps) if step else NEVER, np.float32),
        "dt_s": np.full((1, 1), 1.0 / fps, np.float32),
    }


def examples_of(role: str, names: Sequence[str], data: ProofData) -> list[dict[str, Float32]]:
    """Inputs of vision or connector by name, one for each frame.

    Args:
        role: of the part.
        names: of its inputs, in their order.
        data: frames and what full precision makes of them.
    """
    read = [data.pixels] if role == "vision" else [data.tokens, data.states][: len(names)]
    return [dict(zip(names, one, strict=True)) for one in zip(*read, strict=True)]
