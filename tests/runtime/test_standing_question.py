"""Requests made into questions, and yes or no out of answers: pure rules and their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world.phrasings import SEEN
from edgestream.evaluation.world.topics import UNKNOWN
from edgestream.runtime.standing_question import (
    TAUGHT,
    condition_of,
    question_of,
    taught_question_of,
    verdict_of,
)

COLOURS = ("red", "green")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes.", True),
        ("  yes, a man is there", True),
        ("YES", True),
        ("**Yes**, it is dark.", True),
        ("Yes, there is no light on.", True),
        ("Yeah", True),
        ("True.", True),
        ("No.", False),
        ("no", False),
        ("No, yes was what I said before.", False),
        ("Nope!", False),
        ("None.", False),
        ("false", False),
        ("", None),
        ("...", None),
        (UNKNOWN, None),
        ("Yes and no.", None),
        ("yes/no", None),
        ("No or yes", None),
        ("No idea.", None),
        ("No way to tell.", None),
        ("Not sure.", None),
        ("Nothing moves.", None),
        ("Yesterday it was.", None),
        ("Noon.", None),
        ("It is dark.", None),
        ("Maybe yes.", None),
    ],
)
def test_the_verdict_of_an_answer(text, verdict):
    assert verdict_of(text) is verdict


@given(st.text(max_size=40))
def test_any_text_has_a_verdict_and_letters_and_marks_do_not_matter(text):
    verdict = verdict_of(text)
    assert verdict in (True, False, None)
    assert verdict_of(f'  "{text}') is verdict


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("Tell me when it gets dark.", "it gets dark"),
        ("please let me know if  somebody comes", "somebody comes"),
        ("Warn me as soon as the door opens!", "the door opens"),
        ("Say when", "Say when"),
        ("the cat is on the table", "the cat is on the table"),
        ("Telling me when", "Telling me when"),
    ],
)
def test_the_condition_in_a_request(text, condition):
    assert condition_of(text) == condition
    assert question_of(text) == f"Is it true now: {condition}? Answer yes or no."


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Tell me when it gets dark", "Is it dark?"),
        ("tell me if the room becomes darker.", "Is it dark?"),
        ("Let me know when the lights go out", "Is it dark?"),
        ("Tell me when something moves", "Is anything moving?"),
        ("Alert me when there is motion", "Is anything moving?"),
        ("Tell me when a red object appears", "Is there a red object?"),
        ("Tell me when there is a green thing", "Is there a green object?"),
        ("Tell me when a pink object appears", None),  # a colour it does not know
        ("Tell me when it gets bright", None),  # "not dark" is not "brighter than before"
        ("Tell me when something moves or it is dark", None),
        ("Tell me when a red car appears", None),  # it knows objects, not cars
        ("Tell me when it stops moving", None),
    ],
)
def test_what_the_reference_assistant_is_asked(text, question):
    assert taught_question_of(text, COLOURS) == question


def test_it_is_asked_as_it_was_taught():
    seen = {phrasing for topic in ("lit", "moving", "present") for phrasing in SEEN[topic]}
    assert {question for _, question in TAUGHT} <= seen
