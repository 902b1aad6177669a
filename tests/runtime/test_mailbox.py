"""Mailbox laws: what each drop rule keeps, that every drop is counted, and that nobody is stuck."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgestream.runtime.mailbox import (
    LetGo,
    Mailbox,
    block_at,
    keep_all,
    keep_newest_frame,
    keep_results,
    newest_event_all_questions,
)
from edgestream.runtime.metrics import Metrics
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


EVENTS = ("cut", "pan", "motion")
OTHERS = ("partial", "stats", "final", "drop", "warning", "camera")
# Who is missed least goes first; a whole event is between 0 and 2, a half of one never goes.
MISSED = {"partial": 0, "stats": 0, "final": 2, "drop": 3, "warning": 4, "camera": 5}


def told(steps):
    """Records of a stream: an event opens and closes in turn, everything else comes as it likes."""
    open_ids: dict[str, str] = {}
    for index, step in enumerate(steps):
        body = {"what": "frames", "count": 1, "since_s": 0.0} if step == "drop" else {}
        kind = step
        if step in EVENTS:
            kind = "closed" if step in open_ids else "opened"
            event_id = open_ids.pop(step, None)
            if event_id is None:
                event_id = open_ids[step] = f"e{index}"
            body = {"event_id": event_id}
        yield StampedRecord(Record(kind, body), "camera", float(index), "")


steps_of_a_stream = st.lists(st.sampled_from([*EVENTS, *OTHERS, "take"]), max_size=80)


@given(steps_of_a_stream, st.integers(1, 12))
def test_a_slow_sink_gets_whole_events_and_every_drop_is_told(steps, capacity):
    metrics = Metrics(fps_target=4.0)
    mailbox = Mailbox(
        keep_results(capacity), metrics.drop, lambda gone: metrics.not_told(gone.record)
    )
    emitted = list(told(step for step in steps if step != "take"))
    waiting, sent = iter(emitted), []
    for step in steps:
        if step == "take":
            sent += mailbox.take()
        else:
            mailbox.put(next(waiting))
            held = mailbox.take()
            assert len(held) <= max(capacity, 2 * len(EVENTS))
            for one in held:
                mailbox.put_last(one)
    sent += mailbox.take()

    ids = {
        kind: [one.record.body["event_id"] for one in emitted if one.record.type == kind]
        for kind in ("opened", "closed")
    }
    got = {
        kind: [one.record.body["event_id"] for one in sent if one.record.type == kind]
        for kind in ("opened", "closed")
    }
    assert set(got["closed"]) == set(got["opened"]) & set(ids["closed"])
    assert sent == sorted(sent, key=lambda one: one.time_s)
    left = [*sent, *(StampedRecord(last, "", 99.0, "") for last in metrics.drops(99.0))]
    counts: Counter[str] = Counter()
    for one in left:
        if one.record.type == "drop":
            counts[one.record.body["what"]] += one.record.body["count"]
    drops = sum(one.record.type == "drop" for one in emitted)
    others_gone = len(emitted) - drops - sum(one.record.type != "drop" for one in sent)
    assert counts == Counter({"frames": drops, "records": others_gone})
    assert metrics.stats().body["dropped"].get("records", 0) == others_gone


@given(st.lists(st.sampled_from([*EVENTS, *OTHERS]), min_size=1, max_size=30))
@example(["cut", "cut", "final", "drop", "drop"])
@example(["cut", "pan", "pan", "cut"])
def test_what_is_missed_least_goes_first(steps):
    *waiting, new = told(steps)
    line = [*waiting, new]
    verdict = keep_results(len(waiting)).judge(waiting, new)
    assert isinstance(verdict, LetGo)
    ids = [one.record.body.get("event_id") for one in line]
    drops = [index for index, one in enumerate(line) if one.record.type == "drop"]
    is_told_again = new.record.type == "drop" and len(drops) > 1
    ranks = [
        MISSED.get(one.record.type, 1 if ids.count(own) == 2 else 9)
        for one, own in zip(line, ids, strict=True)
    ]
    if is_told_again and min(ranks) > 0:  # the next one tells the count of the oldest too
        assert verdict.indices == (drops[0],)
        return
    gone = [ranks[index] for index in verdict.indices]
    assert gone == ([] if min(ranks) == 9 else [1, 1] if min(ranks) == 1 else [min(ranks)])
    assert not verdict.indices or verdict.indices[0] == ranks.index(min(ranks))


def test_last_words_displace_nothing():
    mailbox: Mailbox[int] = Mailbox(block_at(1))
    assert mailbox.put(1) and mailbox.put_last(2) and mailbox.put_last(3)
    mailbox.close()
    assert not mailbox.put_last(4)
    assert list(mailbox) == [1, 2, 3]


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
