"""How one answer is written: deltas add up, wishes stay within the settings, faults are told."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.answers import Answer, Answers, Wishes
from edgestream.edge.service.chat import Reply, fault_of
from edgestream.edge.service.faults import STATUS, fault_body, status_of
from edgestream.edge.service.metrics_text import Family, escaped
from edgestream.runtime import errors
from edgestream.runtime.decoder import Decoding
from edgestream.runtime.errors import (
    AnswerLost,
    EdgeStreamError,
    PromptTooLong,
    QuestionRefused,
)
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.values import Response


def in_loop(call):
    async def run():
        return await call()

    return asyncio.run(run())


def response(text, *, is_final=False, ended_by=None):
    about = (0.0, 1.0)
    return Response("t1", "question", text, is_final, about, question="?", ended_by=ended_by)


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_deltas_add_up_to_the_text(text, ends):
    async def told():
        reply = Reply("m", "door", Answer())
        return "".join(reply.delta(text[:end]) for end in [*sorted(ends), len(text)])

    assert in_loop(told) == text


def test_what_is_said_again_from_the_beginning_begins_a_line():
    async def told():
        reply = Reply("m", "door", Answer())
        return [reply.delta(text) for text in ("A red", "A green thing", "A green thing.")]

    assert in_loop(told) == ["A red", "\nA green thing", "."]


@given(st.one_of(st.none(), st.integers(1, 500)), st.one_of(st.none(), st.integers(1, 500)))
def test_no_wish_makes_an_answer_longer_than_the_settings(most, wished):
    tokens = Wishes(max_tokens=wished).over(Decoding(max_tokens=most)).max_tokens
    known = [one for one in (most, wished) if one is not None]
    assert tokens == min(known, default=None)


def test_a_wish_changes_nothing_else():
    usual = Decoding(temperature=0.3, top_p=0.9, seed=7)
    assert Wishes().over(usual) == usual
    changed = Wishes(temperature=0.0, top_p=0.5, seed=0).over(usual)
    assert (changed.temperature, changed.top_p, changed.seed) == (0.0, 0.5, 0)


def test_the_last_text_is_never_missed_and_partial_ones_may_be():
    async def heard():
        answer = Answer()
        for text in ("a", "ab", "abc"):
            answer.put(response(text))
        answer.put(response("abcd", is_final=True, ended_by="model"))
        return [one.text async for one in answer.responses()]

    assert in_loop(heard) == ["abcd"]


def test_a_camera_that_stops_leaves_nobody_waiting():
    async def heard():
        answers, answer = Answers(), Answer()
        answers.ask(Inbox(lambda: 0.0), "Who?", answer)
        answers.fail_all("door watches no more")
        with pytest.raises(AnswerLost, match="door watches no more"):
            [one async for one in answer.responses()]
        assert answers._waiting == {}

    in_loop(heard)


def test_a_question_that_is_refused_waits_for_nothing():
    async def asked():
        answers, inbox = Answers(), Inbox(lambda: 0.0, capacity=1)
        answers.ask(inbox, "One?", Answer())
        with pytest.raises(QuestionRefused):
            answers.ask(inbox, "Two?", Answer())
        assert len(answers._waiting) == 1

    in_loop(asked)


@pytest.mark.parametrize(
    ("warning", "kind"),
    [
        (("prompt-too-long", "the question takes 900 of 400 tokens"), PromptTooLong),
        (("engine-failed", "the device was pulled out"), AnswerLost),
        (None, AnswerLost),
    ],
)
def test_a_fault_of_an_answer_is_told_as_what_it_was(warning, kind):
    async def found():
        answer = Answer(warning=warning)
        assert fault_of(answer, response("x", is_final=True, ended_by="cut")) is None
        return fault_of(answer, response("", is_final=True, ended_by="fault"))

    fault = in_loop(found)
    assert isinstance(fault, kind)
    assert warning is None or warning[1] in fault.message


def every_fault(kind=EdgeStreamError):
    yield kind
    for one in kind.__subclasses__():
        yield from every_fault(one)


@pytest.mark.parametrize("kind", list(every_fault()), ids=lambda kind: kind.__name__)
def test_every_fault_has_a_status_and_two_shapes(kind):
    fault = kind("got a\ud800, expected b", hint="try c")
    status = status_of(fault)
    assert 400 <= status < 600
    plain = json.loads(fault_body(fault, "/v1/cameras", status))["error"]
    assert set(plain) == {"code", "message", "hint"} and plain["code"] == kind.code
    known = json.loads(fault_body(fault, "/v1/chat/completions", status))["error"]
    assert set(known) == {"code", "message", "hint", "type", "param"} and known["type"]


def test_only_faults_that_there_are_have_a_status():
    assert all(issubclass(kind, errors.EdgeStreamError) for kind in STATUS)


@given(st.text(max_size=30))
def test_any_label_comes_back_as_it_was(text):
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus_client is not installed"
    )
    family = Family("x", "Of a test.", "gauge")
    family.add(1.5, camera=text)
    if "\r" in text or any(mark in text for mark in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        assert "\n" not in escaped(text)  # the parser splits lines at more than line feeds
        return
    lines = "\n".join(family.lines()) + "\n"
    (found,) = parser.text_string_to_metric_families(lines)
    assert found.samples[0].labels == {"camera": text} and found.samples[0].value == 1.5
