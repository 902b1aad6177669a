"""What the proofs are measured on: frames, prefixes and answers, made of the calibration set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..calibration.dataset import CalibrationSet
from ..models.family import Checkpoint
from ..runtime.preprocess import model_pixels
from ..runtime.prompt import prompt_embeds
from ..runtime.prompt_layout import ids_of
from ..runtime.values import Float32

FRAMES = 32
"""Frames that vision is compared on; more move the figures by less than their last digit."""
PREFIXES = 64
PREFIX_LENGTHS = (16, 24, 32, 48)
ANSWERS, ANSWER_TOKENS = 12, 24


@dataclass(frozen=True, slots=True, eq=False)
class ProofData:
    """Inputs of the proofs, all from the full-precision checkpoint.

    Attributes:
        pixels: of each frame, (1, channels, height, width) float32.
        tokens: of each frame, (1, tokens, dim) float32, from vision in PyTorch.
        summaries: of each frame, (1, dim) float32.
        embeds: of each frame, (1, tokens, hidden) float32, from the connector in PyTorch.
        prefixes: (positions, hidden) float32 each: prompts cut off at PREFIX_LENGTHS.
        prompts: (positions, hidden) float32 each: whole prompts, for answers.
        texts: token ids of the calibration texts, at least two each.
    """

    pixels: tuple[Float32, ...]
    tokens: tuple[Float32, ...]
    summaries: tuple[Float32, ...]
    embeds: tuple[Float32, ...]
    prefixes: tuple[Float32, ...]
    prompts: tuple[Float32, ...]
    texts: tuple[tuple[int, ...], ...]


def proof_data(checkpoint: Checkpoint, calibration: CalibrationSet) -> ProofData:
    """The inputs of the proofs.

    Args:
        checkpoint: full precision.
        calibration: frames at the model's input size.

    Cost: vision over FRAMES frames in PyTorch: 14 s for SigLIP-B/224 on one core.
    """
    chosen = np.linspace(0, len(calibration.frames) - 1, FRAMES).astype(int)
    pixels = tuple(
        model_pixels(calibration.frames[index], checkpoint.frame_input) for index in chosen
    )
    seen = [_seen(checkpoint, one) for one in pixels]
    embeds = tuple(one[2] for one in seen)
    prompts = tuple(
        _prompt(checkpoint, embeds, number, calibration.prompts) for number in range(PREFIXES)
    )
    prefixes = tuple(
        prompt[-PREFIX_LENGTHS[number % len(PREFIX_LENGTHS)] :]
        for number, prompt in enumerate(prompts)
    )
    texts = (ids_of(checkpoint.tokenizer, text) for text in calibration.prompts)
    return ProofData(
        pixels,
        tuple(one[0] for one in seen),
        tuple(one[1] for one in seen),
        embeds,
        prefixes,
        prompts[:ANSWERS],
        tuple(ids for ids in texts if len(ids) > 1),
    )


def _seen(checkpoint: Checkpoint, pixels: Float32) -> tuple[Float32, Float32, Float32]:
    with torch.inference_mode():
        tokens, summary = checkpoint.vision(torch.from_numpy(pixels))
        embeds = checkpoint.connector(tokens)
    return tokens.numpy(), summary.numpy(), embeds.numpy()


def _prompt(
    checkpoint: Checkpoint, embeds: Sequence[Float32], number: int, questions: Sequence[str]
) -> Float32:
    """Prompt `number`: one to three frames in a row and a question, all in turn."""
    first, count = number % len(embeds), 1 + number % 3
    frames = [embeds[(first + step) % len(embeds)][0] for step in range(count)]
    table = checkpoint.embeddings

    def rows(ids: Sequence[int]) -> Float32:
        found: Float32 = table[torch.tensor(list(ids), dtype=torch.long)].numpy()
        return found

    return prompt_embeds(
        checkpoint.layout,
        lambda text: ids_of(checkpoint.tokenizer, text),
        rows,
        frames,
        questions[number % len(questions)],
    )
