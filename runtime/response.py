"""A Response: what is said about a Turn, partial texts first and then exactly one final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .records import Record

Cause = Literal["event", "question", "standing"]
EndedBy = Literal["model", "limit", "cut", "fault"]


@dataclass(frozen=True, slots=True)
class Response:
    """What is said about a Turn: partial texts, then exactly one final.

    Attributes:
        turn_id: of the Turn.
        cause: of the Turn.
        text: all said so far; an empty final is the model's veto.
        is_final: nothing follows.
        about_s: (from, to), the stretch of stream time it speaks of, seconds.
        first_token_ms: from taking the Turn to the first token; None where nothing was said.
        total_ms: from taking the Turn to this response.
        used: (key frame id, score) of what memory chose, best first.
        context: recent, recall or continuous; None where no memory was asked.
        adapter: name of the adapter; None for the base.
        is_cut: stopped before its end by a cancel, a newer question or a fault of the engine.
        question: what was asked; None where an event was described.
        ended_by: the model, its limit of tokens, a cut, or a fault; None of a partial text.
    """

    turn_id: str
    cause: Cause
    text: str
    is_final: bool
    about_s: tuple[float, float]
    first_token_ms: float | None = None
    total_ms: float | None = None
    used: tuple[tuple[str, float], ...] = ()
    context: str | None = None
    adapter: str | None = None
    is_cut: bool = False
    question: str | None = None
    ended_by: EndedBy | None = None

    def record(self) -> Record:
        """A `partial` or a `final` record."""
        if not self.is_final:
            return Record("partial", {"turn_id": self.turn_id, "text": self.text})
        return Record(
            "final",
            {
                "turn_id": self.turn_id,
                "cause": self.cause,
                "question": self.question,
                "text": self.text,
                "about_s": [round(time_s, 4) for time_s in self.about_s],
                "first_token_ms": self.first_token_ms,
                "total_ms": self.total_ms,
                "used": [{"id": name, "score": score} for name, score in self.used],
                "context": self.context,
                "adapter": self.adapter,
                "is_cut": self.is_cut,
                "ended_by": self.ended_by,
            },
        )
