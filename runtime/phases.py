"""The phase machine: from scores per event type to events that open once and close once.

Think of one token per event type that walks along TABLE. Scores decide when it leaves QUIET and
when it leaves OPENED or ONGOING; OPENED and CLOSED last one step each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .errors import SettingsInvalid, StreamOutOfOrder
from .values import Event, GateDecision, Phase

TABLE: Mapping[Phase, tuple[Phase, ...]] = {
    "quiet": ("quiet", "opened"),
    "opened": ("ongoing", "closed"),
    "ongoing": ("ongoing", "closed"),
    "closed": ("quiet", "opened"),
}
"""What may follow what. An event as short as a cut goes from OPENED straight to CLOSED, and the
next one may open in the step after that: or one of two cuts in a second would be missed."""

CLOSE_RATIO = 0.8
"""`close_below` as a share of `open_above`, where nothing else is said: enough to not flicker."""
TIME_TOLERANCE_S = 1e-6
"""Times are sums of floating-point steps; a hold of one second is over at 0.999999999 s too."""
IDLE_INTERVALS = 3.0
"""Intervals between frames without a frame that are a rest: one late frame is none."""

_NO_ATTRIBUTES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class PhaseRules:
    """When one event type opens and closes.

    Attributes:
        open_above: score from which it opens, in (0, 1].
        close_below: score under which it may close; 0.8 of open_above where None is given.
        hold_s: how long the score must stay under close_below before it closes, seconds.
        idle_s: it closes when no frame came for so long, seconds; for three intervals between
            frames where that is longer.
        flickers: an opening that is the so-manieth within flicker_s is the last one told: from then
            on it closes only when the score has been low for half of flicker_s; 0: never.
        flicker_s: time in which it must have opened so often, seconds.

    Raises:
        SettingsInvalid: a number is out of its range.
    """

    open_above: float = 0.5
    close_below: float | None = None
    hold_s: float = 0.0
    idle_s: float = 2.0
    flickers: int = 0
    flicker_s: float = 0.0

    def __post_init__(self) -> None:
        if self.close_below is None:
            object.__setattr__(self, "close_below", CLOSE_RATIO * self.open_above)
        assert self.close_below is not None
        if not 0 < self.open_above <= 1:
            raise SettingsInvalid(f"open_above must lie in (0, 1], got {self.open_above}")
        if not 0 <= self.close_below <= self.open_above:
            raise SettingsInvalid(
                f"close_below must lie between 0 and open_above ({self.open_above}), "
                f"got {self.close_below}"
            )
        if self.flickers < 0:
            raise SettingsInvalid(f"flickers must be 0 or more openings, got {self.flickers}")
        for name in ("hold_s", "idle_s", "flicker_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsInvalid(f"{name} must be 0 or more seconds, got {value}")

    @property
    def closes_under(self) -> float:
        """`close_below` as a plain number."""
        assert self.close_below is not None
        return self.close_below


@dataclass(frozen=True, slots=True)
class TypeState:
    """Where one event type stands.

    Attributes:
        phase: its phase at the last decision.
        event: the event that is open; None in QUIET and CLOSED.
        low_since_s: since when the score has been under close_below, seconds; None while it is not.
        openings_s: times of its last openings, seconds, at most `flickers`.
    """

    phase: Phase = "quiet"
    event: Event | None = None
    low_since_s: float | None = None
    openings_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PhasesState:
    """All that `Phases` carries from step to step.

    Attributes:
        types: state per event type, in the order of the rules.
        frame_s: time of the last frame, seconds; None before the first.
        decided_s: time of the last decision, seconds; None before the first.
        events: how many events have opened.
        interval_s: between the last two frames, seconds; 0 before the second.
    """

    types: tuple[tuple[str, TypeState], ...]
    frame_s: float | None = None
    decided_s: float | None = None
    events: int = 0
    interval_s: float = 0.0


class Phases:
    """Opens and closes events. State: one `TypeState` per event type and four numbers.

    Args:
        rules: per event type; several types may be open at once.
    """

    def __init__(self, rules: Mapping[str, PhaseRules]) -> None:
        self._rules = dict(rules)
        self.reset()

    def reset(self) -> None:
        """Starts again: everything QUIET, the next event is e1."""
        self._state = PhasesState(tuple((name, TypeState()) for name in self._rules))

    def snapshot(self) -> PhasesState:
        """The state, to be put back by `restore`."""
        return self._state

    def restore(self, state: PhasesState) -> None:
        """Continues from a state as if nothing had been between.

        Raises:
            SettingsInvalid: the state is of other event types.
        """
        names = [name for name, _ in state.types]
        if names != list(self._rules):
            raise SettingsInvalid(
                f"the state is of events {', '.join(names)}; these rules are of "
                f"{', '.join(self._rules)}",
                hint="start without the saved state",
            )
        self._state = state

    def open_event(self, event: str) -> Event | None:
        """The event of this type that is open now; None where none is."""
        return next((state.event for name, state in self._state.types if name == event), None)

    def step(
        self,
        time_s: float,
        scores: Mapping[str, float],
        attributes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> GateDecision:
        """Phases, openings and closings at one frame.

        Args:
            time_s: of the frame; must not go back, seconds.
            scores: in [0, 1] per event type; a type that is missing scores 0.
            attributes: per event type, kept by an event that opens now.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
        """
        last = self._state.frame_s
        if last is not None and time_s < last:
            raise StreamOutOfOrder(
                f"a frame of {time_s:.3f} s came after one of {last:.3f} s; times must not go back",
                hint="reset the gate when a source starts again",
            )
        opened: list[Event] = []
        closed: list[Event] = []
        types: list[tuple[str, TypeState]] = []
        for name, state in self._state.types:
            following = self._at_frame(name, state, time_s, scores.get(name, 0.0))
            if following.phase == "opened":
                number = self._state.events + len(opened) + 1
                said = (attributes or {}).get(name, _NO_ATTRIBUTES)
                event = Event(f"e{number}", name, time_s, None, scores, said)
                following = replace(following, event=event)
                opened.append(event)
            elif following.phase == "closed" and state.event is not None:
                since_s = time_s if state.low_since_s is None else state.low_since_s
                closed.append(_closed(state.event, since_s, scores))
            types.append((name, following))
        events = self._state.events + len(opened)
        interval_s = 0.0 if last is None else time_s - last
        self._state = PhasesState(tuple(types), time_s, time_s, events, interval_s)
        return self._decision(time_s, scores, opened, closed)

    def idle(self, time_s: float) -> GateDecision:
        """Phases at a tick without a frame: time-outs only, never a fresh event.

        A tick that is no later than the last decision changes nothing: the clock of a tick and
        that of a camera need not agree to the millisecond.
        """
        decided = self._state.decided_s
        if decided is not None and time_s <= decided:
            return self._decision(decided, {}, [], [])
        closed: list[Event] = []
        types: list[tuple[str, TypeState]] = []
        for name, state in self._state.types:
            if state.event is not None and self._is_abandoned(name, time_s):
                closed.append(_closed(state.event, self._state.frame_s or 0.0, {}))
                types.append((name, TypeState("closed", openings_s=state.openings_s)))
            elif state.event is not None:
                types.append((name, replace(state, phase="ongoing")))
            else:
                types.append((name, TypeState(openings_s=state.openings_s)))
        self._state = replace(self._state, types=tuple(types), decided_s=time_s)
        return self._decision(time_s, {}, [], closed)

    def _at_frame(self, name: str, state: TypeState, time_s: float, score: float) -> TypeState:
        rules, openings_s = self._rules[name], state.openings_s
        if state.event is None and score >= rules.open_above:
            latest = (*openings_s, time_s)[-rules.flickers :] if rules.flickers else ()
            return TypeState("opened", openings_s=latest)
        if state.event is None:
            return TypeState("quiet", openings_s=openings_s)
        if score >= rules.closes_under:
            return TypeState("ongoing", state.event, openings_s=openings_s)
        since = time_s if state.low_since_s is None else state.low_since_s
        if time_s - since >= _hold_s(rules, openings_s) - TIME_TOLERANCE_S:
            return TypeState("closed", openings_s=openings_s)
        return TypeState("ongoing", state.event, since, openings_s)

    def _is_abandoned(self, name: str, time_s: float) -> bool:
        last = self._state.frame_s
        rest_s = max(self._rules[name].idle_s, IDLE_INTERVALS * self._state.interval_s)
        return last is not None and time_s - last >= rest_s - TIME_TOLERANCE_S

    def _decision(
        self, time_s: float, scores: Mapping[str, float], opened: list[Event], closed: list[Event]
    ) -> GateDecision:
        phases = {name: state.phase for name, state in self._state.types}
        return GateDecision(time_s, phases, scores, tuple(opened), tuple(closed))


def _hold_s(rules: PhaseRules, openings_s: tuple[float, ...]) -> float:
    """How long the score must be low, seconds: longer when the event opened so often just now."""
    is_flicker = 0 < rules.flickers == len(openings_s) and (
        openings_s[-1] - openings_s[0] <= rules.flicker_s + TIME_TOLERANCE_S
    )
    return max(rules.hold_s, 0.5 * rules.flicker_s) if is_flicker else rules.hold_s


def _closed(event: Event, over_s: float, scores: Mapping[str, float]) -> Event:
    """The event with the time at which it was over: earlier, by the hold, than it is told."""
    return replace(event, closed_s=max(over_s, event.opened_s), scores=scores)
