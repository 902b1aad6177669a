"""Recall: which remembered frames a question is shown, and with which scores.

A question about now is shown the last frames alone; one about the past also what memory keeps of
it, chosen by a router, and the talk that it is likely about. The scores travel with the answer, so
that a person can see why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .engine import Engine
from .memory.dialogue import likeliest
from .memory.key_frame import MemoryView
from .prompt import MemoryEntry
from .recent import DialogueTurn
from .routers import QuestionRows, recency, scores
from .selection import selected
from .tense import split_override, tense_of
from .values import Float32


@dataclass(frozen=True, slots=True)
class RecallRules:
    """When memory is asked, and how.

    Attributes:
        mode: auto (questions about the past), recent (never) or recall (always).
        topk: remembered frames that are shown, at most.
        router: what scores them; see `ROUTERS`.
        selection: how they are chosen by their scores; see `selected`.
    """

    mode: Literal["auto", "recent", "recall"] = "auto"
    topk: int = 8
    router: str = "cos_sim_fine"
    selection: str = "top"


@dataclass(frozen=True, slots=True, eq=False)
class Recalled:
    """What a question is shown of the past.

    Attributes:
        question: without the word that overrides the rule.
        context: recent, where memory was not asked.
        entries: remembered frames with their scores, oldest first.
    """

    question: str
    context: Literal["recent", "recall"]
    entries: tuple[MemoryEntry, ...] = ()


def used_of(entries: Sequence[MemoryEntry]) -> tuple[tuple[str, float], ...]:
    """(key frame id, score) of each entry that a prompt shows, best first."""
    best_first = sorted(entries, key=lambda entry: -entry.score)
    return tuple((entry.frame_id, round(entry.score, 4)) for entry in best_first)


@dataclass(frozen=True, slots=True)
class Recall:
    """Chooses for a question.

    Attributes:
        rules: when and how.
        view: what memory keeps now.
        rows: text → (tokens, dim) float32 of the embedding table.
        indexer: the bundle's part of that name; None where it is not used.
    """

    rules: RecallRules
    view: Callable[[], MemoryView]
    rows: Callable[[str], Float32]
    indexer: Engine | None = None

    def of(
        self, question: str, time_s: float, shown_s: Collection[float] = (), share: float = 1.0
    ) -> Recalled:
        """What is shown for a question about a moment.

        Args:
            question: may begin with the word that overrides the rule.
            time_s: nothing younger is shown, seconds.
            shown_s: times of frames that are shown anyway: memory shows them again only with
                what was said of them.
            share: of the frames that the rules allow, so many are shown; one at least.
        """
        text, override = split_override(question)
        mode = override or self.rules.mode
        if mode == "recent" or (mode == "auto" and tense_of(text) == "present"):
            return Recalled(text, "recent")
        view = self.view().until(time_s).without(shown_s)
        if not view.key_frames:
            return Recalled(text, "recall")
        scored = self._scores(text, view)
        topk = max(1, round(self.rules.topk * share))
        chosen = selected(view, scored, topk, self.rules.selection)
        entries = tuple(
            MemoryEntry(
                frame.time_s, frame.embeds.astype(np.float32), frame.said, frame.frame_id, score
            )
            for frame, score in chosen
        )
        return Recalled(text, "recall", entries)

    def _scores(self, text: str, view: MemoryView) -> Float32:
        rows = self.rows(text)
        if not rows.size:  # "@recall" and no more: what is newest is shown
            return recency(view)
        return scores(self.rules.router, QuestionRows(rows, self.indexer), view)

    def talk(
        self, question: str, turns: tuple[DialogueTurn, ...], most: int
    ) -> tuple[DialogueTurn, ...]:
        """The turns of dialogue that are shown with a question about the past.

        Args:
            question: without the word that overrides the rule.
            turns: that came before, in the order of time.
            most: at most so many.

        Returns:
            The last one, which "it" and "then" may point to, and the others that the question is
            most likely about, in the order of time.
        """
        if len(turns) <= most or most < 1:
            return turns[:most]
        before = likeliest(turns[:-1], self.rows(question), self.rows, most - 1)
        return (*before, turns[-1])
