"""From the scores of a learned gate to events and to the wish to speak: pure, without an engine.

Each event type walks through its phases. Whether a frame makes a Turn is said by the score `speak`:
where it opens, all events that opened with it are told; an event type that opens a frame later,
while `speak` is still high, belongs to what is being told already. Nothing typed at all is told as
the event `speak`, which lasts one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .gate_network import SPEAK
from .manifest_values import GateFacts
from .phases import CLOSE_RATIO, PhaseRules, Phases, PhasesState
from .values import GateDecision

CUT = "cut"
"""A cut is told from the first frame on; other types are muted while the gate warms up."""
OPEN_ABOVE = 0.5
"""Of a type for which the manifest has no threshold."""


@dataclass(frozen=True, slots=True)
class LearnedRules:
    """How scores become events.

    Attributes:
        events: rules per event type.
        speak: rules of the wish to speak; None where the gate has no such score: then whatever
            opens is told.
        attributes_of: event type → the attributes that it may carry; None: all of them.
        attribute_above: probability from which a value is told. 0.7: below it, colours of the trial
            were wrong more often than a person would bear.
        warm_up_frames: first frames of a stream at which only a cut opens, and `speak` only at the
            very first, for the opening scene: the trial said a spurious "starts" or "shakes" there.
    """

    events: Mapping[str, PhaseRules]
    speak: PhaseRules | None = None
    attributes_of: Mapping[str, tuple[str, ...]] | None = None
    attribute_above: float = 0.7
    warm_up_frames: int = 2


def learned_rules(facts: GateFacts, *, has_speak: bool) -> LearnedRules:
    """The rules that a bundle's manifest states."""
    ratio = CLOSE_RATIO if facts.close_ratio is None else facts.close_ratio

    def rules_of(name: str) -> PhaseRules:
        # A threshold of 0 would open at every frame; the smallest score there is comes near it.
        above = max(facts.thresholds.get(name, OPEN_ABOVE), 1e-6)
        return PhaseRules(above, ratio * above)

    return LearnedRules(
        {name: rules_of(name) for name in facts.events},
        rules_of(SPEAK) if has_speak else None,
        facts.attributes_of,
    )


@dataclass(frozen=True, slots=True)
class LearnedState:
    """All that `LearnedPhases` carries from frame to frame.

    Attributes:
        phases: of the event types and of the event `speak`.
        frames: how many there were, up to the end of the warm-up.
        is_speaking: the score `speak` opened and has not fallen under its close_below since.
        is_told: an event type opened since then.
    """

    phases: PhasesState
    frames: int = 0
    is_speaking: bool = False
    is_told: bool = False


@dataclass(slots=True)
class LearnedPhases:
    """Decides from scores. State: a `LearnedState`.

    Attributes:
        rules: thresholds.
    """

    rules: LearnedRules
    _phases: Phases = field(init=False)
    _frames: int = field(init=False)
    _is_speaking: bool = field(init=False)
    _is_told: bool = field(init=False)

    def __post_init__(self) -> None:
        # The event `speak` is opened below, by a score of 1.
        wish = {} if self.rules.speak is None else {SPEAK: PhaseRules()}
        self._phases = Phases({**wish, **self.rules.events})
        self.reset()

    def reset(self) -> None:
        """Starts again: nothing open, the next event is e1."""
        self._phases.reset()
        self._frames, self._is_speaking, self._is_told = 0, False, False

    def snapshot(self) -> LearnedState:
        """The state, to be put back by `restore`."""
        return LearnedState(self._phases.snapshot(), self._frames, self._is_speaking, self._is_told)

    def restore(self, state: LearnedState) -> None:
        """Continues from a state as if nothing had been between.

        Raises:
            SettingsInvalid: the state is of other event types.
        """
        self._phases.restore(state.phases)
        self._frames = state.frames
        self._is_speaking, self._is_told = state.is_speaking, state.is_told

    def step(
        self,
        time_s: float,
        scores: Mapping[str, float],
        attributes: Mapping[str, Mapping[str, float]] | None = None,
    ) -> GateDecision:
        """Events at one frame, and whether they make a Turn (`speaks`).

        Args:
            time_s: of the frame; must not go back, seconds.
            scores: in [0, 1] per event type and of `speak`, as the network gave them.
            attributes: attribute → value → probability.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
        """
        is_warm = self._frames >= self.rules.warm_up_frames
        heard = {name: scores.get(name, 0.0) for name in self.rules.events}
        if not is_warm:
            heard = {name: score if name == CUT else 0.0 for name, score in heard.items()}
        opens = any(
            score >= self.rules.events[name].open_above and self._phases.open_event(name) is None
            for name, score in heard.items()
        )
        speaking, told, speaks = self._wish(scores, opens, is_warm)
        if self.rules.speak is not None:
            heard[SPEAK] = float(speaks and not opens)
        decision = self._phases.step(time_s, heard, self._told_of(attributes or {}))
        self._frames = min(self._frames + 1, self.rules.warm_up_frames)
        self._is_speaking, self._is_told = speaking, told
        return replace(decision, scores=scores, speaks=speaks)

    def idle(self, time_s: float) -> GateDecision:
        """Time-outs at a tick without a frame."""
        return self._phases.idle(time_s)

    def _wish(
        self, scores: Mapping[str, float], opens: bool, is_warm: bool
    ) -> tuple[bool, bool, bool]:
        """(is speaking, something typed was told in this stretch, a Turn is due)."""
        rules = self.rules.speak
        if rules is None:
            return False, False, opens
        score = scores.get(SPEAK, 0.0)
        if not (is_warm or opens or self._frames == 0):
            score = 0.0
        if not self._is_speaking:
            begins = score >= rules.open_above
            return begins, begins and opens, begins
        if score < rules.closes_under:
            return False, False, False
        return True, self._is_told or opens, opens and self._is_told

    def _told_of(
        self, attributes: Mapping[str, Mapping[str, float]]
    ) -> Mapping[str, Mapping[str, str]]:
        """Event type → the attributes that are sure enough to be told of it."""
        sure: dict[str, str] = {}
        for name, values in attributes.items():
            best = max(values, key=lambda value: values[value])
            if values[best] >= self.rules.attribute_above:
                sure[name] = best
        names_of = self.rules.attributes_of
        if names_of is None:
            return dict.fromkeys((SPEAK, *self.rules.events), sure)
        return {
            event: {name: sure[name] for name in names if name in sure}
            for event, names in names_of.items()
        }
