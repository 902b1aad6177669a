"""Values: checked when they are made, frozen, and their arrays read-only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgestream.runtime.records import Record
from edgestream.runtime.router import QUIET, TurnRouter
from edgestream.runtime.values import Event, Frame, GateDecision, Question, Response, Turn

from ..fakes import frame_at


def test_a_frame_cannot_be_written_to():
    frame = frame_at(3)
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.time_s = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pixels", "time_s", "message"),
    [
        (np.zeros((2, 2, 3), np.float32), 0.0, "uint8"),
        (np.zeros((2, 2), np.uint8), 0.0, "height, width, 3"),
        (np.zeros((0, 2, 3), np.uint8), 0.0, "height, width, 3"),
        (np.zeros((2, 2, 3), np.uint8), -0.1, "0 or more"),
        (np.zeros((2, 2, 3), np.uint8), float("nan"), "finite"),
    ],
)
def test_a_frame_that_is_none_is_refused(pixels, time_s, message):
    with pytest.raises(ValueError, match=message):
        Frame(0, time_s, pixels)


def test_an_event_cannot_close_before_it_opens():
    with pytest.raises(ValueError, match="closes at 1"):
        Event("e1", "cut", 2.0, 1.0)


def test_a_decision_tells_what_closed_before_what_opened():
    closed = Event("e1", "dark", 0.5, 1.0, {"dark": 0.123456}, {})
    opened = Event("e2", "pan", 1.0, None, {}, {"direction": "up"})
    records = GateDecision(1.0, opened=(opened,), closed=(closed,)).records()
    assert [record.type for record in records] == ["closed", "opened"]
    assert records[0].body["about_s"] == [0.5, 1.0]
    assert records[0].body["scores"] == {"dark": 0.1235}
    assert records[1].body["attributes"] == {"direction": "up"}


def test_a_turn_has_exactly_one_cause():
    question = Question("q1", "who?", 0.0)
    event = Event("e1", "cut", 0.0)
    for cause, given in (("question", {}), ("event", {}), ("event", {"question": question})):
        with pytest.raises(ValueError, match="a Turn of cause"):
            Turn("t1", cause, 0.0, "answer", **given)
    with pytest.raises(ValueError, match="a Turn of cause"):
        Turn("t1", "question", 0.0, "answer", question=question, events=(event,))


def test_an_empty_question_and_an_unknown_record_are_refused():
    with pytest.raises(ValueError, match="empty"):
        Question("q1", "  ", 0.0)
    with pytest.raises(ValueError, match="none of"):
        Record("rumour")  # type: ignore[arg-type]


def test_a_response_is_a_partial_or_a_final_record():
    partial = Response("t1", "event", "A", False, (0.0, 1.0)).record()
    final = Response("t1", "event", "A cup", True, (0.0, 1.0), used=(("k3", 0.5),)).record()
    assert (partial.type, dict(partial.body)) == ("partial", {"turn_id": "t1", "text": "A"})
    assert final.type == "final" and final.body["used"] == [{"id": "k3", "score": 0.5}]


def test_questions_go_before_the_event_and_events_of_one_frame_are_one_turn():
    router = TurnRouter(describes_events=True)
    events = (Event("e1", "cut", 2.0), Event("e2", "dark", 2.0))
    questions = (Question("q1", "one", 1.0), Question("q2", "late", 9.0))
    turns = list(router.turns(GateDecision(2.0, opened=events), questions, 2.0))
    assert [(turn.turn_id, turn.cause, turn.time_s) for turn in turns] == [
        ("t1", "question", 1.0),
        ("t2", "question", 2.0),
        ("t3", "event", 2.0),
    ]
    assert turns[2].events == events
    assert not list(router.turns(QUIET, (), 3.0))
    assert not list(
        TurnRouter(describes_events=False).turns(GateDecision(2.0, opened=events), (), 2.0)
    )
