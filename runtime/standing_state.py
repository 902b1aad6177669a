"""What is known of one standing request: when it is checked, whether it is true, when it fires.

No clock and no threads: it sees the times of frames, what opened, and the answers to its checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import StandingInvalid
from .records import Record
from .standing_question import verdict_of
from .standing_request import StandingRequest, request_from_json
from .values import GateDecision, Response


@dataclass(frozen=True, slots=True)
class StandingRules:
    """How requests are held.

    Attributes:
        most: requests at a time.
        check_s: between two checks of a request that says nothing else, stream seconds.
        refractory_s: after it fired, a request does not fire for so long, stream seconds.
        met_after: answers of yes in a row after which its condition has come true.
        unmet_after: answers of no in a row after which it is no longer true.
    """

    most: int = 16
    check_s: float = 10.0
    refractory_s: float = 60.0
    met_after: int = 1
    unmet_after: int = 2


SAVED = ("checked_s", "row", "is_met", "is_untold", "fired_s")


@dataclass(slots=True)
class StandingState:
    """One request and what is known of it.

    Attributes:
        request: what is wanted.
        checked_s: stream time of its last check; None before the first.
        turn_id: of the check that is under way; None where none is.
        is_due: it is to be checked at the next frame, whatever the time.
        row: answers in a row against `is_met`.
        is_met: its condition is true.
        is_untold: it has come true, and that was not told yet.
        fired_s: stream time at which it last fired; None where it never did.
    """

    request: StandingRequest
    checked_s: float | None = None
    turn_id: str | None = None
    is_due: bool = True
    row: int = 0
    is_met: bool = False
    is_untold: bool = False
    fired_s: float | None = None

    def step(self, time_s: float, decision: GateDecision) -> bool:
        """Whether it is checked at this frame.

        While a check is under way none is; an event that opens meanwhile has it checked once more.

        Args:
            time_s: of the frame, seconds.
            decision: what opened at it.
        """
        request = self.request
        if request.question is None:
            return False
        self.is_due |= any(request.wants(event.event) for event in decision.opened)
        is_time = self.checked_s is None or time_s - self.checked_s >= request.check_s
        if self.turn_id is not None or not (self.is_due or is_time):
            return False
        self.is_due, self.checked_s = False, time_s
        return True

    def verdict(self, response: Response, rules: StandingRules) -> Record | None:
        """Take the answer to its check in; its record where it fires.

        A check that was cut is made again at the next frame. An answer that is neither yes nor no
        changes nothing.
        """
        self.turn_id = None
        self.is_due |= response.ended_by == "cut"
        is_yes = None if response.is_cut else verdict_of(response.text)
        if is_yes is None:
            return None
        # Hysteresis: so many answers in a row against what is known, and it is known otherwise.
        self.row = 0 if is_yes == self.is_met else self.row + 1
        if self.row and self.row >= (rules.met_after if is_yes else rules.unmet_after):
            self.row, self.is_met, self.is_untold = 0, is_yes, is_yes
        time_s = response.about_s[1]
        if not (is_yes and self.is_untold and self._may_fire(time_s)):
            return None
        self.fired_s, self.is_untold = time_s, False
        return self.request.fired(response.turn_id, response.text, response.about_s)

    def opened(self, decision: GateDecision) -> Record | None:
        """Its record, where it waits for event types alone and fires at what opened."""
        request, time_s = self.request, decision.time_s
        names = [event.event for event in decision.opened if request.wants(event.event)]
        if request.question is not None or not names or not self._may_fire(time_s):
            return None
        self.fired_s = time_s
        return request.fired(None, ", ".join(names), (time_s, time_s))

    def _may_fire(self, time_s: float) -> bool:
        return self.fired_s is None or time_s - self.fired_s >= self.request.refractory_s

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; the answer to a check under way is not heard after them."""
        return {
            **self.request.as_json(),
            **{name: getattr(self, name) for name in SAVED},
            "is_due": self.is_due or self.turn_id is not None,
        }


def state_from_json(values: Mapping[str, Any]) -> StandingState:
    """What `as_json` gave.

    Raises:
        StandingInvalid: it is no such value.
    """
    try:
        kept = {name: values[name] for name in (*SAVED, "is_due")}
    except KeyError as error:
        raise StandingInvalid(f"a saved standing request has no {error}") from error
    return StandingState(request_from_json(values), **kept)
