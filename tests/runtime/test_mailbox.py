"""Mailbox laws: what each drop rule keeps, that every drop is counted, and that nobody is stuck."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.mailbox import (
    Mailbox,
    block_at,
    keep_all,
    keep_newest_frame,
    keep_results,
    newest_event_all_questions,
)
from edgestream.runtime.records import Record, StampedRecord
from edgestream.runtime.values import Event, Moment, Question, Turn

from ..fakes import frame_at

frames_and_ticks = st.lists(st.booleans(), max_size=40).map(
    lambda kinds: [frame_at(index) if is_frame else None for index, is_frame in enumerate(kinds)]
)


def event_turn(index: int) -> Turn:
    event = Event(f"e{index}", "bell", float(index))
    return Turn(f"t{index}", "event", float(index), "describe", events=(event,))


def question_turn(index: int) -> Turn:
    question = Question(f"q{index}", "what?", float(index))
    return Turn(f"t{index}", "question", float(index), "answer", question=question)


@given(frames_and_ticks, st.integers(1, 4))
def test_the_newest_frames_stay_and_a_tick_never_displaces_one(items, waiting_frames):
    dropped: Counter[str] = Counter()
    mailbox = Mailbox(keep_newest_frame(waiting_frames), lambda what: dropped.update([what]))
    for item in items:
        assert mailbox.put(item)

    kept = mailbox.take()

    frames = [item for item in items if item is not None]
    assert [frame for frame in kept if frame is not None] == frames[-waiting_frames:]
    assert dropped["frames"] == max(0, len(frames) - waiting_frames)
    assert kept.count(None) == (0 if frames else min(1, len(items)))
    assert set(dropped) <= {"frames"}


@given(st.lists(st.booleans(), max_size=40))
def test_a_newer_event_replaces_a_waiting_one_and_questions_stay_in_order(kinds):
    turns: list[Moment] = [
        question_turn(index) if is_question else event_turn(index)
        for index, is_question in enumerate(kinds)
    ]
    dropped: Counter[str] = Counter()
    mailbox = Mailbox(newest_event_all_questions(), lambda what: dropped.update([what]))
    for turn in turns:
        mailbox.put(turn)

    kept = [turn for turn in mailbox.take() if isinstance(turn, Turn)]

    events = [turn for turn in turns if isinstance(turn, Turn) and turn.cause == "event"]
    assert [turn for turn in kept if turn.cause == "question"] == [
        turn for turn in turns if isinstance(turn, Turn) and turn.cause == "question"
    ]
    assert [turn for turn in kept if turn.cause == "event"] == events[-1:]
    assert dropped["event turns"] == max(0, len(events) - 1)


@given(st.lists(st.sampled_from(["final", "partial", "stats", "opened"]), max_size=30))
def test_results_outlive_partials_when_a_sink_is_slow(types):
    dropped: list[str] = []
    mailbox = Mailbox(keep_results(4), dropped.append)
    records = [
        StampedRecord(Record(kind), "camera", float(index), "") for index, kind in enumerate(types)
    ]
    for record in records:
        mailbox.put(record)

    kept = mailbox.take()

    assert len(kept) == min(4, len(records))
    assert len(dropped) == len(records) - len(kept)
    passing = [record for record in kept if record.record.type in ("partial", "stats")]
    results = [record for record in records if record.record.type in ("final", "opened")]
    if passing[:-1]:  # a passing record stays only where no result had to go for it
        assert all(result in kept for result in results)
    assert list(kept) == sorted(kept, key=lambda record: record.time_s)


def test_a_blocking_mailbox_holds_the_sender_until_there_is_room():
    mailbox: Mailbox[int] = Mailbox(block_at(1))
    mailbox.put(1)
    second = threading.Thread(target=mailbox.put, args=(2,))
    second.start()
    second.join(0.05)
    assert second.is_alive()

    assert next(iter(mailbox)) == 1
    second.join(5)

    assert not second.is_alive()
    assert mailbox.take() == (2,)


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_ending_a_mailbox_wakes_everybody(end):
    mailbox: Mailbox[int] = Mailbox(block_at(1))
    mailbox.put(1)
    refused: list[bool] = []
    read: list[int] = []
    sender = threading.Thread(target=lambda: refused.append(mailbox.put(2)))
    sender.start()
    sender.join(0.05)

    getattr(mailbox, end)()
    sender.join(5)
    reader = threading.Thread(target=lambda: read.extend(mailbox))
    reader.start()
    reader.join(5)

    assert refused == [False] and not reader.is_alive()
    assert read == ([1] if end == "close" else [])


def test_keep_all_keeps_all():
    mailbox: Mailbox[int] = Mailbox(keep_all())
    for item in range(1000):
        mailbox.put(item)
    assert mailbox.take() == tuple(range(1000))
