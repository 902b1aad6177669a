"""The cache between the stages: what frozen vision and gate give for clips, memory-mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.world import EVENT_TYPES
from ..models.gate_files import GateMeaning
from ..models.reference_model import ReferenceModel
from ..runtime.errors import CheckpointInvalid
from .gate_thresholds import openings_of, spoken_frames
from .reference_recipe import Recipe
from .team import Team
from .vision_batches import rendered_batch
from .vision_stage import gate_outputs

CLIPS_AT_ONCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class TokenCache:
    """Clips of one process.

    Attributes:
        seeds: of the clips; their truth is rendered again without pixels.
        tokens: (N, T, 10, dim) float16, memory-mapped.
        states: (N, T, width) float16, memory-mapped: the gate's summary.
        scores: (N, T, 15) float16: of the gate, `speak` first.
    """

    seeds: tuple[int, ...]
    tokens: NDArray[np.float16]
    states: NDArray[np.float16]
    scores: NDArray[np.float16]

    def spoken(self, meaning: GateMeaning) -> NDArray[np.bool_]:
        """(N, T): frames at which the gate makes a Turn."""
        ratio = meaning.close_ratio if meaning.close_ratio is not None else 0.8
        scores = np.asarray(self.scores, np.float32)
        opened = np.zeros(scores.shape[:2], np.bool_)
        for at, kind in enumerate(meaning.events):
            opened |= openings_of(scores, at, kind, meaning.thresholds[kind], ratio)
        return spoken_frames(scores[..., 0], opened, meaning.thresholds["speak"], ratio)


def fill_cache(
    folder: Path,
    model: ReferenceModel,
    recipe: Recipe,
    team: Team,
    is_full: Callable[[int], bool],
) -> int:
    """Write the cache of one process.

    Args:
        folder: it is made.
        model: frozen.
        recipe: how many clips at most, of what length.
        team: this process takes every size-th clip.
        is_full: asked with the number of batches that are done.

    Returns:
        Batches of CLIPS_AT_ONCE clips.

    Cost: about 3 ms a frame; 2.9 kB a frame on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames, shape = recipe.cache_frames, model.gate.shape
    device = str(next(model.parameters()).device)
    most = recipe.cache_clips // CLIPS_AT_ONCE * CLIPS_AT_ONCE
    sizes = {"tokens": (shape.tokens, shape.dim), "states": (shape.width,),
             "scores": (1 + len(EVENT_TYPES),)}  # fmt: skip
    files = {
        name: np.lib.format.open_memmap(
            folder / f"{name}-{team.rank}.npy", "w+", np.float16, (most, frames, *size)
        )
        for name, size in sizes.items()
    }
    seeds: list[int] = []
    done = 0
    while len(seeds) < most and not is_full(done):
        some = [
            recipe.clip_seed("cache", (len(seeds) + at) * team.size + team.rank)
            for at in range(CLIPS_AT_ONCE)
        ]
        batch = rendered_batch(some, frames, recipe.rules(), reused=recipe.reused).to(device)
        scores, _, tokens, states = gate_outputs(model, batch)
        for name, values in (("tokens", tokens), ("states", states), ("scores", scores)):
            files[name][len(seeds) : len(seeds) + CLIPS_AT_ONCE] = values.cpu().numpy()
        seeds += some
        done += 1
    for file in files.values():
        file.flush()
    facts = folder / f"seeds-{team.rank}.json"
    facts.with_suffix(".new").write_text(json.dumps(seeds))
    os.replace(facts.with_suffix(".new"), facts)
    return done


def open_cache(folder: Path, rank: int) -> TokenCache:
    """The cache of one process.

    Raises:
        CheckpointInvalid: it is not there, or not whole.
    """
    try:
        seeds = json.loads((folder / f"seeds-{rank}.json").read_text())
        parts = [
            np.load(folder / f"{name}-{rank}.npy", mmap_mode="r")[: len(seeds)]
            for name in ("tokens", "states", "scores")
        ]
    except (OSError, ValueError) as error:
        raise CheckpointInvalid(
            f"the cache in {folder} cannot be read: {error}",
            hint="begin anew with --force",
        ) from error
    return TokenCache(tuple(seeds), *parts)


def frame_parts(
    cache: TokenCache, frames: Sequence[tuple[int, int]], device: str
) -> tuple[Tensor, Tensor]:
    """Tokens and states of some (clip, frame) pairs, float32."""
    clips, at = (np.array(column) for column in zip(*frames, strict=True))
    tokens = torch.from_numpy(np.asarray(cache.tokens[clips, at], np.float32))
    states = torch.from_numpy(np.asarray(cache.states[clips, at], np.float32))
    return tokens.to(device), states.to(device)
