"""A day of recorded features: one clip, repeated in other scenes, with rests between.

The clip is assets/sample.mp4 through the bundle's own vision and connector, with the cuts of the
gate `change`, kept in .cache/.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recorded_stream import CACHE, SAMPLE

from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.connector import EngineConnector
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.gate_change import ChangeGate
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Event, Features, Float32, GateDecision, Motion
from edgestream.runtime.vision import VisionEncoder

FPS, HEARTBEAT_S, STILL_S = 30.0, 2.0, 60.0
MOTION = Motion(np.zeros((6, 7, 7), np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A clip as memory meets it, frame by frame.

    Attributes:
        embeds: (fresh frames, tokens, dim) float32.
        summary: (fresh frames, dim) float32.
        of: (frames,) int64, which of them a frame has; a frame that takes over has that before it.
        is_still, is_cut: (frames,) bool.
    """

    embeds: Float32
    summary: Float32
    of: NDArray[np.int64]
    is_still: NDArray[np.bool_]
    is_cut: NDArray[np.bool_]


def recording_of(bundle: Bundle) -> Recording:
    """The clip, encoded on the first call and kept in .cache."""
    about = f"day {bundle.sha256} {SAMPLE.name} {SAMPLE.stat().st_size} {FPS}"
    file = CACHE / f"day-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"
    if not file.is_file():
        print(f"encoding {SAMPLE.name} into .cache, once", file=sys.stderr)
        part = file.with_suffix(".part.npz")
        part.parent.mkdir(parents=True, exist_ok=True)
        # In another process: what encoding frees, memory would fill without being seen to grow.
        with ProcessPoolExecutor(1, get_context("spawn")) as other:
            encoded: dict[str, Any] = other.submit(_encoded, bundle.folder).result()
        np.savez(part, **encoded)
        part.rename(file)
    with np.load(file) as arrays:
        return Recording(**{name: arrays[name] for name in arrays.files})


def _encoded(folder: Path) -> dict[str, NDArray[Any]]:
    bundle = open_bundle(folder, check="manifest")
    source, gate, lane = open_source(str(SAMPLE), SourceSettings(fps=FPS)), ChangeGate(), OpenLane()
    embeds: list[Float32] = []
    summary, of, is_still, is_cut = [], [], [], []
    variants = [bundle.variant(role) for role in ("vision", "connector")]
    engines = [backend_for("cpu", threads=1).open(bundle.path(v.file), v) for v in variants]
    with engines[0] as vision, engines[1] as joined:
        encoder = VisionEncoder(vision, bundle.manifest.input, lane, heartbeat_s=HEARTBEAT_S)
        connector = EngineConnector(joined)
        for frame in filter(None, source.frames(lambda record: None)):
            features = encoder.encode(frame)
            decision = gate.step(features)
            if features.is_fresh:
                embeds.append(np.array(connector.step(features, decision), np.float32))
                summary.append(np.array(features.summary))
            of.append(len(embeds) - 1)
            is_still.append(features.is_still)
            is_cut.append(any(event.event == "cut" for event in decision.opened))
    found = {"embeds": embeds, "summary": summary, "of": of, "is_still": is_still, "is_cut": is_cut}
    return {name: np.array(values) for name, values in found.items()}


class Day:
    """An endless stream made of one recording.

    State: how many frames were given, and the arrays of the pass that goes on.
    """

    def __init__(self, recording: Recording, first: int = 0) -> None:
        still = round(STILL_S * FPS)
        beat = round(HEARTBEAT_S * FPS)
        held = np.full(still, recording.of[-1])
        self._of = np.concatenate([recording.of, held])
        self._is_still = np.concatenate([recording.is_still, np.ones(still, np.bool_)])
        self._is_cut = np.concatenate([recording.is_cut, np.zeros(still, np.bool_)])
        # A heartbeat encodes the same picture again: its tokens are fresh, and the same.
        beats = np.arange(1, still + 1) % beat == 0
        self._is_fresh = np.concatenate([np.diff(recording.of, prepend=-1) > 0, beats])
        self._is_cut[0] = True  # the clip begins anew
        self._recording, self._pass = recording, -1
        # Of one size for all passes: memory is watched, so the stream itself must not grow.
        self._embeds, self._summary = recording.embeds.copy(), recording.summary.copy()
        self.count = first

    @property
    def pass_frames(self) -> int:
        """Frames after which the recording begins anew."""
        return len(self._of)

    @property
    def still_share(self) -> float:
        """Of the frames, those on which nothing changed."""
        return float(self._is_still.mean())

    @property
    def fresh_share(self) -> float:
        """Of the frames, those that were encoded."""
        return float(self._is_fresh.mean())

    def frames(self, count: int) -> Iterator[tuple[Features, Float32, GateDecision]]:
        """So many frames more."""
        for number in range(self.count, self.count + count):
            turn, at = divmod(number, len(self._of))
            if turn != self._pass:
                self.turn_to(turn)
            time_s, which = number / FPS, self._of[at]
            embeds = self._embeds[which]
            embeds.flags.writeable = False
            features = Features(
                time_s,
                embeds,
                self._summary[which],
                MOTION,
                bool(self._is_still[at]),
                is_fresh=bool(self._is_fresh[at]),
            )
            cut = (Event(f"e{turn}", "cut", time_s),) if self._is_cut[at] else ()
            yield features, embeds, GateDecision(time_s, opened=cut)
        self.count += count

    def turn_to(self, turn: int) -> None:
        """Arrays that hold the same numbers in other places, as another scene would."""
        self._pass = turn
        _turned(self._recording.embeds, 7 * turn + 1, self._embeds)
        _turned(self._recording.summary, 5 * turn + 1, self._summary)


def _turned(numbers: Float32, by: int, into: Float32) -> None:
    """The same numbers, their last axis turned, written into another array."""
    by %= numbers.shape[-1]
    into[..., by:] = numbers[..., : numbers.shape[-1] - by]
    into[..., :by] = numbers[..., numbers.shape[-1] - by :]
