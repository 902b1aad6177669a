"""Checkpoints for tests and benchmarks: real architectures with random weights, made in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from edgestream.models.checkpoint import save_checkpoint
from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.models.connector import Connector
from edgestream.models.families.live import live_modules
from edgestream.models.frame_tokens import FrameEncoder
from edgestream.models.gate_files import GateMeaning, gate_as_json
from edgestream.models.transformers_parts import DECODERS, TOWERS, config_as_json

from .small_tokenizer import SYSTEM, TEXT, trained_tokenizer

EVENTS = ("cut", "dark")

TOWER_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
             "num_attention_heads": 4, "image_size": 64, "patch_size": 16},
    "135m": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
             "num_attention_heads": 12, "image_size": 224, "patch_size": 16},
}  # fmt: skip
# No layer of "tiny" is as wide as its vocabulary of about 500, also not when projections are fused.
DECODER_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
             "rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
             "vocab_size": 49152, "rms_norm_eps": 1e-5,
             "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0}},
}  # fmt: skip


def random_live_checkpoint(
    folder: Path,
    size: str = "tiny",
    seed: int = 0,
    *,
    tower: str = "siglip_vision_model",
    decoder: str = "llama",
    is_tied: bool = True,
    tokens_per_frame: int = 10,
    has_gate: bool = False,
    max_shard_bytes: int | None = None,
) -> Path:
    """A checkpoint of the family `live` with random weights; the same arguments, the same bytes.

    Args:
        folder: where it is written.
        size: `tiny` (0.3 M parameters, 64 px) or `135m` (SmolLM2-135M and SigLIP-B/224, 230 M).
        tower: a key of `TOWERS`.
        decoder: a key of `DECODERS`.

    Returns:
        The folder.
    """
    tokenizer = trained_tokenizer(TEXT)
    sizes = {"vocab_size": tokenizer.get_vocab_size(), **DECODER_SIZES[size]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        llm = new_model(DECODERS[decoder], **sizes, tie_word_embeddings=is_tied)
        seen = new_model(TOWERS[tower], **TOWER_SIZES[size])
        connector = Connector(seen.config.hidden_size, llm.config.hidden_size)
        dim = seen.config.hidden_size
        gate = CognitionGate(GateShape(dim, 1, len(EVENTS), width=32, reads=("summary",)))
        for name, weight in llm.named_parameters():
            # Wider logits than an initialisation gives, so that the best token is no tie.
            if weight.ndim == 2 and "embed" not in name:
                weight.data.mul_(2.0)
    facts = gate_as_json(gate.shape, GateMeaning(EVENTS, dict.fromkeys(EVENTS, 0.5)))
    save_checkpoint(
        folder,
        live_config(f"random-{size}", llm, seen, tokenizer, tokens_per_frame=tokens_per_frame),
        live_modules(llm, FrameEncoder(seen, tokens_per_frame), connector),
        tokenizer,
        gate=(gate, facts) if has_gate else None,
        max_shard_bytes=max_shard_bytes,
    )
    return folder


def live_config(
    name: str,
    decoder: PreTrainedModel,
    tower: PreTrainedModel,
    tokenizer: Tokenizer,
    *,
    tokens_per_frame: int = 10,
) -> dict[str, Any]:
    """config.json of a checkpoint of the family `live`."""
    prompt = {"system": SYSTEM, "bos": "<s>", "stop": "</s>", "max_answer_tokens": 100}
    return {
        "edgestream_family": "live",
        "name": name,
        "revision": None,
        "licence": "Apache-2.0",
        "tokens_per_frame": tokens_per_frame,
        "fps": 2,
        "max_gap_s": 1.0,
        "unused_token_ids": decoder.config.vocab_size - tokenizer.get_vocab_size(),
        # One token a frame is VideoLLM-online's v1, which is silent with its stop token.
        "prompt": prompt if tokens_per_frame == 1 else {**prompt, "join": ","},
        "vision_config": config_as_json(tower.config),
        "text_config": config_as_json(decoder.config),
    }


def new_model(kind: tuple[type, type], **sizes: Any) -> PreTrainedModel:
    """A model of `TOWERS` or `DECODERS`, initialised as transformers does."""
    config_class, model_class = kind
    return model_class(config_class(**sizes)).eval()
