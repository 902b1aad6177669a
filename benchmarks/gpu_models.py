"""Random models of a shape in PyTorch: what watches (tower, gate, connector), and what speaks.

The weights are drawn on the device, so that 8 G parameters take seconds and no file is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gpu_shapes import Shape, smolvlm_scale
from torch import Tensor, nn

from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.models.connector import Connector
from edgestream.models.event_extractor import ExtractorShape
from edgestream.models.families.smolvlm import SmolVlmVision
from edgestream.models.families.streammind import PatchMean
from edgestream.models.frame_tokens import FrameEncoder
from edgestream.models.perception_gate import PerceptionConnector, PerceptionGate
from edgestream.models.qwen2_5_vl_vision import Merger, WindowTower

EVENTS = 14


class Watch(nn.Module):
    """The watch path: a picture and the gate's state in, scores, embeds and the new state out.

    Pixels (1, side, side, 3) uint8 → scores (1, events); embeds (1, tokens, hidden); conv, ssm.

    Args:
        shape: sizes of everything.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.vision, self.connector, dim = _seeing(shape)
        self.has_perception = shape.tower == "clip"
        if self.has_perception:
            width = shape.text["hidden_size"]
            self.gate: PerceptionGate | CognitionGate = PerceptionGate(
                ExtractorShape(dim=dim, width=width), decoder_config(shape), shape.gate_layers
            )
        else:
            self.gate = CognitionGate(GateShape(dim=dim, events=EVENTS, reads=("summary",)))

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, state and embeds."""
        return next(self.parameters()).dtype

    def first_state(self) -> tuple[Tensor, Tensor]:
        """conv and ssm before the first frame."""
        return self.gate.first_state()

    def forward(self, pixels: Tensor, conv: Tensor, ssm: Tensor) -> tuple[Tensor, ...]:
        x = pixels.to(self.dtype).permute(0, 3, 1, 2) / 127.5 - 1.0
        tokens, summary = self.vision(x)
        if self.has_perception:
            scores, told, conv, ssm = self.gate(tokens, conv, ssm)
            return scores, self.connector(tokens, told), conv, ssm
        dt_s = torch.full_like(summary[:, :1], 1.0 / self.shape.fps)
        scores, _, conv, ssm = self.gate(summary, dt_s, conv, ssm)
        return scores, self.connector(tokens), conv, ssm


@dataclass(frozen=True, slots=True)
class Random:
    """A model of a shape on a device.

    Attributes:
        shape: its sizes.
        watch: what sees.
        decoder: a causal language model of `transformers`.
        device: where both are.
        dtype: of both.
    """

    shape: Shape
    watch: Watch
    decoder: Any
    device: torch.device
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Of all weights."""
        parts = (*self.watch.parameters(), *self.decoder.parameters())
        return sum(one.nbytes for one in parts)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeds of tokens (1, n), (1, n, hidden)."""
        rows: Tensor = self.decoder.get_input_embeddings()(ids)
        return rows


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Random:
    """A model with random weights, the same ones for the same seed and device.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    auto: Any = AutoModelForCausalLM
    with torch.device(device), no_init_weights():
        decoder = auto.from_config(decoder_config(shape), dtype=dtype, attn_implementation="sdpa")
    with no_init_weights():
        watch = Watch(shape)
    watch = watch.to(device=device, dtype=dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for part in (watch, decoder):
        part.eval().requires_grad_(False)
        _fill_(part, generator)
    decoder.tie_weights()
    return Random(shape, watch, decoder, device, dtype)


def decoder_config(shape: Shape) -> Any:
    """The decoder's config of `transformers`."""
    from transformers import AutoConfig

    return AutoConfig.for_model(shape.model_type, **shape.text)


def _fill_(part: nn.Module, generator: torch.Generator) -> None:
    """As an initialisation leaves it: ones in norms, zeros in biases, rows of about unit length."""
    for name, weight in part.named_parameters():
        if name.endswith("A_log"):
            continue  # a rate has no random sign
        if weight.ndim < 2:
            weight.fill_(1.0 if name.endswith(("weight", ".D")) else 0.0)
        else:
            weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)


def _seeing(shape: Shape) -> tuple[nn.Module, nn.Module, int]:
    """Tower, connector, and the width of the tower's summary."""
    hidden, sizes = shape.text["hidden_size"], dict(shape.vision)
    if shape.tower == "siglip":
        from transformers import SiglipVisionConfig, SiglipVisionModel

        siglip = SiglipVisionModel(SiglipVisionConfig(**sizes))
        dim = siglip.config.hidden_size
        return FrameEncoder(siglip, shape.frame_tokens), Connector(dim, hidden), dim
    if shape.tower == "clip":
        from transformers import CLIPVisionConfig, CLIPVisionModel

        clip = CLIPVisionModel(CLIPVisionConfig(**sizes))
        layers = clip.config.num_hidden_layers - 1  # the last but one, as StreamMind reads it
        return PatchMean(clip, layers), PerceptionConnector(), clip.config.hidden_size
    if shape.tower == "smolvlm":
        return _smolvlm(shape, sizes, hidden)
    return _qwen(shape, sizes)


def _smolvlm(shape: Shape, sizes: Any, hidden: int) -> tuple[nn.Module, nn.Module, int]:
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer

    scale = smolvlm_scale(shape)
    config = SmolVLMVisionConfig(**sizes)
    vision = SmolVlmVision(SmolVLMVisionTransformer(config), scale, shape.side_px)
    assert vision.tokens == shape.frame_tokens
    connector = nn.Linear(config.hidden_size * scale * scale, hidden, bias=False)
    return vision, connector, config.hidden_size


def _qwen(shape: Shape, sizes: Any) -> tuple[nn.Module, nn.Module, int]:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
        Qwen2_5_VisionTransformerPretrainedModel,
    )

    config = Qwen2_5_VLVisionConfig(**sizes)
    tower = Qwen2_5_VisionTransformerPretrainedModel(config)
    patches = shape.side_px // config.patch_size
    vision = WindowTower(tower, (patches, patches))
    return vision, Merger(tower.merger), config.hidden_size
