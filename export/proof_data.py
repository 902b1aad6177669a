"""What the proofs are measured on: frames, prefixes and answers, made of the calibration set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..calibration.dataset import CalibrationSet
from ..calibration.decoder_calls import Stretch
from ..models.family import Checkpoint
from ..runtime.motion import MotionDetector
from ..runtime.motion_input import vision_input
from ..runtime.preprocess import small_picture
from ..runtime.prompt import prompt_embeds, prompt_positions
from ..runtime.prompt_layout import ids_of
from ..runtime.values import Float32

FRAMES = 32
"""Frames that vision is compared on; more move the figures by less than their last digit."""
PREFIXES = 64
PREFIX_LENGTHS = (16, 24, 32, 48)
ANSWERS, ANSWER_TOKENS = 12, 24
FEWEST_OTHERS = 16
"""Frames that are not of the proof, so that calibrated schemes can be fitted to them alone."""


@dataclass(frozen=True, slots=True, eq=False)
class ProofData:
    """Inputs of the proofs, all from the full-precision checkpoint.

    Attributes:
        pixels: of each frame, (1, channels, height, width) float32.
        maps: of each frame, (1, 6, 7, 7) float32: what moved since the frame before it in the set.
        tokens: of each frame, (1, tokens, dim) float32, from vision in PyTorch.
        summaries: of each frame, (1, dim) float32.
        states: of each frame, (1, width) float32: the gate's state_summary along the frames, from
            PyTorch; none without a gate.
        embeds: of each frame, (1, tokens, hidden) float32, from the connector in PyTorch.
        prefixes: the ends of prompts, PREFIX_LENGTHS long.
        prompts: whole prompts; ANSWERS of them are answered.
        texts: token ids of the calibration texts, at least two each.
        query: (1, hidden) float32: what a gate looks for; the mean of the embeddings of a text.
    """

    pixels: tuple[Float32, ...]
    maps: tuple[Float32, ...]
    tokens: tuple[Float32, ...]
    summaries: tuple[Float32, ...]
    states: tuple[Float32, ...]
    embeds: tuple[Float32, ...]
    prefixes: tuple[Stretch, ...]
    prompts: tuple[Stretch, ...]
    texts: tuple[tuple[int, ...], ...]
    query: Float32


def proof_data(
    checkpoint: Checkpoint, calibration: CalibrationSet, *, is_for_fitting: bool = False
) -> ProofData:
    """The inputs of the proofs.

    Args:
        checkpoint: full precision.
        calibration: frames at the model's input size.
        is_for_fitting: other frames than those of the proof, for what calibrated schemes are
            fitted to; behind the prompts with questions the frames are described without one, as
            when an event opens. A set of few frames has too few others; then they are the same.

    Cost: vision over FRAMES frames in PyTorch: 14 s for SigLIP-B/224 on one core.
    """
    chosen = _chosen(len(calibration.frames), is_for_fitting)
    moved = _maps(calibration)
    maps = tuple(moved[index][None] for index in chosen)
    pixels = tuple(
        vision_input(calibration.frames[index], moved[index], checkpoint.frame_input)
        for index in chosen
    )
    seen = [_seen(checkpoint, one) for one in pixels]
    tokens, summaries = tuple(one[0] for one in seen), tuple(one[1] for one in seen)
    states = _states(checkpoint, tokens, summaries, maps)
    embeds = _embeds(checkpoint, tokens, states)
    prompts = tuple(
        _prompt(checkpoint, embeds, number, calibration.prompts) for number in range(PREFIXES)
    )
    if is_for_fitting:
        prompts += tuple(_prompt(checkpoint, embeds, number, ()) for number in range(PREFIXES))
    prefixes = tuple(
        prompt.part(-PREFIX_LENGTHS[number % len(PREFIX_LENGTHS)], None)
        for number, prompt in enumerate(prompts)
    )
    texts = [ids_of(checkpoint.tokenizer, text) for text in calibration.prompts]
    return ProofData(
        pixels,
        maps,
        tokens,
        summaries,
        states,
        embeds,
        prefixes,
        prompts,
        tuple(ids for ids in texts if len(ids) > 1),
        _query(checkpoint, texts),
    )


def _query(checkpoint: Checkpoint, texts: Sequence[Sequence[int]]) -> Float32:
    """The first of the texts that the tokenizer knows; a token of the table where it knows none."""
    ids = next((ids for ids in texts if ids), (0,))
    mean: Float32 = checkpoint.token_rows(ids).mean(axis=0, keepdims=True, dtype=np.float32)
    return mean


def _chosen(count: int, is_for_fitting: bool) -> NDArray[np.int64]:
    """Numbers of the frames: even ones of all, or even ones of the others."""
    proven = np.linspace(0, count - 1, FRAMES).astype(np.int64)
    others = np.setdiff1d(np.arange(count), proven)
    if not is_for_fitting or len(others) < FEWEST_OTHERS:
        return proven
    return others[np.linspace(0, len(others) - 1, FRAMES).astype(np.int64)]


def _maps(calibration: CalibrationSet) -> list[Float32]:
    """(6, 7, 7) of each frame; where time goes back another clip begins."""
    detector, maps, last_s = MotionDetector(), [], -1.0
    for frame, time_s in zip(calibration.frames, calibration.times_s.tolist(), strict=True):
        if time_s <= last_s:
            detector.reset()
        maps.append(detector.step_small(small_picture(frame), time_s).maps.copy())
        last_s = time_s
    return maps


def _seen(checkpoint: Checkpoint, pixels: Float32) -> tuple[Float32, Float32]:
    with torch.inference_mode():
        tokens, summary = checkpoint.vision(torch.from_numpy(pixels))
    return tokens.numpy(), summary.numpy()


def _states(
    checkpoint: Checkpoint,
    tokens: Sequence[Float32],
    summaries: Sequence[Float32],
    maps: Sequence[Float32],
) -> tuple[Float32, ...]:
    """What the gate remembers at each frame, had they followed each other at the model's rate."""
    gate = checkpoint.gate
    if gate is None:
        return ()
    tokens_, summaries_, maps_ = (
        torch.from_numpy(np.stack(part, axis=1)) for part in (tokens, summaries, maps)
    )
    dt_s = torch.full((1, len(tokens)), 1.0 / checkpoint.frame_input.fps)
    with torch.inference_mode():
        told = gate.sequence(tokens_, summaries_, maps_, dt_s).state_summary[0].numpy()
    return tuple(one[None] for one in told)


