"""A reference assistant against another one, line by line: what an adaptation has cost it."""

from __future__ import annotations

from .reference_scores import Figure, further_apart
from .reference_table import LONG_MINUS_LAST, Line, Tallies, counted

MOST_LOST = 0.02
"""That a line may be less than the other's."""
MICRO = ("speak_f1", "live_event_f1")
"""Lines over all events: their value is held against the bound, of others the interval."""
WITHOUT_BOUND = ("false_speech_per_100",)
"""Fewer are better here; what it costs shows in speak_f1."""


def lines_against(ours: Tallies, theirs: Tallies) -> tuple[Line, ...]:
    """Every line of the table as a difference on the same clips, drawn in pairs.

    A bound is kept where a micro line is at most MOST_LOST less than the other's, and where the
    lower end of the interval of any other line is: so nothing is lost for certain.

    Args:
        ours: of the assistant.
        theirs: of the one before it.

    Raises:
        ValueError: they were not counted on the same number of clips.
    """
    found = [
        _line(shown, one.minus(other, name))
        for (shown, name, one), (_, _, other) in zip(counted(ours), counted(theirs), strict=True)
    ]
    own, last = (
        (ours.questions[mode], theirs.questions[mode]) for mode in ("own_text", "last_frames")
    )
    memory = further_apart((own[0], last[0]), (own[1], last[1]), "questions_long")
    return (*found, _line(LONG_MINUS_LAST, memory))


def _line(shown: str, less: Figure) -> Line:
    figure = Figure(f"{shown}_minus_against", less.value, less.unit, less.n, less.ci95)
    if shown in WITHOUT_BOUND:
        return Line(figure)
    if shown in MICRO:
        return Line(figure, -MOST_LOST)
    return Line(figure, lowest=-MOST_LOST)
