"""The trace: what the gate scored in the last two minutes, for curves and thresholds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...runtime.gate import Gate
from ...runtime.values import Features, GateDecision

KEPT_S = 120.0
"""What a person looks back over when something was not told."""
FRAMES_KEPT = 2048
"""17 frames a second over that time; 0.5 MB with sixteen scores each."""
RATE_OVER_S = 10.0


@dataclass(frozen=True, slots=True)
class Traced:
    """One frame: its time, scores in the order of the names, what the encoder made of it."""

    time_s: float
    scores: tuple[float, ...]
    is_still: bool
    is_fresh: bool


class Trace:
    """A ring of the last frames. One thread adds, any may read.

    State: names of the scores, at most FRAMES_KEPT frames of the last KEPT_S, when they came.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._frames: deque[tuple[float, Traced]] = deque(maxlen=FRAMES_KEPT)

    def add(self, features: Features, decision: GateDecision) -> None:
        """One frame and what the gate said of it."""
        with self._lock:
            if decision.scores and tuple(decision.scores) != self._names:
                self._names = tuple(decision.scores)
                self._frames.clear()  # their scores have other names
            scores = tuple(round(score, 4) for score in decision.scores.values())
            frame = Traced(features.time_s, scores, features.is_still, features.is_fresh)
            self._frames.append((self._monotonic(), frame))
            while self._frames[0][1].time_s < features.time_s - KEPT_S:
                self._frames.popleft()

    def since(self, time_s: float) -> tuple[tuple[str, ...], list[Traced]]:
        """Names of the scores, and the frames later than a stream time, oldest first."""
        with self._lock:
            return self._names, [one for _, one in self._frames if one.time_s > time_s]

    def fps(self) -> float:
        """Frames a second that were watched over the last RATE_OVER_S."""
        now_s = self._monotonic()
        with self._lock:
            times_s = [at_s for at_s, _ in self._frames if at_s > now_s - RATE_OVER_S]
        if not times_s:
            return 0.0
        # A camera that has just begun is not slow: count from its first frame.
        return round(len(times_s) / max(now_s - times_s[0], 1.0), 2)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._frames.clear()


class TracedGate:
    """A gate whose decisions are traced; see `Gate`."""

    def __init__(self, gate: Gate, trace: Trace) -> None:
        self._gate, self._trace = gate, trace

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """The decision of the gate, which goes into the trace."""
        decision = self._gate.step(features, dt_s)
        self._trace.add(features, decision)
        return decision

    def idle(self, time_s: float) -> GateDecision:
        """The decision of the gate at a tick; nothing was scored."""
        return self._gate.idle(time_s)

    def reset(self) -> None:
        """Starts again."""
        self._gate.reset()

    def snapshot(self) -> Any:
        """The state of the gate."""
        return self._gate.snapshot()

    def restore(self, state: Any) -> None:
        """Continues from a state of the gate."""
        self._gate.restore(state)


def rounded(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Scores from which events open, as the page shows them."""
    return {name: round(score, 4) for name, score in thresholds.items()}
