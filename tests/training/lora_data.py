"""Dialogues about made-up features, a small reference assistant and a recipe, for tests of LoRA."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgestream.models.families.reference import Reference
from edgestream.models.family import Checkpoint, LoadOptions
from edgestream.models.reference_layout import encoder_of
from edgestream.training.dialogues import Dialogue, Turn
from edgestream.training.features import VideoFeatures
from edgestream.training.live_rows import RowWriter
from edgestream.training.lora_data import LiveStream, live_stream

from ..reference_checkpoints import small_reference_checkpoint

TURNS = (
    Turn(1.0, "assistant", "It gets dark."),
    Turn(1.5, "user", "Is it dark?"),
    Turn(1.5, "assistant", "Yes."),
    Turn(3.0, "assistant", "The scene changes."),
)


def small_checkpoint(folder: Path) -> Checkpoint:
    return Reference().load(small_reference_checkpoint(folder, looks_trained=True), LoadOptions())


def made_up(checkpoint: Checkpoint, frames: int, seed: int) -> VideoFeatures:
    """Features of noise; the frames at which something is said have a mark that can be learned."""
    rng = np.random.default_rng(seed)
    assert checkpoint.gate is not None
    shape = checkpoint.gate.shape
    tokens = rng.normal(0, 0.3, (frames, shape.tokens, shape.dim))
    states = rng.normal(0, 0.3, (frames, shape.width))
    for mark, frame in ((1.0, 4), (-1.0, 12)):
        if frame < frames:
            tokens[frame] += 3 * mark
            states[frame] += 3 * mark
    summary = tokens[:, 0] / np.linalg.norm(tokens[:, 0], axis=-1, keepdims=True)
    half = (tokens.astype(np.float16), summary.astype(np.float16), states.astype(np.float16))
    times_s = np.arange(frames) / 4
    return VideoFeatures(times_s, *half, None, np.zeros(frames, np.bool_))


def streams_of(checkpoint: Checkpoint, count: int, first: int = 0) -> list[LiveStream]:
    writer = writer_of(checkpoint)
    dialogues = [Dialogue(Path(f"{first + at}.mp4"), TURNS, place=f"x:{at}") for at in range(count)]
    return [
        live_stream(one, made_up(checkpoint, 16, first + at), writer)
        for at, one in enumerate(dialogues)
    ]


def writer_of(checkpoint: Checkpoint) -> RowWriter:
    encode = encoder_of(checkpoint.tokenizer)
    return RowWriter(checkpoint.layout, encode, checkpoint.tokens_per_frame)
