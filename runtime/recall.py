"""Recall: which remembered frames a question is shown, and with which scores.

A question about now is shown the last frames alone; one about the past also what memory keeps of
it, chosen by a router. The scores travel with the answer, so that a person can see why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .memory.key_frame import MemoryView
from .prompt import MemoryEntry
from .routers import QuestionRows, scores
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
        entries: remembered frames, oldest first.
        used: (key frame id, score) of each, best first.
    """

    question: str
    context: Literal["recent", "recall"]
    entries: tuple[MemoryEntry, ...] = ()
    used: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Recall:
    """Chooses for a question.

    Attributes:
        rules: when and how.
        view: what memory keeps now.
        rows: text → (tokens, dim) float32 of the embedding table.
    """

    rules: RecallRules
    view: Callable[[], MemoryView]
    rows: Callable[[str], Float32]

    def of(self, question: str, time_s: float) -> Recalled:
        """What is shown for a question about a moment.

        Args:
            question: may begin with the word that overrides the rule.
            time_s: nothing younger is shown, seconds.
        """
        text, override = split_override(question)
        mode = override or self.rules.mode
        if mode == "recent" or (mode == "auto" and tense_of(text) == "present"):
            return Recalled(text, "recent")
        view = self.view().until(time_s)
        if not view.key_frames:
            return Recalled(text, "recall")
        scored = scores(self.rules.router, QuestionRows(self.rows(text)), view)
        chosen = selected(view, scored, self.rules.topk, self.rules.selection)
        entries = tuple(
            MemoryEntry(frame.time_s, frame.embeds.astype(np.float32), frame.said)
            for frame, _ in chosen
        )
        best_first = sorted(chosen, key=lambda one: -one[1])
        used = tuple((frame.frame_id, round(float(score), 4)) for frame, score in best_first)
        return Recalled(text, "recall", entries, used)
