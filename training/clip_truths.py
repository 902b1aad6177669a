"""The truth of cached clips: rendered again without pixels when first asked for, then kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..evaluation.world import Clip, WorldQuestion, WorldRules, render_clip

QUESTIONS = 120
"""Asked about a clip, so that a few moments have several: they share what they are shown."""
CHOSEN_MOMENTS, CHOSEN_QUESTIONS = 4, 5


@dataclass(slots=True)
class ClipTruths:
    """Clips without pixels, by seed. State: those that were asked for.

    Attributes:
        frames: of a clip.
        questions: asked about each.
        most: clips that are kept; beyond it all are let go of.
    """

    frames: int
    questions: int = QUESTIONS
    most: int = 4000
    _kept: dict[int, Clip] = field(default_factory=dict)

    def of(self, seed: int) -> Clip:
        """The clip of a seed."""
        clip = self._kept.get(seed)
        if clip is None:
            if len(self._kept) >= self.most:
                self._kept.clear()
            rules = replace(WorldRules(), questions=self.questions)
            clip = render_clip(seed, self.frames, rules, pixels=False)
            self._kept[seed] = clip
        return clip


def some_moments(
    questions: tuple[WorldQuestion, ...], rng: np.random.Generator, moments: int = CHOSEN_MOMENTS
) -> list[WorldQuestion]:
    """Up to CHOSEN_QUESTIONS questions at each of a few moments, in order of time."""
    by_frame: dict[int, list[WorldQuestion]] = {}
    for question in questions:
        by_frame.setdefault(question.frame, []).append(question)
    frames = sorted(by_frame)
    weights = np.array([min(len(by_frame[frame]), CHOSEN_QUESTIONS) for frame in frames], float)
    if not frames:
        return []
    count = min(moments, len(frames))
    chosen = rng.choice(len(frames), count, replace=False, p=weights / weights.sum())
    found: list[WorldQuestion] = []
    for at in sorted(chosen):
        here = by_frame[frames[at]]
        picked = rng.permutation(len(here))[:CHOSEN_QUESTIONS]
        found += [here[number] for number in sorted(picked)]
    return found
