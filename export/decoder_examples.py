"""What a data-aware decoder is calibrated on: prompts, and what full precision answers to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..calibration.cache_ranges import CacheScales, cache_scales
from ..calibration.hessians import Hessians
from ..models.family import Checkpoint
from ..runtime.values import Float32
from .decoder_onnx import decoder_weights
from .proof_data import ProofData

ANSWER_TOKENS = 24
"""Of each answer, as in the proof."""


def decoder_hessians(checkpoint: Checkpoint, examples: ProofData) -> Hessians:
    """What each matrix of the decoder reads in prompts and answers of calibration.

    Args:
        checkpoint: full precision.
        examples: of other frames than those of the proof.

    Cost: greedy answers to all prompts in PyTorch; the rest as `Hessians` says.
    """
    config = checkpoint.decoder.config
    weights = decoder_weights(config.num_hidden_layers, is_tied=config.tie_word_embeddings)
    # Matrices that are packed into one read the same.
    names = [weight.parameters[0] for weight in weights]
    return Hessians(checkpoint.decoder, names, answered(checkpoint, examples.prompts))


def decoder_cache_scales(checkpoint: Checkpoint, examples: ProofData) -> tuple[CacheScales, ...]:
    """Scales of an int8 cache, of each layer; see `decoder_hessians`."""
    return cache_scales(checkpoint.decoder, answered(checkpoint, examples.prompts))


def answered(checkpoint: Checkpoint, prompts: Sequence[Float32]) -> list[Float32]:
    """Each prompt with the greedy answer behind it, (positions, hidden) float32."""
    found: list[Float32] = []
    for length in sorted({len(prompt) for prompt in prompts}):
        alike = np.stack([prompt for prompt in prompts if len(prompt) == length])
        found += _continued(checkpoint, alike)
    return found


def _continued(checkpoint: Checkpoint, prompts: Float32) -> list[Float32]:
    """Prompts of one length, (count, positions, hidden)."""
    decoder, stops = checkpoint.decoder, checkpoint.layout.stop_ids
    embed = decoder.get_input_embeddings()
    rows, inputs, past = [prompts], torch.from_numpy(prompts), None
    said = np.zeros((len(prompts), 0), np.int64)
    with torch.inference_mode():
        for _ in range(ANSWER_TOKENS):
            out = decoder(
                inputs_embeds=inputs, past_key_values=past, use_cache=True, logits_to_keep=1
            )
            tokens = out.logits[:, -1].argmax(-1)
            said = np.concatenate([said, tokens.numpy()[:, None]], axis=1)
            inputs, past = embed(tokens[:, None]), out.past_key_values
            rows.append(inputs.numpy())
    whole = np.concatenate(rows, axis=1)
    lengths = [_length(one, stops) for one in said]
    return [one[: prompts.shape[1] + count] for one, count in zip(whole, lengths, strict=True)]


def _length(said: np.ndarray, stops: Sequence[int]) -> int:
    """Tokens up to the first that ends an answer; that one is never read."""
    ends = np.flatnonzero(np.isin(said, list(stops)))
    return int(ends[0]) if len(ends) else len(said)