def _embeds(
    checkpoint: Checkpoint, tokens: Sequence[Float32], states: Sequence[Float32]
) -> tuple[Float32, ...]:
    read = (tokens, states) if checkpoint.connector_reads_state else (tokens,)
    with torch.inference_mode():
        return tuple(
            checkpoint.connector(*map(torch.from_numpy, given)).numpy()
            for given in zip(*read, strict=True)
        )


def _prompt(
    checkpoint: Checkpoint, embeds: Sequence[Float32], number: int, questions: Sequence[str]
) -> Stretch:
    """Prompt `number`: one to three frames in a row and a question, all in turn.

    Without questions the frames are to be described, as when an event opens.
    """
    first, count = number % len(embeds), 1 + number % 3
    frames = [embeds[(first + step) % len(embeds)][0] for step in range(count)]

    def rows(ids: Sequence[int]) -> Float32:
        found = checkpoint.token_rows(ids)
        return np.pad(found, ((0, 0), (0, checkpoint.row_width - found.shape[1])))

    def encode(text: str) -> Sequence[int]:
        return ids_of(checkpoint.tokenizer, text)

    layout = checkpoint.layout
    question = questions[number % len(questions)] if questions else layout.describe or None
    found_embeds = prompt_embeds(layout, encode, rows, frames, question)
    axes, grid = checkpoint.positions.axes, checkpoint.positions.frame_grid
    if axes == 1:
        return Stretch(found_embeds)
    if grid is None:
        places = np.arange(len(found_embeds))
        return Stretch(found_embeds, np.broadcast_to(places, (axes, len(places))))
    return Stretch(found_embeds, prompt_positions(layout, encode, frames, question, grid))
