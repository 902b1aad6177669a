"""Thresholds of a gate, chosen on held-out clips: per event type, and for the wish to speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.event_scores import nearest_pairs
from ..evaluation.world_scores import TOLERANCE_FRAMES
from ..models.cognition_gate import SPEAK
from ..models.gate_files import GateMeaning
from ..runtime.learned_phases import CUT
from .gate_traces import GateTraces

GRID = tuple(round(0.06 + 0.04 * step, 2) for step in range(23))
"""Thresholds that are tried."""
CLOSE_RATIOS = (0.4, 0.6, 0.8)
MOST_FALSE = 1.6
"""False speech per 100 frames that `speak` aims at: the bound, on other clips, is 2."""
WARM_UP_FRAMES = 2

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Counts:
    """True, told and found events.

    Attributes:
        true, told, found: how many.
    """

    true: int
    told: int
    found: int

    @property
    def f1(self) -> float:
        return 2.0 * self.found / max(1, self.true + self.told)


def calibrated(
    traces: GateTraces, meaning: GateMeaning, calibrated_on: Mapping[str, Any]
) -> GateMeaning:
    """The meaning of a gate with thresholds for these traces.

    Each type has the threshold of the best F1, smoothed over its neighbours so that one lucky clip
    does not decide; `speak` the best F1 that keeps to MOST_FALSE, or else the best.

    Args:
        traces: of held-out clips.
        meaning: of the gate; its thresholds are not read.
        calibrated_on: is kept with them.
    """
    best: tuple[float, float, dict[str, float]] | None = None
    for ratio in CLOSE_RATIOS:
        chosen, total = {}, 0.0
        for at, kind in enumerate(meaning.events):
            true = [_frames(clip.labels.events[:, at]) for clip in traces.clips]
            counts = [_counted(traces, at, kind, above, ratio, true) for above in GRID]
            smooth = _smoothed([count.f1 for count in counts])
            pick = _middle_of_best(smooth)
            chosen[kind], total = GRID[pick], total + smooth[pick]
        if best is None or total > best[0]:
            best = total, ratio, chosen
    assert best is not None
    _, ratio, thresholds = best
    thresholds[SPEAK] = _speak_threshold(traces, meaning, thresholds, ratio)
    return GateMeaning(
        meaning.events, thresholds, meaning.attributes, meaning.attributes_of, ratio,
        dict(calibrated_on),
    )  # fmt: skip


def best_above(f1_of: Callable[[float], float]) -> float:
    """The threshold of GRID with the best F1, smoothed over its neighbours.

    Args:
        f1_of: threshold → F1 on held-out streams.
    """
    return GRID[_middle_of_best(_smoothed([f1_of(above) for above in GRID]))]


def openings(scores: NDArray[np.float32], above: float, ratio: float) -> Flags:
    """Frames at which a type opens: as `Phases` without a hold, for many clips at once.

    Args:
        scores: (N, T).
        above: open_above.
        ratio: close_below as a share of it.
    """
    is_open = np.zeros(len(scores), np.bool_)
    found = np.zeros(scores.shape, np.bool_)
    for frame in range(scores.shape[1]):
        score = scores[:, frame]
        found[:, frame] = ~is_open & (score >= above)
        is_open = np.where(is_open, score >= ratio * above, found[:, frame])
    return found


class Wishes:
    """Whether a Turn is due, frame by frame: as `LearnedPhases`, for N streams side by side.

    State: the frame, and of each stream whether it is speaking and of what is told.

    Args:
        above: (N,) open_above of `speak`.
        ratio: close_below as a share of it.
    """

    def __init__(self, above: NDArray[np.float64], ratio: float) -> None:
        self._above, self._ratio, self._frame = above, ratio, 0
        self._speaking, self._told = (np.zeros(len(above), np.bool_) for _ in range(2))

    def step(self, speak: NDArray[np.float32], opens: Flags) -> Flags:
        """(N,) whether each speaks at this frame.

        Args:
            speak: (N,) scores of `speak`.
            opens: (N,) some event type opens.
        """
        is_heard = opens | (self._frame == 0) | (self._frame >= WARM_UP_FRAMES)
        score = np.where(is_heard, speak, 0.0)
        begins = ~self._speaking & (score >= self._above)
        lasts = self._speaking & (score >= self._ratio * self._above)
        found: Flags = begins | (lasts & opens & self._told)
        self._told = (begins & opens) | (lasts & (self._told | opens))
        self._speaking, self._frame = begins | lasts, self._frame + 1
        return found


def spoken_frames(speak: NDArray[np.float32], opened: Flags, above: float, ratio: float) -> Flags:
    """Frames at which a Turn is due: as `LearnedPhases`, for many clips at once.

    Args:
        speak: (N, T), the scores of `speak`.
        opened: (N, T), some event type opens.
        above, ratio: of `speak`.
    """
    found = np.zeros(speak.shape, np.bool_)
    wishes = Wishes(np.full(len(speak), above), ratio)
    for frame in range(speak.shape[1]):
        found[:, frame] = wishes.step(speak[:, frame], opened[:, frame])
    return found


def openings_of(
    scores: NDArray[np.float32], at: int, kind: str, above: float, ratio: float
) -> Flags:
    """Openings of one event type; muted while the gate warms up, but for a cut.

    Args:
        scores: (N, T, 15), `speak` first.
        at: number of the type.
        kind: its name.
        above, ratio: as in `openings`.
    """
    scores = scores[:, :, 1 + at].copy()
    if kind != CUT:
        scores[:, :WARM_UP_FRAMES] = 0.0
    return openings(scores, above, ratio)


def _counted(
    traces: GateTraces,
    at: int,
    kind: str,
    above: float,
    ratio: float,
    true: Sequence[NDArray[np.int64]],
) -> Counts:
    found = openings_of(traces.scores, at, kind, above, ratio)
    found[:, 0] = False
    return _matched([_frames(row) for row in found], true)


def _speak_threshold(
    traces: GateTraces, meaning: GateMeaning, thresholds: Mapping[str, float], ratio: float
) -> float:
    opened = np.zeros(traces.scores.shape[:2], np.bool_)
    for at, kind in enumerate(meaning.events):
        opened |= openings_of(traces.scores, at, kind, thresholds[kind], ratio)
    true = [_frames(clip.labels.speak, first=1) for clip in traces.clips]
    frames = sum(len(clip.labels.speak) - 1 for clip in traces.clips)
    f1s, falses = [], []
    for above in GRID:
        spoken = spoken_frames(traces.scores[:, :, 0], opened, above, ratio)
        counts = _matched([_frames(row, first=1) for row in spoken], true)
        f1s.append(counts.f1)
        falses.append(100.0 * (counts.told - counts.found) / frames)
    smooth = _smoothed(f1s)
    kept = [at for at in range(len(GRID)) if falses[at] <= MOST_FALSE] or list(range(len(GRID)))
    return GRID[kept[_middle_of_best([smooth[at] for at in kept])]]


def _frames(flags: NDArray[np.bool_], first: int = 0) -> NDArray[np.int64]:
    frames = np.flatnonzero(flags)
    return frames[frames >= first]


def _matched(told: Sequence[NDArray[np.int64]], true: Sequence[NDArray[np.int64]]) -> Counts:
    found = sum(
        len(nearest_pairs(one.tolist(), two.tolist(), TOLERANCE_FRAMES))
        for one, two in zip(told, true, strict=True)
        if len(one) and len(two)
    )
    return Counts(sum(map(len, true)), sum(map(len, told)), found)


def _middle_of_best(values: Sequence[float]) -> int:
    """The middle one of those that are equally good: as far as can be from where it gets worse."""
    best = [at for at, value in enumerate(values) if value >= max(values) - 1e-9]
    return best[len(best) // 2]


def _smoothed(values: Sequence[float]) -> list[float]:
    padded = [values[0], *values, values[-1]]
    return [
        0.25 * padded[at] + 0.5 * padded[at + 1] + 0.25 * padded[at + 2]
        for at in range(len(values))
    ]
