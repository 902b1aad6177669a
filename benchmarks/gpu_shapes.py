"""The models whose speed on a GPU is measured: sizes alone, since their weights are random.

Sizes are those of the published configurations. `tiny` keeps each architecture and shrinks every
number, so that the same code runs on any processor within seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Tower = Literal["siglip", "clip", "smolvlm", "qwen2_5_vl"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One model that watches a stream.

    Attributes:
        name: in snake case.
        title: for people.
        tower: which vision tower, and with it connector and gate: `siglip` as VideoLLM-online,
            `clip` as StreamMind, the others as on the Hub, with a gate that reads the summary.
        vision: sizes of the tower, in the words of its config.
        side_px: of a frame, square.
        frame_tokens: that one frame puts into the cache, the joining one not counted.
        model_type: of the decoder.
        text: sizes of the decoder, in the words of its config.
        fps: frames a second of the stream that is kept up.
        capacity: slots of the bounded cache.
        prefill_tokens: of a prompt into an empty cache.
        gate_layers: layers of the language model that the gate of `clip` consists of.
    """

    name: str
    title: str
    tower: Tower
    vision: Mapping[str, Any]
    side_px: int
    frame_tokens: int
    model_type: Literal["llama", "mistral", "qwen2"]
    text: Mapping[str, Any]
    fps: float
    capacity: int
    prefill_tokens: int
    gate_layers: int = 4


def _text(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int,
          theta: float, **more: Any) -> Mapping[str, Any]:  # fmt: skip
    return {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "bos_token_id": 0, "eos_token_id": 1, **more,
    }  # fmt: skip


def _tower(hidden: int, inner: int, layers: int, heads: int, side_px: int, patch_px: int,
           **more: Any) -> Mapping[str, Any]:  # fmt: skip
    return {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "image_size": side_px, "patch_size": patch_px, **more,
    }  # fmt: skip


def _qwen_tower(hidden: int, inner: int, depth: int, heads: int, out: int) -> Mapping[str, Any]:
    return {
        "depth": depth, "hidden_size": hidden, "intermediate_size": inner, "num_heads": heads,
        "out_hidden_size": out, "fullatt_block_indexes": list(range(depth // 4 - 1, depth,
                                                                    max(depth // 4, 1))),
        "window_size": 112, "patch_size": 14, "spatial_merge_size": 2,
    }  # fmt: skip


SHAPES: Mapping[str, Shape] = MappingProxyType({
    one.name: one for one in (
        Shape("videollm_online_8b", "VideoLLM-online (SigLIP-L/384, Llama-3-8B)", "siglip",
              _tower(1024, 4096, 24, 16, 384, 16), 384, 10, "llama",
              _text(4096, 14336, 32, 32, 8, 128256, 5e5),
              fps=10.0, capacity=2048, prefill_tokens=1024),
        Shape("streammind_7b", "StreamMind (CLIP-L/336, Mistral-7B)", "clip",
              _tower(1024, 4096, 24, 16, 336, 14, projection_dim=768), 336, 1, "mistral",
              _text(4096, 14336, 32, 32, 8, 32000, 1e4, sliding_window=None),
              fps=10.0, capacity=512, prefill_tokens=256),
        Shape("smolvlm2_500m", "SmolVLM2-500M", "smolvlm",
              _tower(768, 3072, 12, 12, 512, 16), 512, 64, "llama",
              _text(960, 2560, 32, 15, 5, 49280, 1e5, tie_word_embeddings=True),
              fps=2.0, capacity=2048, prefill_tokens=1024),
        Shape("qwen2_5_vl_3b", "Qwen2.5-VL-3B", "qwen2_5_vl",
              _qwen_tower(1280, 3420, 32, 16, 2048), 224, 64, "qwen2",
              _text(2048, 11008, 36, 16, 2, 151936, 1e6, tie_word_embeddings=True),
              fps=2.0, capacity=2048, prefill_tokens=1024),
    )
})  # fmt: skip
"""In real size. Llama, Mistral and SmolVLM2 as published; of Qwen2.5-VL the language model turns
positions of one axis, not three, which is a little less work for every peer alike."""

_WORDS = _text(64, 128, 2, 4, 2, 300, 1e4)
TINY: Mapping[str, Shape] = MappingProxyType({
    one.name: one for one in (
        Shape("videollm_online_8b", "VideoLLM-online, tiny", "siglip",
              _tower(64, 128, 2, 4, 48, 16), 48, 10, "llama", _WORDS,
              fps=0.5, capacity=96, prefill_tokens=48),
        Shape("streammind_7b", "StreamMind, tiny", "clip",
              _tower(64, 128, 3, 4, 42, 14, projection_dim=64), 42, 1, "mistral",
              {**_WORDS, "sliding_window": None},
              fps=1.0, capacity=96, prefill_tokens=48, gate_layers=1),
        Shape("smolvlm2_500m", "SmolVLM2, tiny", "smolvlm",
              _tower(64, 128, 2, 4, 64, 16), 64, 4, "llama", {**_WORDS,
                                                               "tie_word_embeddings": True},
              fps=0.5, capacity=64, prefill_tokens=32),
        Shape("qwen2_5_vl_3b", "Qwen2.5-VL, tiny", "qwen2_5_vl",
              _qwen_tower(64, 96, 4, 4, 64), 56, 4, "qwen2", {**_WORDS,
                                                               "tie_word_embeddings": True},
              fps=0.5, capacity=64, prefill_tokens=32),
    )
})  # fmt: skip
"""The same architectures, as small as they run."""


def smolvlm_scale(shape: Shape) -> int:
    """Patches along each side of one token, so that a frame has as many tokens as it says."""
    grid: int = shape.side_px // shape.vision["patch_size"]
    return int(grid // shape.frame_tokens**0.5)
