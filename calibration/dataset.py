"""Calibration sets: frames and prompts that ranges, thresholds and proofs are measured on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.array_file import read_arrays, write_arrays
from ..runtime.errors import (
    CalibrationConstant,
    CalibrationInvalid,
    CalibrationNoise,
    CalibrationTooSmall,
    QualityError,
)
from ..runtime.json_fields import Fields, frozen, plain
from ..runtime.values import Float32, UInt8
from ..runtime.whole_folder import whole_folder

FORMAT = 1
SET_FILE, FRAMES_FILE, PROMPTS_FILE = "set.json", "frames.npz", "prompts.jsonl"
FEWEST_FRAMES = 16
LEAST_DISTANCE = 2.0
"""Mean distance of two thumbnails, grey levels; below it the frames are one picture and noise."""
LEAST_CORRELATION = 0.2
"""Of neighbouring pixels; pictures of the world have 0.9 and more, noise has 0."""
THUMBNAIL_CELLS = 8
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_HINT = "give a calibration set of real footage, or none: the default is of rendered clips"


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """A calibration set in memory.

    Attributes:
        frames: (count, height, width, 3) uint8 RGB, read-only.
        times_s: (count,) float64, stream time of each frame in its own clip, seconds.
        prompts: texts for the language model.
        source: where the frames come from, for people.
        settings: what it was made with.
        licences: SPDX names of what it was made of.
        sha256: of frames.npz followed by prompts.jsonl; None before it is written.
    """

    frames: UInt8
    times_s: NDArray[np.float64]
    prompts: tuple[str, ...]
    source: str
    licences: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __post_init__(self) -> None:
        shape, count = self.frames.shape, len(self.frames)
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
            raise CalibrationInvalid(
                f"got frames {list(shape)} {self.frames.dtype}, "
                "expected [count, height, width, 3] uint8"
            )
        times = self.times_s
        if times.shape != (count,) or not (np.isfinite(times).all() and (times >= 0).all()):
            raise CalibrationInvalid(
                f"got times_s {list(times.shape)}, expected {count} finite numbers of seconds"
            )
        for name in ("frames", "times_s"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        object.__setattr__(self, "settings", frozen(self.settings))


def make_calibration_set(
    folder: Path,
    frames: UInt8,
    times_s: Sequence[float] | NDArray[np.float64],
    prompts: Sequence[str],
    *,
    source: str,
    licences: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> CalibrationSet:
    """Write a calibration set, whole or not at all, and return it with its hash.

    The same arguments give the same bytes.

    Args:
        folder: where; its parent must exist.
        frames, times_s, prompts, source, licences, settings: see `CalibrationSet`.
        force: replace an older set that lies there.

    Raises:
        CalibrationTooSmall, CalibrationConstant, CalibrationNoise: as `check_frames` says.
        CalibrationInvalid: shapes or times are wrong.
        OutputExists, OutputFull, OutputUnwritable: as `whole_folder` says.
    """
    times = np.asarray(times_s, np.float64)
    made = CalibrationSet(frames, times, tuple(prompts), source, tuple(licences), settings or {})
    check_frames(made.frames)
    with whole_folder(folder, replaces=SET_FILE if force else None) as place:
        write_arrays(place / FRAMES_FILE, {"frames": made.frames, "times_s": made.times_s})
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in made.prompts]
        (place / PROMPTS_FILE).write_text("".join(lines), "utf-8", newline="\n")
        sha256 = _sha256_of_contents(place)
        told = {
            "format": FORMAT,
            "source": made.source,
            "count": len(made.frames),
            "sha256": sha256,
            "settings": plain(made.settings),
            "licences": list(made.licences),
        }
        text = json.dumps(told, sort_keys=True, indent=2, ensure_ascii=False)
        (place / SET_FILE).write_text(f"{text}\n", "utf-8", newline="\n")
    return CalibrationSet(
        made.frames, times, made.prompts, source, made.licences, made.settings, sha256
    )


def read_calibration_set(folder: Path) -> CalibrationSet:
    """The calibration set in a folder, checked.

    Raises:
        CalibrationInvalid: there is none, or it is damaged or of a newer format.
        CalibrationTooSmall, CalibrationConstant, CalibrationNoise: as `check_frames` says.
    """
    try:
        fields = Fields(json.loads((folder / SET_FILE).read_bytes()), "", _in_set_file)
        if (number := fields.whole("format")) > FORMAT:
            raise fields.refused("format", number, f"at most {FORMAT}")
        sha256 = fields.text("sha256")
        if (got := _sha256_of_contents(folder)) != sha256:
            raise CalibrationInvalid(
                f"{folder.name}: got SHA-256 {got}, expected {sha256} of its frames and prompts"
            )
        arrays = read_arrays(folder / FRAMES_FILE)
        frames, times_s = arrays["frames"], arrays["times_s"].astype(np.float64)
        lines = (folder / PROMPTS_FILE).read_bytes().splitlines()  # of a text: also at U+2028
        prompts = tuple(
            Fields(json.loads(line), f"line {number}", _in_prompts).text("text")
            for number, line in enumerate(lines, 1)
        )
    except KeyError as error:
        raise CalibrationInvalid(f"{folder.name}/{FRAMES_FILE} has no array {error}") from error
    except (OSError, ValueError) as error:
        raise CalibrationInvalid(
            f"{folder.name} cannot be read as a calibration set: {error}",
            hint="make one with `edgestream calibrate`, or export without --calibration",
        ) from error
    if (count := fields.whole("count")) != len(frames):
        raise fields.refused("count", count, f"{len(frames)}, the frames there are")
    check_frames(frames)
    return CalibrationSet(
        frames,
        times_s,
        prompts,
        fields.text("source"),
        fields.texts("licences"),
        fields.mapping("settings"),
        sha256,
    )


def check_frames(frames: UInt8) -> None:
    """Whether frames can stand for what a camera sees.

    Args:
        frames: (count, height, width, 3) uint8 RGB.

    Raises:
        CalibrationTooSmall: fewer than 16.
        CalibrationConstant: the mean distance of two thumbnails is below 2 grey levels.
        CalibrationNoise: the correlation of neighbouring pixels is below 0.2.

    Cost: 0.3 ms a frame of 224 x 224.
    """
    if len(frames) < FEWEST_FRAMES:
        raise CalibrationTooSmall(
            f"got {len(frames)} calibration frames, expected at least {FEWEST_FRAMES}", hint=_HINT
        )
    distance = mean_distance(np.stack([_thumbnail(_luma(frame)) for frame in frames]))
    if distance < LEAST_DISTANCE:
        raise CalibrationConstant(
            f"got {len(frames)} calibration frames that differ by {distance:.2f} grey levels, "
            f"expected at least {LEAST_DISTANCE:g}: they show the same picture",
            hint=_HINT,
        )
    correlation = float(np.mean([neighbour_correlation(_luma(frame)) for frame in frames]))
    if correlation < LEAST_CORRELATION:
        raise CalibrationNoise(
            f"got calibration frames whose neighbouring pixels correlate by {correlation:.2f}, "
            f"expected at least {LEAST_CORRELATION:g}: they are noise",
            hint=_HINT,
        )


def mean_distance(thumbnails: Float32) -> float:
    """Mean absolute difference of two different thumbnails, over all pairs; grey levels.

    Args:
        thumbnails: (count, …) float32, two or more.

    Cost: O(count log count) instead of the pairs: in sorted order, element i is the larger one in
    i pairs and the smaller one in the rest.
    """
    count = len(thumbnails)
    ordered = np.sort(thumbnails.reshape(count, -1).astype(np.float64), axis=0)
    weights = 2.0 * np.arange(count) - (count - 1)
    return float(np.mean(weights @ ordered) / (count * (count - 1) / 2))


def neighbour_correlation(luma: Float32) -> float:
    """Correlation of pixels with those right of and below them; 1 for a picture of one level.

    Args:
        luma: (height, width) float32.
    """
    pairs = ((luma[:, :-1], luma[:, 1:]), (luma[:-1], luma[1:]))
    found = [_correlation(one.ravel(), other.ravel()) for one, other in pairs if one.size]
    return float(np.mean(found)) if found else 1.0


def _correlation(one: Float32, other: Float32) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / spread if spread > 1e-6 * one.size else 1.0


def _luma(frame: UInt8) -> Float32:
    return np.asarray(frame @ _LUMA, np.float32)


def _thumbnail(luma: Float32) -> Float32:
    """Means of 8 x 8 cells, or of as many as there are pixels."""
    for axis in (0, 1):
        size = luma.shape[axis]
        edges = np.linspace(0, size, min(size, THUMBNAIL_CELLS) + 1).astype(int)
        sums = np.add.reduceat(luma, edges[:-1], axis=axis)
        sizes = np.expand_dims(np.diff(edges), 1 - axis)
        luma = np.asarray(sums / sizes, np.float32)
    return luma


def _sha256_of_contents(folder: Path) -> str:
    """As `cat frames.npz prompts.jsonl | sha256sum` gives it."""
    digest = hashlib.sha256()
    for name in (FRAMES_FILE, PROMPTS_FILE):
        with open(folder / name, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def _in_set_file(message: str) -> QualityError:
    return CalibrationInvalid(f"{SET_FILE}: {message}")


def _in_prompts(message: str) -> QualityError:
    return CalibrationInvalid(f"{PROMPTS_FILE}: {message}")
