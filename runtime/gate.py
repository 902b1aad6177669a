"""Gates: when a stream is worth a word. One visible dictionary names them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import SettingsInvalid, StreamOutOfOrder
from .gate_change import ChangeGate, ChangeRules
from .phases import TIME_TOLERANCE_S
from .values import Event, Features, GateDecision


class Gate(Protocol):
    """Turns features, frame by frame, into decisions. Bounded state; no clock of its own."""

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """The decision at one frame; dt_s is None for a first frame."""

    def idle(self, time_s: float) -> GateDecision:
        """The decision at a tick without a frame: time-outs only, never a fresh event."""

    def reset(self) -> None:
        """Starts again."""

    def snapshot(self) -> Any:
        """The state, to be put back by `restore` of the same kind of gate."""

    def restore(self, state: Any) -> None:
        """Continues from a state as if nothing had been between."""


@dataclass(frozen=True, slots=True)
class EveryState:
    """All that an `EveryGate` carries from step to step.

    Attributes:
        first_s: time of the first frame, seconds; None before it.
        last_s: time of the last frame, seconds; None before the first.
        decided_s: time of the last decision, seconds; None before the first.
        rounds: how many periods since first_s have had their event.
        events: how many events have opened.
        event: the event that has opened and not been closed yet.
    """

    first_s: float | None = None
    last_s: float | None = None
    decided_s: float | None = None
    rounds: int = 0
    events: int = 0
    event: Event | None = None


class EveryGate:
    """One event `every` each so many seconds of stream time, the first at the first frame.

    An event lasts no time; its closing is in the decision after its opening. A gap in the stream
    gives one event, not the missed ones, and never shifts the later ones.

    Args:
        every_s: period, seconds, above 0.

    Raises:
        SettingsInvalid: the period is not above 0.
    """

    def __init__(self, every_s: float) -> None:
        if not (math.isfinite(every_s) and every_s > 0):
            raise SettingsInvalid(
                f"the gate `every` got a period of {every_s} s; expected more than 0 s",
                hint="try every:5",
            )
        self.every_s = every_s
        self._state = EveryState()

    def reset(self) -> None:
        """Starts again: the next frame has an event."""
        self._state = EveryState()

    def snapshot(self) -> EveryState:
        """The state, to be put back by `restore`."""
        return self._state

    def restore(self, state: EveryState) -> None:
        """Continues from a state as if nothing had been between."""
        self._state = state

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """An event if its time has come.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
        """
        time_s, state = features.time_s, self._state
        if state.last_s is not None and time_s < state.last_s:
            raise StreamOutOfOrder(
                f"a frame of {time_s:.3f} s came after one of {state.last_s:.3f} s; "
                "times must not go back",
                hint="reset the gate when a source starts again",
            )
        first_s = time_s if state.first_s is None else state.first_s
        closed = () if state.event is None else (_closed_at_once(state.event),)
        rounds = math.floor((time_s - first_s + TIME_TOLERANCE_S) / self.every_s) + 1
        if rounds <= state.rounds:
            self._state = EveryState(first_s, time_s, time_s, state.rounds, state.events)
            return self._decision(time_s, 0.0, closed)
        event = Event(f"e{state.events + 1}", "every", time_s, None, {"every": 1.0})
        self._state = EveryState(first_s, time_s, time_s, rounds, state.events + 1, event)
        return self._decision(time_s, 1.0, closed)

    def idle(self, time_s: float) -> GateDecision:
        """The closing that is due; a tick no later than the last decision changes nothing."""
        state = self._state
        if state.decided_s is not None and time_s <= state.decided_s:
            return GateDecision(state.decided_s, self._phases(()))
        closed = () if state.event is None else (_closed_at_once(state.event),)
        self._state = EveryState(state.first_s, state.last_s, time_s, state.rounds, state.events)
        return GateDecision(time_s, self._phases(closed), closed=closed)

    def _phases(self, closed: tuple[Event, ...]) -> dict[str, Any]:
        if self._state.event is not None:
            return {"every": "opened"}
        return {"every": "closed" if closed else "quiet"}

    def _decision(self, time_s: float, score: float, closed: tuple[Event, ...]) -> GateDecision:
        opened = () if self._state.event is None else (self._state.event,)
        return GateDecision(time_s, self._phases(closed), {"every": score}, opened, closed)


def _closed_at_once(event: Event) -> Event:
    return Event(event.event_id, event.event, event.opened_s, event.opened_s, event.scores)


class NeverGate:
    """A gate that never opens: only questions are answered."""

    def reset(self) -> None:
        """Nothing to start again."""

    def snapshot(self) -> None:
        """There is no state."""

    def restore(self, state: None) -> None:
        """There is no state."""

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """Nothing happens at any frame."""
        return GateDecision(features.time_s)

    def idle(self, time_s: float) -> GateDecision:
        """Nothing happens at any tick."""
        return GateDecision(max(time_s, 0.0))


def _every(argument: str | None, rules: ChangeRules | None) -> Gate:
    try:
        return EveryGate(float(argument or ""))
    except ValueError:
        raise SettingsInvalid(
            f"the gate `every` got {argument!r}; expected seconds after a colon",
            hint="try every:5",
        ) from None


def _without_argument(make: Callable[[ChangeRules | None], Gate]) -> Callable[..., Gate]:
    def gate(argument: str | None, rules: ChangeRules | None) -> Gate:
        if argument is not None:
            raise SettingsInvalid(f"this gate takes nothing after its name, got {argument!r}")
        return make(rules)

    return gate


GATES: dict[str, Callable[[str | None, ChangeRules | None], Gate]] = {
    "change": _without_argument(ChangeGate),
    "every": _every,
    "never": _without_argument(lambda rules: NeverGate()),
}


def gate_from_name(name: str, rules: ChangeRules | None = None) -> Gate:
    """The gate that a setting names.

    Args:
        name: `change`, `every:N` (N seconds of stream time) or `never`.
        rules: thresholds of the change gate; its defaults where None.

    Raises:
        SettingsInvalid: no gate goes by this name, or N is no number above 0.
    """
    kind, colon, argument = name.partition(":")
    if kind not in GATES:
        raise SettingsInvalid(
            f"no gate is called {name!r}; expected change, every:N or never",
            hint="try change",
        )
    return GATES[kind](argument if colon else None, rules)
