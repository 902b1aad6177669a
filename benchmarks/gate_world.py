"""Clips of the rendered world as a gate reads them, and what may be asked about them.

What frozen vision and the base's own gate make of a clip is computed once and kept, a file for
every few clips: a run that was cut short goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgestream.evaluation.world import WorldRules
from edgestream.models.cognition_gate import CognitionGate
from edgestream.models.family import Checkpoint
from edgestream.models.frame_tokens import FrameEncoder
from edgestream.training.seeing import seen
from edgestream.training.vision_batches import rendered_batch

FRAMES, CLIPS_A_FILE = 40, 20
REUSED = 0.3
"""Share of clips whose still frames bring the tokens of an earlier frame, as on the device."""
ASKS: Mapping[str, str] = {
    "cut": "the scene changes",
    "fade_out": "the picture fades to black",
    "fade_in": "the picture fades in",
    "dark": "it gets darker",
    "bright": "it gets brighter",
    "pan": "the camera pans",
    "zoom": "the camera zooms",
    "shake": "the camera shakes",
    "blur": "the picture gets blurry",
    "enter": "something enters",
    "leave": "something leaves",
    "start": "something starts to move",
    "stop": "something stops",
    "meet": "something meets another object",
}
"""Event type → what is asked for; all of it words of the reference assistant."""
PHRASINGS = ("Tell me when {}.", "Can you tell me when {}?")


@dataclass(frozen=True, slots=True)
class ClipSet:
    """Which clips.

    Attributes:
        name: of the files.
        first_seed: of the clips.
        rules: of the world; other `first_look`, other backgrounds and things.
    """

    name: str
    first_seed: int
    rules: WorldRules


SETS = {
    one.name: one
    for one in (
        ClipSet("train", 700_000_000, WorldRules()),
        ClipSet("threshold", 2**30 + 400_000, replace(WorldRules(), first_look=500_000, looks=96)),
        ClipSet("held_out", 2**30 + 500_000, replace(WorldRules(), first_look=700_000, looks=96)),
    )
}
"""To learn from, to choose thresholds on, and to be scored on: no clip and no look is in two."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenClips:
    """N clips of FRAMES frames, as a gate reads them.

    Attributes:
        tokens: (N, T, 10, dim) float16; likewise summary (N, T, dim), motion (N, T, 6, 7, 7) and
            states (N, T, width), of the base's extractor.
        dt_s: (N, T) float32, seconds.
        events: (N, T, 14) bool: begins at this frame, in the order of EVENT_TYPES.
    """

    tokens: NDArray[np.float16]
    summary: NDArray[np.float16]
    motion: NDArray[np.float16]
    states: NDArray[np.float16]
    dt_s: NDArray[np.float32]
    events: NDArray[np.bool_]


def clips_of(checkpoint: Checkpoint, which: ClipSet, count: int, folder: Path) -> SeenClips:
    """So many clips of a set, seen where the folder does not have them yet.

    Cost: about 4 ms of CPU a frame, of which rendering is a quarter; 3.7 kB a frame on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, count, CLIPS_A_FILE):
        path = folder / f"{which.name}-{first:05d}.npz"
        if not path.is_file():
            made = _seen(checkpoint, which, first)
            fresh = path.with_suffix(".new.npz")
            np.savez(fresh, **made)  # type: ignore[arg-type]  # the stub takes every keyword for its flag
            fresh.replace(path)
            print(f"{which.name}: {first + CLIPS_A_FILE} of {count} clips seen", flush=True)
        with np.load(path) as found:
            parts.append({name: found[name] for name in SeenClips.__slots__})
    joined = {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
    return SeenClips(**joined)


def few_of(clips: SeenClips, count: int) -> SeenClips:
    """The first ones."""
    return SeenClips(*(getattr(clips, name)[:count] for name in SeenClips.__slots__))


@torch.inference_mode()
def _seen(checkpoint: Checkpoint, which: ClipSet, first: int) -> dict[str, NDArray[np.generic]]:
    vision, gate = checkpoint.vision, checkpoint.gate
    assert isinstance(vision, FrameEncoder) and isinstance(gate, CognitionGate)
    seeds = [which.first_seed + first + at for at in range(CLIPS_A_FILE)]
    batch = rendered_batch(seeds, FRAMES, which.rules, reused=REUSED)
    rows = [seen(vision, *pair)[:2] for pair in zip(batch.colours, batch.maps, strict=True)]
    clips = torch.arange(len(seeds))[:, None]
    tokens, summary = (torch.stack(part)[clips, batch.source] for part in zip(*rows, strict=True))
    told = gate.sequence(tokens, summary, batch.maps, batch.dt_s)
    halves = {"tokens": tokens, "summary": summary, "motion": batch.maps,
              "states": told.state_summary}  # fmt: skip
    found: dict[str, NDArray[np.generic]] = {
        name: part.numpy().astype(np.float16) for name, part in halves.items()
    }
    return {**found, "dt_s": batch.dt_s.numpy(), "events": batch.events.numpy() > 0}
