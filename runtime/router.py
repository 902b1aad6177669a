"""The router: it turns what the gate opened and what the user asked into Turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from .values import Features, Float32, GateDecision, Observed, Question, Turn

# Nothing opened and nothing closed: for the moments at which only questions are looked at.
QUIET = GateDecision(time_s=0.0)


class TurnRouter:
    """Makes Turns, questions first: a person who waits goes before a sentence nobody asked for.

    State: the number of the next Turn.

    Args:
        describes_events: an event that opens makes a Turn; False where nobody can describe it.
        passes_frames: every frame goes to the session (`continuous`).
    """

    def __init__(self, *, describes_events: bool, passes_frames: bool = False) -> None:
        self._describes_events = describes_events
        self._passes_frames = passes_frames
        self._ids = count(1)

    def turns(
        self, decision: GateDecision, questions: Sequence[Question], now_s: float
    ) -> Iterator[Turn]:
        """One Turn per question, then one for all events that opened together.

        Args:
            decision: of the gate, or QUIET.
            questions: those that are due.
            now_s: stream time; a question timed after the end of the stream is about its end.
        """
        for question in questions:
            time_s = min(question.time_s, now_s)
            yield Turn(f"t{next(self._ids)}", "question", time_s, "answer", question=question)
        if decision.opened and self._describes_events:
            yield Turn(
                f"t{next(self._ids)}",
                "event",
                decision.time_s,
                "describe",
                events=decision.opened,
            )

    def observed(
        self, features: Features, embeds: Float32, *, is_asked: bool = False
    ) -> Iterator[Observed]:
        """The frame itself, where the session reads every frame."""
        if self._passes_frames:
            yield Observed(features, embeds, is_asked)
