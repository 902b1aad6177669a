"""Questions about a clip and their true answers, in many phrasings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .phrasings import SEEN
from .phrasings_unseen import UNSEEN
from .rules import WorldRules
from .simulate import FrameState
from .topics import ANSWERABLE, LONG_FRAMES, UNANSWERABLE, Past, is_black

KINDS = ("state", "recent", "long")
TRIES = 60
"""Frames and topics that are tried before a question is given up."""


@dataclass(frozen=True, slots=True)
class WorldQuestion:
    """A question and the one right answer.

    Attributes:
        frame: it is asked after this frame was seen.
        text, answer: words of WORDS.
        kind: of KINDS.
        topic: what it is about, of the phrasings.
        is_answerable: False where the answer is "I cannot tell.".
        phrasing: "seen" in training or "unseen".
    """

    frame: int
    text: str
    answer: str
    kind: str
    topic: str
    is_answerable: bool
    phrasing: str


def questions_about(
    states: Sequence[FrameState], seed: int, rules: WorldRules
) -> tuple[WorldQuestion, ...]:
    """Questions about a clip in order of time.

    A long question needs more than 17 frames; a kind that finds nothing to ask is left out.
    """
    rng = Random(seed * 8 + 5)
    asked = (_question(states, rng, rules) for _ in range(rules.questions))
    return tuple(sorted((q for q in asked if q is not None), key=lambda question: question.frame))


def _question(states: Sequence[FrameState], rng: Random, rules: WorldRules) -> WorldQuestion | None:
    shares = (rules.state_share, rules.recent_share, 1 - rules.state_share - rules.recent_share)
    kind = rng.choices(KINDS, shares)[0]
    is_answerable = rng.random() >= rules.unanswerable
    phrasing = "unseen" if rng.random() < rules.unseen else "seen"
    for _ in range(TRIES):
        frame = rng.randrange(LONG_FRAMES + 2 if kind == "long" else 0, max(len(states), 19))
        if frame >= len(states):
            continue
        events = tuple(event for state in states[: frame + 1] for event in state.events)
        past = Past(frame, states[frame], states, events, rng)
        if is_answerable:
            topic = rng.choice(tuple(ANSWERABLE[kind]))
            found = None if kind == "state" and is_black(past) else ANSWERABLE[kind][topic](past)
        else:
            topic = rng.choice(tuple(UNANSWERABLE[kind]))
            found = rng.choice(UNANSWERABLE[kind][topic])(past)
        if found is not None:
            text = rng.choice((SEEN if phrasing == "seen" else UNSEEN)[topic])
            text = text.format(**found.slots)
            return WorldQuestion(frame, text, found.answer, kind, topic, is_answerable, phrasing)
    return None
