"""The calibration set of an export: the user's, or frames of the rendered clips."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..calibration.dataset import CalibrationSet, read_calibration_set
from ..calibration.prompts import QUESTIONS
from ..calibration.rendered import default_calibration
from ..models.family import Checkpoint
from ..runtime.preprocess import fitted_picture


def calibration_for(checkpoint: Checkpoint, folder: Path | None) -> CalibrationSet:
    """The calibration set, its frames at the model's input size.

    Args:
        checkpoint: whose input size is wanted.
        folder: of a calibration set; None for the rendered clips.

    Raises:
        QualityError: the set is damaged, too small, constant or noise.
    """
    size = checkpoint.frame_input.size_px
    questions = checkpoint.questions or QUESTIONS
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="edgestream-calibration-") as place:
            return default_calibration(Path(place) / "set", size, questions)
    given = read_calibration_set(folder)
    frames = given.frames
    if frames.shape[1:3] != size:
        frames = np.stack([fitted_picture(frame, checkpoint.frame_input) for frame in frames])
    # What a model was taught to be asked says more of it than what any camera may be asked.
    asked = () if given.settings.get("prompts_from", "") is None else given.prompts
    return replace(given, frames=frames, prompts=asked or questions)
