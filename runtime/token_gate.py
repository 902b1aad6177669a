"""The gate `token`: the language model itself says at each frame whether it wants to speak.

After a frame it predicts either its silent token or something else. It speaks where silence is
less probable than a threshold, or less probable than some other token.

Source: VideoLLM-online (arXiv 2406.11816), inference; differs: it speaks whatever the other token
is, where the original fails unless that is the one token it expects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import EngineNotFinite, SettingsInvalid, StreamOutOfOrder
from .phases import PhaseRules, Phases, PhasesState, TypeState
from .values import Event, Float32, GateDecision

SPEAK = "speak"
"""The one event type of this gate."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the model wants at one frame.

    Attributes:
        speaks: it has something to say.
        silent: probability of silence, in [0, 1].
    """

    speaks: bool
    silent: float


def wish(logits: Float32, silent_ids: Sequence[int], threshold: float) -> Wish:
    """Whether the model wants to speak; of equals the lowest id counts as the more probable.

    Args:
        logits: (vocabulary,) float32 after a frame; not changed.
        silent_ids: tokens that say "nothing to say"; together they are one token here.
        threshold: silence less probable than this is no silence, in [0, 1].

    Raises:
        EngineNotFinite: the best logit is NaN or infinite, which it is where any is NaN.

    Cost: one exponential of the vocabulary.
    """
    top = logits.max()
    if not math.isfinite(top):
        raise EngineNotFinite(
            f"the decoder's logits hold {top}, expected finite numbers",
            hint="check the bundle with `edgestream verify`",
        )
    ids = sorted(set(silent_ids))
    weights = np.exp(logits - top)
    silence = float(np.exp(logits[ids].astype(np.float64) - top).sum())
    others = float(weights.sum(dtype=np.float64) - weights[ids].sum(dtype=np.float64))
    silent = silence / (silence + max(others, 0.0))
    masked = logits.copy()
    masked[ids] = -np.inf
    other = int(masked.argmax())
    if masked[other] == -np.inf:  # a vocabulary of nothing else has nothing to say
        return Wish(False, silent)
    rival = math.exp(float(logits[other]) - float(top))
    is_best = silence > rival or (silence == rival and ids[0] < other)
    return Wish(silent < threshold or not is_best, silent)


class TokenGate:
    """Decides from logits whether to speak. State: that of its `Phases`.

    Args:
        silent_ids: the layout's.
        threshold: silence less probable than this is no silence, in [0, 1]; 0.725 is what
            VideoLLM-online's own program uses.
        rules: when a stretch of speaking frames opens and closes.
        once_per_stretch: one event in a stretch of speaking frames; else one at each of them, which
            is VideoLLM-online's own loop.

    Raises:
        SettingsInvalid: the threshold is out of its range, or there is no silent token.
    """

    def __init__(
        self,
        silent_ids: Sequence[int],
        *,
        threshold: float = 0.725,
        rules: PhaseRules | None = None,
        once_per_stretch: bool = True,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise SettingsInvalid(
                f"the gate `token` got a threshold of {threshold}, expected 0 to 1"
            )
        if not silent_ids:
            raise SettingsInvalid(
                "the gate `token` needs a model with a silent token; this one has none",
                hint="try the gate `change` or `every:5`",
            )
        self._silent_ids, self._threshold = tuple(silent_ids), threshold
        self._rules = rules or PhaseRules()
        self._once_per_stretch = once_per_stretch
        self._phases = Phases({SPEAK: self._rules})

    def reset(self) -> None:
        """Starts again: silent, the next event is e1."""
        self._phases.reset()

    def snapshot(self) -> PhasesState:
        """The state, to be put back by `restore`."""
        return self._phases.snapshot()

    def restore(self, state: PhasesState) -> None:
        """Continues from a state as if nothing had been between."""
        self._phases.restore(state)

    def step(self, logits: Float32, time_s: float) -> GateDecision:
        """The decision at one frame: an event in `opened` where it is time to speak.

        Args:
            logits: (vocabulary,) float32 after the frame.
            time_s: of the frame; must not go back, seconds.

        Returns:
            Its score is 1 - P(silence), moved to `open_above` where the model speaks and it is
            less, and under `close_below` where it is silent and it is more.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
            EngineNotFinite: the logits are not numbers.
        """
        found = wish(logits, self._silent_ids, self._threshold)
        scores = {SPEAK: self._score(found)}
        if self._once_per_stretch:
            return self._phases.step(time_s, scores)
        before = self._phases.snapshot()
        closed = self._close()
        try:
            return _with_closed(self._phases.step(time_s, scores), closed)
        except StreamOutOfOrder:
            self._phases.restore(before)
            raise

    def idle(self, time_s: float) -> GateDecision:
        """The decision at a tick without a frame: time-outs only, never an event that opens."""
        decided = self._phases.snapshot().decided_s
        if self._once_per_stretch or (decided is not None and time_s <= decided):
            return self._phases.idle(time_s)
        closed = self._close()
        return _with_closed(self._phases.idle(time_s), closed)

    def _score(self, found: Wish) -> float:
        if found.speaks:
            return max(1.0 - found.silent, self._rules.open_above)
        return min(1.0 - found.silent, max(math.nextafter(self._rules.closes_under, -1.0), 0.0))

    def _close(self) -> tuple[Event, ...]:
        """Ends the event that is open, at the frame that it was about; it lasts no time."""
        event = self._phases.open_event(SPEAK)
        if event is None:
            return ()
        self._phases.restore(replace(self._phases.snapshot(), types=((SPEAK, TypeState()),)))
        return (replace(event, closed_s=event.opened_s),)


def _with_closed(decision: GateDecision, closed: tuple[Event, ...]) -> GateDecision:
    if not closed or decision.opened:
        return replace(decision, closed=closed)
    return replace(decision, closed=closed, phases={SPEAK: "closed"})
