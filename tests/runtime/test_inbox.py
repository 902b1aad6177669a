"""Inbox laws: order, times, the limit, and that it closes only when everybody has an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import QuestionRefused
from edgestream.runtime.inbox import Inbox

times_s = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 9.0]), max_size=12)


@given(times_s, times_s)
def test_every_question_is_taken_once_in_the_order_of_its_time(asked_s, looks_s):
    inbox = Inbox(lambda: 0.0)
    asked = [inbox.ask(f"question {index}", time_s) for index, time_s in enumerate(asked_s)]
    taken = []
    for look_s in sorted(looks_s):
        before = inbox.due(look_s)
        at = inbox.due(look_s, inclusive=True)
        assert all(question.time_s < look_s for question in before)
        assert all(question.time_s == look_s for question in at)
        taken += [*before, *at]
    inbox.end()
    taken += inbox.due(0.0)
    assert sorted(taken, key=lambda one: one.question_id) == sorted(
        asked, key=lambda one: one.question_id
    )
    assert taken == sorted(taken, key=lambda question: question.time_s)


def test_a_full_inbox_refuses_and_drops_nothing():
    inbox = Inbox(lambda: 3.0, capacity=2)
    inbox.ask("one")
    inbox.ask("two")
    with pytest.raises(QuestionRefused, match="2 questions are waiting") as caught:
        inbox.ask("three")
    assert "session.questions_waiting" in (caught.value.hint or "")
    assert [question.text for question in inbox.due(3.0, inclusive=True)] == ["one", "two"]


def test_questions_that_are_being_answered_count_too():
    inbox = Inbox(lambda: 1.0, capacity=2)
    for _ in range(2):
        inbox.ask("why?", 0.5)
        assert len(inbox.due(1.0)) == 1
    with pytest.raises(QuestionRefused, match="2 questions are waiting or being answered"):
        inbox.ask("why?", 0.5)
    inbox.answered()
    inbox.ask("why?", 0.5)


def test_it_stays_open_until_the_last_answer_is_out():
    inbox = Inbox(lambda: 0.0)
    inbox.ask("one")
    assert not inbox.has_ended
    inbox.end()
    assert inbox.has_ended
    assert not inbox.close_if_settled()
    assert len(inbox.due(0.0)) == 1
    assert not inbox.close_if_settled()
    inbox.ask("two")
    assert len(inbox.due(0.0)) == 1
    inbox.answered()
    assert not inbox.close_if_settled()
    inbox.answered()
    assert inbox.close_if_settled()
    with pytest.raises(QuestionRefused, match="has ended"):
        inbox.ask("three")
