"""What a data-aware decoder is calibrated on: prompts, and what full precision answers to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..calibration.cache_ranges import CacheScales, cache_scales
from ..calibration.decoder_calls import Stretch
from ..calibration.hessians import Hessians, position_ids
from ..models.family import Checkpoint
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


def answered(checkpoint: Checkpoint, prompts: Sequence[Stretch]) -> list[Stretch]:
    """Each prompt with the greedy answer behind it."""
    found: list[Stretch] = []
    for length in sorted({len(prompt) for prompt in prompts}):
        found += _continued(checkpoint, [prompt for prompt in prompts if len(prompt) == length])
    return found


def _continued(checkpoint: Checkpoint, prompts: Sequence[Stretch]) -> list[Stretch]:
    """Prompts of one length."""
    decoder, stops = checkpoint.decoder, checkpoint.layout.stop_ids
    embed = decoder.get_input_embeddings()
    read, past = [[prompt] for prompt in prompts], None
    said = np.zeros((len(prompts), 0), np.int64)
    with torch.inference_mode():
        for step in range(ANSWER_TOKENS):
            newest = [parts[-1] for parts in read]
            out = decoder(
                inputs_embeds=torch.from_numpy(np.stack([one.embeds for one in newest])),
                position_ids=position_ids(newest),
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            tokens, past = out.logits[:, -1].argmax(-1), out.past_key_values
            said = np.concatenate([said, tokens.numpy()[:, None]], axis=1)
            for parts, row in zip(read, embed(tokens).numpy(), strict=True):
                parts.append(parts[0].after(row[None], step))
    lengths = [_length(one, stops) for one in said]
    return [_joined(parts[: 1 + count]) for parts, count in zip(read, lengths, strict=True)]


def _joined(parts: Sequence[Stretch]) -> Stretch:
    places = [one.positions for one in parts if one.positions is not None]
    positions = np.concatenate(places, axis=1) if places else None
    return Stretch(np.concatenate([one.embeds for one in parts]), positions)


def _length(said: np.ndarray, stops: Sequence[int]) -> int:
    """Tokens up to the first that ends an answer; that one is never read."""
    ends = np.flatnonzero(np.isin(said, list(stops)))
    return int(ends[0]) if len(ends) else len(said)
