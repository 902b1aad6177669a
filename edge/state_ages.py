"""How old what a run remembers is, counted through the times in which nobody watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings_tables import Settings

SAVINGS = 8
"""With a retention, a state is saved so often within it at least: what is saved then is at most an
eighth of it older than what the memory holds."""
AFTER_S = 1e-3
"""Just after a moment of stream time."""
LONG_AGO_S = 1e12
"""Older than anything: thirty thousand years."""


def save_every_s(settings: Settings) -> float:
    """Stream time between two saved states, seconds."""
    every_s, retention_s = settings.memory.snapshot_every_s, settings.privacy.retention_s
    return min(every_s, retention_s / SAVINGS) if retention_s else every_s


@dataclass(frozen=True, slots=True)
class Ages:
    """The gaps in a stream that was watched by several runs.

    Stream time stands still while nobody watches, and what is kept gets older all the same.

    Attributes:
        gaps: (stream time at which a run ended, time until the next one began), seconds.
    """

    gaps: tuple[tuple[float, float], ...] = ()

    def forget_before_s(self, time_s: float) -> float:
        """Stream time before which all is older than what is at `time_s` now, seconds.

        What was seen before a gap is older by the gap.
        """
        found = time_s
        older_s = 0.0
        for ended_s, gap_s in reversed(self.gaps):
            older_s += gap_s
            found = max(found, min(ended_s + AFTER_S, time_s + older_s))
        return found

    def without(self, before_s: float) -> Ages:
        """The same without gaps before which nothing is kept any more."""
        return Ages(tuple(gap for gap in self.gaps if gap[0] + AFTER_S > before_s))

    def saved(self, wall_s: float) -> dict[str, Any]:
        """What is saved of it.

        Args:
            wall_s: time of day, seconds since 1970.
        """
        return {"gaps": [list(gap) for gap in self.gaps], "saved_s": wall_s}


def ages_after(values: Mapping[str, Any], clock_s: float, wall_s: float) -> Ages:
    """The ages in a run that goes on from a saved state.

    Args:
        values: what was saved. Of a state of an earlier version nobody knows how old it is: it is
            taken for older than anything.
        clock_s: stream time at which the run before ended.
        wall_s: time of day now, seconds since 1970.
    """
    gaps = tuple((float(ended_s), float(gap_s)) for ended_s, gap_s in values.get("gaps", ()))
    gap_s = max(0.0, wall_s - values["saved_s"]) if "saved_s" in values else LONG_AGO_S
    return Ages((*gaps, (clock_s, gap_s)))
