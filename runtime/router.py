"""The router: it turns what the gate opened and what the user asked into Turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .standing_request import StandingRequest
from .values import Features, Float32, GateDecision, Observed, Question, Turn

# Nothing opened and nothing closed: for the moments at which only questions are looked at.
QUIET = GateDecision(time_s=0.0)


class TurnRouter:
    """Makes Turns, questions first: a person who waits goes before a sentence nobody asked for.

    State: the number of the next Turn.

    Args:
        describes_events: an event that opens makes a Turn; False where nobody can describe it.
        passes_frames: every frame goes to the session (`continuous`).
        turns_before: made by earlier runs of the same stream, so that names stay unique.
    """

    def __init__(
        self, *, describes_events: bool, passes_frames: bool = False, turns_before: int = 0
    ) -> None:
        self._describes_events = describes_events
        self._passes_frames = passes_frames
        self._turns = turns_before

    @property
    def turns_made(self) -> int:
        """Turns so far, those of earlier runs among them."""
        return self._turns

    def turns(
        self, decision: GateDecision, questions: Sequence[Question], now_s: float
    ) -> Iterator[Turn]:
        """One Turn per question, then one for all events that opened together.

        Args:
            decision: of the gate, or QUIET; where it does not speak, events make no Turn.
            questions: those that are due.
            now_s: stream time; a question timed after the end of the stream is about its end.
        """
        for question in questions:
            time_s = min(question.time_s, now_s)
            yield Turn(self._next_id(), "question", time_s, "answer", question=question)
        if decision.opened and decision.speaks and self._describes_events:
            yield Turn(
                self._next_id(),
                "event",
                decision.time_s,
                "describe",
                events=decision.opened,
            )

    def checks(self, requests: Sequence[StandingRequest], now_s: float) -> Iterator[Turn]:
        """One Turn per standing request that is to be checked now: it asks, and nobody reads it.

        Args:
            requests: each with a question.
            now_s: stream time of the newest frame, seconds.
        """
        for request in requests:
            question = Question(request.request_id, request.question or request.text, now_s)
            yield Turn(self._next_id(), "standing", now_s, "check", question=question)

    def _next_id(self) -> str:
        self._turns += 1
        return f"t{self._turns}"

    def observed(
        self, features: Features, embeds: Float32, *, is_asked: bool = False
    ) -> Iterator[Observed]:
        """The frame itself, where the session reads every frame."""
        if self._passes_frames:
            yield Observed(features, embeds, is_asked)
