"""Answers, recomputed from the truth of the clip by an independent routine."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world import Clip, WorldQuestion, WorldRules, render_clip
from edgestream.evaluation.world.phrasings import CLAUSES, SEEN
from edgestream.evaluation.world.phrasings_unseen import UNSEEN
from edgestream.evaluation.world.simulate import FrameState, states
from edgestream.evaluation.world.topics import ANSWERABLE, UNANSWERABLE
from edgestream.evaluation.world.words import words_of

RULES = WorldRules(questions=20, unseen=0.3)
COUNTS = ["None.", "One.", "Two.", "Three.", "Four.", "Five."]
COLOUR = re.compile("red|orange|yellow|green|blue|purple|white|black")


def naive_answer(question: WorldQuestion, clip: Clip, where: list[FrameState]) -> str:
    """The answer by plain loops over what is where and what happened."""
    frame, topic = question.frame, question.topic
    now = where[frame]
    past = [event for event in clip.events if event.frame <= frame]
    there = {}
    for item in now.items if now.fade > 0 else ():
        if item.thing.colour and item.shown >= 0.5:
            there[item.thing.colour] = item
    named = COLOUR.search(question.text)
    colour = named.group() if named else ""
    unknown = "I cannot tell."

    def latest(*kinds: str):
        return next((e for e in reversed(past) if e.kind in kinds), None)

    def earliest(*kinds: str):
        return next((e for e in past if e.kind in kinds), None)

    if question.kind == "state" and now.fade == 0:
        return unknown
    if topic == "count":
        return COUNTS[len(there)]
    if topic == "moving":
        return "Yes." if any(item.is_moving for item in now.items) else "No."
    if topic == "lit":
        return "Yes." if clip.labels.is_dark[frame] else "No."
    if topic == "present":
        return "Yes." if colour in there else "No."
    if topic == "where":
        if colour not in there:
            return unknown
        item = there[colour]
        middle = (max(item.left, 0) + min(item.right, 112)) / 2
        return ["On the left.", "In the middle.", "On the right."][int(middle // (112 / 3))]
    if topic == "largest":
        sizes = {(i.right - i.left) * (i.bottom - i.top): name for name, i in there.items()}
        return f"{sizes[max(sizes)].capitalize()}." if sizes else unknown
    if topic in ("last_event", "first_event"):
        event = (past[-1] if topic == "last_event" else past[0]) if past else None
        return event.sentence if event else unknown
    if topic in ("last_pan", "last_zoom", "first_pan"):
        event = (latest if topic[0] == "l" else earliest)(topic.split("_")[1])
        return f"{str(event.direction).capitalize()}." if event else unknown
    if topic == "last_enter":
        event = latest("enter")
        return f"From the {event.side}." if event else unknown
    if topic == "last_light":
        event = latest("dark", "bright")
        return {"dark": "Darker.", "bright": "Brighter."}[event.kind] if event else unknown
    if topic == "first_colour":
        event = earliest("enter")
        return f"{str(event.colour).capitalize()}." if event else unknown
    if topic in ("n_cuts", "n_enters"):
        return COUNTS[sum(e.kind == {"n_cuts": "cut", "n_enters": "enter"}[topic] for e in past)]
    if topic == "ever":
        kind = next(kind for kind, clause in CLAUSES.items() if clause in question.text)
        return "Yes." if any(e.kind == kind for e in past) else "No."
    if topic == "seen_colour":
        frames = where[: frame + 1]
        showed = any(i.thing.colour == colour for state in frames for i in state.items)
        return "Yes." if showed else "No."
    assert topic == "opening"
    return unknown if where[0].fade == 0 else COUNTS[int(clip.labels.count[0])]


@pytest.mark.medium
@given(st.integers(0, 2**31 - 1))
def test_answers_are_true(seed: int) -> None:
    clip = render_clip(seed, 40, RULES, pixels=False)
    where = list(islice(states(seed, RULES), 40))
    for question in clip.questions:
        assert question.answer == naive_answer(question, clip, where), question
        assert question.is_answerable == (question.answer != "I cannot tell.")
    frames = [question.frame for question in clip.questions]
    assert frames == sorted(frames)


@pytest.mark.medium
@given(st.integers(0, 2**31 - 1))
def test_long_questions_are_about_long_ago(seed: int) -> None:
    """What decides the answer does not lie in the last 16 frames."""
    clip = render_clip(seed, 40, RULES, pixels=False)
    for question in clip.questions:
        if question.kind == "long" and question.is_answerable:
            assert question.frame > 16
            before = [e for e in clip.events if e.frame < question.frame - 16]
            if question.topic in ("first_event", "first_pan", "first_colour"):
                assert before
            if question.topic == "ever" and question.answer == "Yes.":
                kind = next(k for k, clause in CLAUSES.items() if clause in question.text)
                near = [e for e in clip.events if 0 <= question.frame - e.frame <= 16]
                assert kind not in {e.kind for e in near}
                assert kind in {e.kind for e in before}


def test_phrasings_are_many_and_the_unseen_ones_are_new_but_of_known_words() -> None:
    topics = {topic for of_kind in ANSWERABLE.values() for topic in of_kind}
    assert set(SEEN) == set(UNSEEN) == topics
    assert {t for of_kind in UNANSWERABLE.values() for t in of_kind} <= topics
    assert len({text for texts in SEEN.values() for text in texts}) == sum(map(len, SEEN.values()))
    known = {word for texts in SEEN.values() for text in texts for word in words_of(text)}
    known |= {word for clause in CLAUSES.values() for word in words_of(clause)}
    for topic in topics:
        assert len(SEEN[topic]) >= 8 and len(UNSEEN[topic]) >= 3
        assert not set(SEEN[topic]) & set(UNSEEN[topic])
        new = {word for text in UNSEEN[topic] for word in words_of(text)} - known
        assert not new, (topic, new)


def test_one_text_is_one_question() -> None:
    """The same words never ask two things, so that the answer to a text is decided."""
    texts = Counter(text for part in (SEEN, UNSEEN) for texts in part.values() for text in texts)
    assert max(texts.values()) == 1, texts.most_common(3)


@pytest.mark.medium
def test_shares_are_as_asked_for() -> None:
    rules = WorldRules(questions=20, unseen=0.25)
    asked = [
        q
        for seed in range(5000, 5100)
        for q in render_clip(seed, 40, rules, pixels=False).questions
    ]
    kinds = Counter(question.kind for question in asked)
    assert len(asked) > 1980
    assert [kinds[k] / len(asked) for k in ("state", "recent", "long")] == pytest.approx(
        [0.4, 0.3, 0.3], abs=0.05
    )
    assert sum(not q.is_answerable for q in asked) / len(asked) == pytest.approx(0.15, abs=0.03)
    assert sum(q.phrasing == "unseen" for q in asked) / len(asked) == pytest.approx(0.25, abs=0.03)
    assert not any(q.phrasing == "unseen" for q in render_clip(1, 40, pixels=False).questions)
