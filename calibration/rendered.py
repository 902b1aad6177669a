"""The calibration set that is used where none is given: frames of the rendered test clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime.scripted import render
from ..runtime.scripted_stories import SCRIPTS
from .dataset import CalibrationSet, make_calibration_set

SOURCE = "rendered test clips"
FRAMES = 64
"""Enough for the 64 prefixes of the engine gate to have a frame each."""
# What the clips are made of: our own code, so our own licence.
LICENCES = ("Apache-2.0",)


def default_calibration(
    folder: Path,
    size_px: tuple[int, int],
    prompts: Sequence[str],
    *,
    count: int = FRAMES,
    seed: int = 0,
    force: bool = False,
) -> CalibrationSet:
    """Write a calibration set of frames spread evenly over all rendered clips.

    Args:
        folder, force: as for `make_calibration_set`.
        size_px: (height, width) of the model's input, px.
        prompts: texts for the language model.
        count: how many frames; 16 or more.
        seed: variant of the clips.

    Raises:
        As `make_calibration_set`.

    Cost: 1.6 s for 64 frames of 224 x 224, most of it for painting the scenes.
    """
    shares = np.array_split(np.arange(count), len(SCRIPTS))
    frames, times_s = [], []
    for script, share in zip(SCRIPTS.values(), shares, strict=True):
        length_s = script.story(seed).length_s
        pictures = list(render(script, max(len(share), 1) / length_s, seed, size_px))
        for time_s, pixels in pictures[: len(share)]:
            frames.append(pixels)
            times_s.append(time_s)
    settings = {"clips": list(SCRIPTS), "seed": seed, "size_px": list(size_px)}
    return make_calibration_set(
        folder,
        np.stack(frames),
        times_s,
        prompts,
        source=SOURCE,
        licences=LICENCES,
        settings=settings,
        force=force,
    )
