"""The reference assistant: vision, gate, connector and narrator as one PyTorch module.

Training owns one `ReferenceModel`; a checkpoint folder (reference_checkpoint.py) holds its weights,
and the family `reference` takes it apart for the export.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

from ..runtime.manifest_values import FrameInput, MotionInput
from ..runtime.motion_input import COLOURS, MAP_STD, MAPS
from .cognition_gate import CognitionGate, GateShape
from .frame_tokens import FrameEncoder
from .reference_connector import ReferenceConnector

SIDE_PX, PATCH_PX, CELLS, REACH_PX = 112, 16, 7, 16

VISION = MappingProxyType(
    {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
     "num_attention_heads": 4, "image_size": SIDE_PX, "patch_size": PATCH_PX,
     "num_channels": COLOURS + len(MAPS)}
)  # fmt: skip
TEXT = MappingProxyType(
    {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
     "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 2048,
     "tie_word_embeddings": True,
     "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReferenceConfig:
    """What a reference assistant is made of.

    Attributes:
        events: event types, in the order of the scores behind `speak`.
        attributes: attribute → its values.
        attributes_of: event type → the attributes that are told of it; empty: every event has all.
        vision: of `SiglipVisionConfig`.
        text: of `LlamaConfig`, without the size of the vocabulary.
        gate_width, gate_layers: of the gate.
        tokens_per_frame: 1 + a square.
        fps: frames a second that it is trained for.
        max_gap_s: longest gap between frames that it is trained for, seconds.
    """

    events: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    attributes_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=lambda: VISION)
    text: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    gate_width: int = 128
    gate_layers: int = 2
    tokens_per_frame: int = 10
    fps: float = 4.0
    max_gap_s: float = 1.0

    def frame_input(self) -> FrameInput:
        """What vision expects of a frame: a squashed picture, since stage 0 measures motion on one.

        A letterbox would lay the maps beside what moved.
        """
        motion = MotionInput("block", CELLS, REACH_PX, MAPS)
        side = self.vision["image_size"]
        return FrameInput(
            size_px=(side, side),
            fps=self.fps,
            resize="squash",
            channels=COLOURS + len(MAPS),
            max_gap_s=self.max_gap_s,
            mean=(0.5,) * COLOURS + (0.0,) * len(MAPS),
            std=(0.25,) * COLOURS + MAP_STD,
            motion=motion,
        )

    def gate_shape(self) -> GateShape:
        """Sizes of the gate."""
        return GateShape(
            dim=self.vision["hidden_size"],
            tokens=self.tokens_per_frame,
            events=len(self.events),
            attributes={name: len(values) for name, values in self.attributes.items()},
            width=self.gate_width,
            layers=self.gate_layers,
        )


class ReferenceModel(nn.Module):
    """All parts of a reference assistant.

    Attributes:
        vision: pixels (frames, 9, 112, 112) of `vision_input` → tokens (frames, 10, 128) and
            summary (frames, 128); its `see` gives the 7 x 7 patches as well.
        gate: see `CognitionGate`.
        connector: tokens and state_summary → embeds (frames, 10, 192).
        narrator: the language model; its layout is in reference_layout.py.
    """

    def __init__(self, config: ReferenceConfig, narrator: LlamaForCausalLM) -> None:
        super().__init__()
        shape = config.gate_shape()
        tower = SiglipVisionModel(SiglipVisionConfig(**config.vision))
        self.config = config
        self.vision = FrameEncoder(tower, config.tokens_per_frame)
        self.gate = CognitionGate(shape)
        self.connector = ReferenceConnector(
            shape.dim, shape.width, config.text["hidden_size"], config.tokens_per_frame
        )
        self.narrator = narrator


def build_reference(config: ReferenceConfig, vocabulary_size: int, seed: int) -> ReferenceModel:
    """A reference assistant with random weights, float32; the same arguments, the same numbers.

    Args:
        config: of all parts.
        vocabulary_size: tokens of its tokenizer.
        seed: of the weights; the generators of the caller go on as they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        narrator = LlamaForCausalLM(LlamaConfig(**config.text, vocab_size=vocabulary_size))
        return ReferenceModel(config, narrator)
