"""Calibration sets: frames and prompts that ranges, thresholds and proofs are measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.array_file import read_arrays, write_arrays
from ..runtime.errors import CalibrationInvalid, QualityError
from ..runtime.json_fields import Fields, frozen, plain
from ..runtime.values import UInt8
from ..runtime.whole_folder import whole_folder
from .frame_checks import check_frames

FORMAT = 1
SET_FILE, FRAMES_FILE, PROMPTS_FILE = "set.json", "frames.npz", "prompts.jsonl"


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
