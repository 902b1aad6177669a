"""What the GPU benchmark has measured so far, in one file: a run that was cut off goes on there."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1


class StateOfOtherRun(Exception):
    """The file holds figures of another machine, other versions, or other options."""


@dataclass(slots=True)
class RungState:
    """What is known of one peer of one shape.

    Attributes:
        label: what runs, in words; empty before it was opened.
        refused: why it does not run, or why it ended; empty while it does.
        rounds: name of a metric → seconds of its samples, a list for each round.
        stretches: of the stream, half a minute each: frames, seconds, median seconds of a frame.
        peak_bytes: weights, cache and working memory at their most.
        watts: mean of each unit that was measured.
        cosine: of its logits with the baseline's, the worst; None for the baseline.
        resumed: how often its cache was filled anew, because a slice had ended.
    """

    label: str = ""
    refused: str = ""
    rounds: dict[str, list[list[float]]] = field(default_factory=dict)
    stretches: list[list[float]] = field(default_factory=list)
    peak_bytes: int = 0
    watts: list[float] = field(default_factory=list)
    cosine: float | None = None
    resumed: int = 0

    @property
    def rounds_done(self) -> int:
        """Rounds that are whole."""
        return min(map(len, self.rounds.values()), default=0)

    @property
    def frames(self) -> int:
        """Frames of the stream that were taken."""
        return int(sum(frames for frames, _, _ in self.stretches))


class State:
    """All figures, by shape and peer.

    Args:
        file: where they are kept.
        fingerprint: of machine, versions, code and options; figures of others are not mixed in.

    Raises:
        StateOfOtherRun: the file is of another fingerprint, or cannot be read.
    """

    def __init__(self, file: Path, fingerprint: dict[str, Any]) -> None:
        self._file, self._fingerprint = file, fingerprint
        self.shapes: dict[str, dict[str, RungState]] = {}
        if file.exists():
            self._load()

    def of(self, shape: str, rung: str) -> RungState:
        """What is known of this peer; made when it is asked for the first time."""
        return self.shapes.setdefault(shape, {}).setdefault(rung, RungState())

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        shapes = {
            shape: {rung: _fields(one) for rung, one in rungs.items()}
            for shape, rungs in self.shapes.items()
        }
        whole = {"format": FORMAT, "fingerprint": self._fingerprint, "shapes": shapes}
        beside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        beside.write_text(json.dumps(whole, indent=1) + "\n")
        beside.replace(self._file)

    def _load(self) -> None:
        try:
            held = json.loads(self._file.read_text())
            found, shapes = held["fingerprint"], held["shapes"]
            self.shapes = {
                shape: {rung: RungState(**one) for rung, one in rungs.items()}
                for shape, rungs in shapes.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateOfOtherRun(f"{self._file} cannot be read: {error}") from error
        if held.get("format") != FORMAT or found != self._fingerprint:
            ours = {"format": FORMAT, **self._fingerprint}
            theirs = {"format": held.get("format"), **found}
            differ = [key for key in ours if ours[key] != theirs.get(key)]
            raise StateOfOtherRun(
                f"{self._file} holds figures of another run: {', '.join(differ)} differ"
            )


def _fields(one: RungState) -> dict[str, Any]:
    return {name: getattr(one, name) for name in RungState.__dataclass_fields__}


class Slice:
    """The time that this process may take.

    Args:
        seconds: of it; 0 for as long as it needs.
        monotonic: seconds; handed in so that a test can step it.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._seconds = monotonic, seconds
        self._begun_s = monotonic()
        self._has_measured = False

    def has(self, seconds: float, *, is_measurement: bool = False) -> bool:
        """Whether something that takes so long may begin.

        Until one thing was measured everything may: a slice that is too short for opening a model
        would otherwise never get anywhere.
        """
        left = self._seconds - (self._monotonic() - self._begun_s)
        may = not self._seconds or left >= seconds or not self._has_measured
        self._has_measured = self._has_measured or (may and is_measurement)
        return may


def sha256_of(files: list[Path]) -> str:
    """Of the contents of some files, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
