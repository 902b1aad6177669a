"""Standing requests: what the user wants to be told of whenever it comes true ("tell me when …").

A request asks the language model a question of yes or no, every so often and when an event opens,
or waits for event types alone. What fires is decided by the thread that watches, out of what it was
delivered: the times of frames, what opened, and the answers to its checks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from .errors import StandingRefused
from .orders import Orders
from .records import Record
from .standing_question import question_of
from .standing_request import Stand, StandingOrder, StandingRequest, Unstand
from .standing_state import StandingRules as StandingRules
from .standing_state import StandingState, state_from_json
from .values import GateDecision, Response


@dataclass(frozen=True, slots=True)
class Standing:
    """A request as it stands now.

    Attributes:
        request: what is wanted.
        is_met: its condition is true, as far as is known.
        last_fired_s: stream time at which it last fired, seconds; None where it never did.
    """

    request: StandingRequest
    is_met: bool = False
    last_fired_s: float | None = None


class StandingRequests:
    """The standing requests of one run.

    `add`, `cancel`, `list` and `snapshot` are safe from any thread. All else belongs to the thread
    that watches: what other threads change reaches it as orders, at a frame boundary.

    State: at most `rules.most` requests and what is known of each; those that came and those that
    were cancelled since the last frame boundary.

    Args:
        rules: how requests are held.
        orders: take what changes to the thread that watches; None: of its own.
        can_answer: a language model is there; without one a request waits for event types alone.
        asking: the words of a request → the question of yes or no that is asked for it.
    """

    def __init__(
        self,
        rules: StandingRules | None = None,
        orders: Orders | None = None,
        *,
        can_answer: bool = True,
        asking: Callable[[str], str] = question_of,
    ) -> None:
        self.rules = rules or StandingRules()
        self.orders = Orders() if orders is None else orders
        self._can_answer, self._asking = can_answer, asking
        self._lock = threading.Lock()
        self._known: dict[str, StandingState] = {}
        self._coming: dict[str, StandingRequest] = {}
        self._going: set[str] = set()
        self._ids = count(1)

    def add(
        self,
        text: str,
        *,
        question: str | None = None,
        events: Iterable[str] | None = None,
        check_s: float | None = None,
        refractory_s: float | None = None,
        sinks: Iterable[str] = (),
        cameras: Iterable[str] | None = None,
        request_id: str | None = None,
    ) -> StandingRequest:
        """Take a request; it is watched for from the next frame on.

        Args:
            text: the request in the user's words.
            question: what is asked; None: made of the words, or, where event types are given,
                nothing: the request waits for these alone.
            events, check_s, refractory_s, sinks, cameras: see `StandingRequest`; a time that is
                None is as the rules say.
            request_id: None: a new one.

        Raises:
            StandingInvalid: it is no request.
            StandingRefused: there are too many, its name is taken, or nobody can answer it.
        """
        types = None if events is None else tuple(events)
        asked = self._asking(text) if question is None and types is None else question
        self._check_answered(asked)
        with self._lock:
            self._check_room(request_id)
            request = StandingRequest(
                request_id or self._new_id(),
                text,
                asked,
                types,
                self.rules.check_s if check_s is None else check_s,
                self.rules.refractory_s if refractory_s is None else refractory_s,
                tuple(sinks),
                None if cameras is None else tuple(cameras),
            )
            self._coming[request.request_id] = request
            self.orders.put(Stand(request))
            return request

    def cancel(self, request_id: str) -> bool:
        """Let a request go; whether there was one of this name."""
        with self._lock:
            if request_id not in self._held():
                return False
            # What it has come to by then is for the thread that watches to forget.
            self._going.add(request_id)
            self.orders.put(Unstand(request_id))
            return True

    def list(self) -> tuple[Standing, ...]:
        """All requests as they stand, in the order in which they came."""
        with self._lock:
            return tuple(Standing(k.request, k.is_met, k.fired_s) for k in self._held().values())

    def snapshot(self) -> tuple[dict[str, Any], ...]:
        """All requests and what is known of them, as JSON values, to be put back by `restore`."""
        with self._lock:
            return tuple(known.as_json() for known in self._held().values())

    def restore(self, saved: Iterable[Mapping[str, Any]]) -> None:
        """Go on from what `snapshot` gave; before the run.

        Raises:
            StandingInvalid: it is no such value.
            StandingRefused: there are more than the rules allow, or nobody can answer one.
        """
        states = [state_from_json(values) for values in saved]
        known = {state.request.request_id: state for state in states}
        for state in states:
            self._check_answered(state.request.question)
        if len(known) > self.rules.most:
            raise StandingRefused(
                f"{len(known)} standing requests were saved, expected at most {self.rules.most}",
                hint="raise standing.most",
            )
        with self._lock:
            self._known = known

    def _check_answered(self, question: str | None) -> None:
        if question is not None and not self._can_answer:
            raise StandingRefused(
                "no language model is attached to this run, so nobody can answer the question of a "
                "standing request",
                hint="name event types for it to wait for, or a model with --bundle",
            )

    def _held(self) -> dict[str, StandingState]:
        """Name → request, as whoever adds and cancels sees them."""
        coming = {name: StandingState(request) for name, request in self._coming.items()}
        held = {**self._known, **coming}
        return {name: state for name, state in held.items() if name not in self._going}

    def _check_room(self, request_id: str | None) -> None:
        held = len(self._held())
        if request_id in {*self._known, *self._coming}:  # also of one that is just going
            raise StandingRefused(f"a standing request is already called {request_id}")
        if held >= self.rules.most:
            raise StandingRefused(
                f"{held} standing requests are held, which is the limit",
                hint="cancel one, or raise standing.most",
            )

    def _new_id(self) -> str:
        taken = {*self._known, *self._coming}
        return next(name for name in map("r{}".format, self._ids) if name not in taken)

    def obey(self, order: StandingOrder) -> None:
        """Watch for a request from now on, or no longer."""
        with self._lock:
            if isinstance(order, Unstand):
                self._known.pop(order.request_id, None)
                self._going.discard(order.request_id)
                return
            name = order.request.request_id
            self._coming.pop(name, None)
            self._known[name] = StandingState(order.request)

    def step(self, time_s: float, decision: GateDecision) -> tuple[StandingRequest, ...]:
        """The requests that are to be checked at this frame, in the order in which they came.

        Args:
            time_s: of the frame, seconds.
            decision: what opened at it.
        """
        with self._lock:
            return tuple(k.request for k in self._known.values() if k.step(time_s, decision))

    def asked(self, request_id: str, turn_id: str) -> None:
        """The check of a request is under way as this Turn."""
        with self._lock:
            if request_id in self._known:
                self._known[request_id].turn_id = turn_id

    def verdict(self, response: Response) -> Record | None:
        """Take the answer to a check in; the record of its request where that fires."""
        with self._lock:
            for known in self._known.values():
                if known.turn_id == response.turn_id:
                    return known.verdict(response, self.rules)
            return None  # it was cancelled meanwhile

    def opened(self, decision: GateDecision) -> tuple[Record, ...]:
        """The records of requests that wait for event types alone, and fire at what opened."""
        with self._lock:
            fired = [known.opened(decision) for known in self._known.values()]
        return tuple(record for record in fired if record is not None)
