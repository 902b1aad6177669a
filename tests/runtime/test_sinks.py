"""Sinks: what a person reads, and that a JSON line is written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import OutputError, OutputFull, OutputUnwritable
from edgestream.runtime.records import Record, StampedRecord, camera_state, warning
from edgestream.runtime.sinks import (
    EVENTS_KEPT,
    SINKS,
    ConsoleSink,
    JsonLinesSink,
    clock_text,
    dropped_text,
    event_text,
)
from edgestream.runtime.values import Event, Response


def stamped(record: Record, time_s: float = 1.5) -> StampedRecord:
    return StampedRecord(record, "door", time_s, "2026-01-01T00:00:00.000Z")


def said(text: str, about_s: float, question: str | None = None, **more: Any) -> Record:
    """A `final`, about an event or about a question."""
    cause = "event" if question is None else "question"
    return Response("t1", cause, text, True, (0.0, about_s), question=question, **more).record()


def shown(*records: Record) -> str:
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    for record in records:
        sink.send(stamped(record, 9.0))
    return stream.getvalue()


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0.0, "0:00.00"), (59.996, "1:00.00"), (62.25, "1:02.25"), (3723.5, "1:02:03.50")],
)
def test_times_read_like_a_clock(time_s, text):
    assert clock_text(time_s) == text


def test_a_person_reads_what_happened_and_nothing_else():
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    pan = Event("e1", "pan", 1.5, None, {"pan": 0.9}, {"direction": "left"})
    records = [
        pan.record(),
        Event("e1", "pan", 1.5, 3.0).record(),
        Event("e2", "cut", 1.5).record(),
        Event("e2", "cut", 1.5, 1.75).record(),
        Event("e3", "unheard-of", 1.5).record(),
        Record("partial", {"turn_id": "t1", "text": "A"}),
        said("A cup falls.", 1.5),
        said("", 1.5),
        Record("drop", {"what": "frames", "count": 3, "since_s": 1.0}),
        warning("source-damaged", "2 packets could not be decoded"),
        camera_state("open", "watching door"),
        camera_state("rebased", "the clock went back by 5 s"),
    ]
    for record in records:
        sink.send(stamped(record))
    sink.close()
    assert [line[12:] for line in stream.getvalue().splitlines()] == [
        "the camera turns left",
        "the camera is steady again at 0:03.00 (after 1.5 s)",
        "the scene changes",
        "unheard-of begins",
        "→ A cup falls.",
        "dropped 3 frames since 1.0 s",
        "warning: 2 packets could not be decoded",
        "camera: the clock went back by 5 s",
    ]


def test_a_person_reads_what_a_camera_does():
    states = ["connecting", "open", "lost", "open", "paused", "ended"]
    lines = shown(*(camera_state(state, f"door {state}") for state in states)).splitlines()
    assert [line[12:] for line in lines] == [f"camera: door {state}" for state in states[:-1]]


def test_an_answer_stands_below_its_question_and_a_description_below_its_event():
    cut, pan = Event("e1", "cut", 2.0), Event("e2", "motion", 2.0)
    assert shown(said("A red circle.", 12.5, "What is it?")) == (
        "   0:12.50  What is it?\n            → A red circle.\n"
    )
    assert shown(cut.record(), pan.record(), said("A car.", 2.0)) == (
        "   0:09.00  the scene changes\n"
        "   0:09.00  something starts to move\n"
        "            → A car.\n"
    )
    between = said("Red.", 3.0, "Colour?")
    assert shown(cut.record(), between, said("A car.", 2.0)).endswith(
        "\n   0:02.00  the scene changes → A car.\n"
    )
    assert shown(cut.record(), pan.record(), between, said("A car.\nRed.", 2.0)).endswith(
        "\n   0:02.00  the scene changes, something starts to move → A car.\n              Red.\n"
    )
    assert shown(cut.record(), said("Before.", 1.0)).endswith("\n   0:01.00  → Before.\n")
    is_over = Event("e2", "motion", 2.0, 3.0)
    assert shown(is_over.record(), said("A car.", 2.0)).endswith("\n   0:02.00  → A car.\n")
    speaks = Event("e1", "speak", 4.0)
    assert shown(speaks.record(), said("A car.", 4.0)) == "   0:04.00  → A car.\n"


def test_words_of_events_that_nobody_describes_are_not_kept_for_ever():
    sink = ConsoleSink(io.StringIO())
    for number in range(3 * EVENTS_KEPT):
        sink.send(stamped(Event(f"e{number}", "cut", float(number)).record()))
    assert len(sink._opened) == EVENTS_KEPT
    for number in range(3 * EVENTS_KEPT):
        sink.send(stamped(said("A car.", float(number))))
    assert sink._opened == {}


@pytest.mark.parametrize(
    ("count", "what", "words"),
    [
        (3, "frames", "3 frames"),
        (1, "frames", "1 frame"),
        (1, "event turns", "1 description"),
        (2, "event turns", "2 descriptions"),
        (1, "observed frames", "1 frame for the model"),
        (2, "observed frames", "2 frames for the model"),
        (1, "records", "1 record"),
    ],
)
def test_what_was_dropped_is_counted_in_words(count, what, words):
    assert dropped_text(count, what) == words
    drop = Record("drop", {"what": what, "count": count, "since_s": 1.0})
    assert shown(drop) == f"   0:09.00  dropped {words} since 1.0 s\n"


@pytest.mark.parametrize(
    ("text", "is_cut", "question", "line"),
    [
        ("", False, "Who?", "(no answer)"),
        (" \n", False, "Who?", "(no answer)"),
        ("", True, "Who?", "(cut)"),
        ("A red", True, "Who?", "A red… (cut)"),
        ("A red", True, None, "A red… (cut)"),
        ("", False, None, None),
        ("", True, None, None),
        ("one\ntwo\x1b[2J\tthree\r", False, "Who?", "one\n              two [2J three"),
    ],
)
def test_what_a_person_reads_of_a_text(text, is_cut, question, line):
    told = shown(said(text, 1.0, question, is_cut=is_cut))
    assert told == ("" if line is None else told[: told.index("→ ") + 2] + f"{line}\n")


@pytest.mark.parametrize(
    ("text", "ended_by", "is_cut", "line"),
    [
        ("A red", "limit", False, "A red… (limit)"),
        ("A red", "model", False, "A red"),
        ("A red", "cut", True, "A red… (cut)"),
        ("A red", "fault", True, "A red… (cut)"),
        ("", "limit", False, "(limit)"),
        ("", "model", False, "(no answer)"),
    ],
)
def test_a_person_reads_what_ended_an_answer(text, ended_by, is_cut, line):
    told = shown(said(text, 1.0, "Who?", is_cut=is_cut, ended_by=ended_by))
    assert told.endswith(f"→ {line}\n")


@given(st.text(max_size=30), st.none() | st.text(max_size=30), st.booleans())
def test_no_text_moves_the_cursor_or_breaks_the_columns(text, question, is_cut):
    question = question if question is None or question.strip() else None
    told = shown(said(text, 1.0, question, is_cut=is_cut))
    assert all(char.isprintable() or char == "\n" for char in told)
    assert told == "" or told.endswith("\n")
    first, *rest = told.split("\n")[:-1] or [""]
    assert first == "" or first.startswith("   0:01.00  ")
    assert all(line.startswith(" " * 12) for line in rest)


def test_lines_are_appended_and_a_half_line_is_closed_first(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"type": "opened"}\n{"type": "clo')
    sink = JsonLinesSink(path)
    sink.send(stamped(warning("a-code", "naïve ✓")))
    sink.close()
    sink.close()
    old, half, new = path.read_text().splitlines()
    assert json.loads(old) == {"type": "opened"} and half == '{"type": "clo'
    assert json.loads(new)["message"] == "naïve ✓"


def test_records_go_to_a_stream_as_well():
    stream = io.StringIO()
    sink = JsonLinesSink(stream)
    sink.send(stamped(camera_state("open", "watching")))
    sink.close()
    assert json.loads(stream.getvalue())["schema"] == "edgestream.record/1"
    assert not stream.closed


@pytest.mark.parametrize("place", ["missing/records.jsonl", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    with pytest.raises(OutputUnwritable, match="cannot write records to") as caught:
        JsonLinesSink(tmp_path / place)
    assert caught.value.exit_code == 8 and str(tmp_path) in caught.value.message


def test_a_full_disk_is_told_as_such():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    sink = JsonLinesSink(Path("/dev/full"))
    with pytest.raises(OutputFull, match="disk is full"):
        sink.send(stamped(warning("a", "b")))
    sink.close()


def test_a_line_that_does_not_fit_is_cut_off_whole(tmp_path):
    """A file that may not grow beyond its second line ends after its first."""
    path = tmp_path / "records.jsonl"
    sink = JsonLinesSink(path)
    sink.send(stamped(warning("first", "fits")))
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, before[1]))
    try:
        with pytest.raises(OutputError):
            sink.send(stamped(warning("second", "does not fit")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    sink.send(stamped(warning("third", "fits again")))
    sink.close()
    assert [line["code"] for line in lines_of(path)] == ["first", "third"]


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        JsonLinesSink(io.StringIO()).send(stamped(Record("stats", {"fps": float("nan")})))


def test_the_dictionary_of_sinks_is_complete():
    assert dict(SINKS) == {"console": ConsoleSink, "jsonl": JsonLinesSink}


def opening(event, attributes, scores):
    body = {"event": event, "attributes": attributes, "scores": scores, "about_s": [1.0, 1.25]}
    return event_text(body, True), event_text(body, False)


@pytest.mark.parametrize(
    ("event", "attributes", "text"),
    [
        ("pan", {"direction": "left"}, "the camera turns left"),
        ("pan", {}, "the camera turns"),
        ("enter", {"colour": "red", "side": "left"}, "something enters (red, left)"),
        ("zoom", {"direction": "in", "size": "large"}, "the camera zooms in (large)"),
        ("fall", {"side": "left"}, "fall begins (left)"),
    ],
)
def test_an_opening_says_the_attributes_that_it_has(event, attributes, text):
    assert opening(event, attributes, {})[0] == text


def test_where_a_learned_score_falls_nothing_has_ended():
    steady = "the camera is steady again at 0:01.25 (after 0.2 s)"
    assert opening("pan", {}, {"pan": 0.1})[1] == steady
    assert opening("pan", {}, {"speak": 0.1, "pan": 0.1})[1] is None
