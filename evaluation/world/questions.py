"""Questions about a clip and their true answers, in many phrasings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .phrasings import SEEN
from .phrasings_unseen import UNSEEN
from .rules import WorldRules
from .simulate import FrameState
from .topics import ANSWERABLE, LONG_FRAMES, UNANSWERABLE, Asked, Past, is_black, past_of

KINDS = ("state", "recent", "long")
WANTS_YES = {"ever": 0.5, "present": 0.5}
MOSTLY_WANTS_YES = 0.68
"""More than half: yes, or some, mostly finds less often a place where it is true."""
WEIGHTS = {"first_colour": 4.0, "first_pan": 4.0, "n_cuts": 2.0, "n_enters": 2.0}
"""Of topics that can seldom be answered; of the others 1."""
FRAMES_TRIED = 25
"""Frames that a topic is tried at before another topic has its turn."""


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

    Cost: about 0.1 ms a question.
    """
    rng = Random(seed * 8 + 5)
    asked = (_question(states, rng, rules) for _ in range(rules.questions))
    return tuple(sorted((q for q in asked if q is not None), key=lambda question: question.frame))


def _question(states: Sequence[FrameState], rng: Random, rules: WorldRules) -> WorldQuestion | None:
    shares = (rules.state_share, rules.recent_share, 1 - rules.state_share - rules.recent_share)
    kind = rng.choices(KINDS, shares)[0]
    is_answerable = rng.random() >= rules.unanswerable
    phrasing = "unseen" if rng.random() < rules.unseen else "seen"
    topics = list(ANSWERABLE[kind] if is_answerable else UNANSWERABLE[kind])
    if is_answerable:
        topics.sort(key=lambda topic: -(rng.random() ** (1 / WEIGHTS.get(topic, 1.0))))
    else:
        rng.shuffle(topics)
    first = LONG_FRAMES + 2 if kind == "long" else 0
    for topic in topics if first < len(states) else ():
        wants_yes = rng.random() < WANTS_YES.get(topic, MOSTLY_WANTS_YES)
        for _ in range(FRAMES_TRIED):
            past = past_of(states, rng.randrange(first, len(states)), rng, wants_yes)
            found = _found(past, kind, topic, is_answerable)
            if found is not None:
                text = rng.choice((SEEN if phrasing == "seen" else UNSEEN)[topic])
                text = text.format(**found.slots)
                return WorldQuestion(
                    past.frame, text, found.answer, kind, topic, is_answerable, phrasing
                )
    return None


def _found(past: Past, kind: str, topic: str, is_answerable: bool) -> Asked | None:
    if is_answerable:
        return None if kind == "state" and is_black(past) else ANSWERABLE[kind][topic](past)
    return past.rng.choice(UNANSWERABLE[kind][topic])(past)
