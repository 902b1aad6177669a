"""Questions as they are written: a time is told from a question, and nonsense is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.asking import Asks, asks_from_options
from edgestream.edge.questions import (
    LATEST_S,
    LONGEST_CHARACTERS,
    AskedQuestion,
    parse_question,
)
from edgestream.runtime.errors import UsageError

WORDS = st.text(
    st.characters(codec="utf-8"), min_size=1, max_size=60
).map(str.strip).filter(bool)  # fmt: skip
HUNDREDTHS = st.integers(0, int(LATEST_S))


@given(HUNDREDTHS, WORDS, st.sampled_from(["", " ", "  \t"]))
def test_seconds_and_a_question_read_back(hundredths, words, space):
    seconds = f"{hundredths // 100}.{hundredths % 100:02d}"
    space = space or (" " if words[0] in "+-.,0123456789" else "")
    assert parse_question(f"{seconds}:{space}{words}") == AskedQuestion(words, hundredths / 100)


@given(st.integers(0, 999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 99))
def test_a_clock_reads_back(hours, minutes, seconds, hundredths):
    clock = f"{hours}:{minutes:02d}:{seconds:02d}.{hundredths:02d}"
    expected_s = 3600 * hours + 60 * minutes + seconds + hundredths / 100
    assert parse_question(f"{clock}:Who?").time_s == pytest.approx(expected_s, abs=1e-9)
    assert parse_question(f"{minutes}:{seconds:02d}:Who?").time_s == 60 * minutes + seconds


@given(WORDS)
def test_any_words_can_be_asked_without_a_time(words):
    assert parse_question(f": {words}") == AskedQuestion(words)


@given(st.text(max_size=40))
def test_any_text_is_a_question_or_one_sentence(text):
    try:
        asked = parse_question(text)
    except UsageError as refusal:
        assert refusal.message and "\n" not in refusal.message
    else:
        assert asked.text == asked.text.strip() != ""
        assert asked.time_s is None or 0 <= asked.time_s <= LATEST_S


@pytest.mark.parametrize(
    ("written", "text", "time_s"),
    [
        ("12.5:What is it?", "What is it?", 12.5),
        ("1:30:What is it?", "What is it?", 90.0),
        ("1:02:03:What is it?", "What is it?", 3723.0),
        ("90:What is it?", "What is it?", 90.0),
        ("0:What is it?", "What is it?", 0.0),
        (" 2 : What is it? ", "What is it?", 2.0),
        ("What is it?", "What is it?", None),
        ("Tell me: who is it?", "Tell me: who is it?", None),
        ("12 cars or 13?", "12 cars or 13?", None),
        ("3 cars: which?", "3 cars: which?", None),
        ("5: 2:1 for whom?", "2:1 for whom?", 5.0),
        (":2:1 for whom?", "2:1 for whom?", None),
        ("5: 12 or 13?", "12 or 13?", 5.0),
        (": 12:30 was it?", "12:30 was it?", None),
        ("12: 30 was it?", "30 was it?", 12.0),
        ("5:Who says 'a:b'?", "Who says 'a:b'?", 5.0),
        ("5:Qu'est-ce que c'est, là ?", "Qu'est-ce que c'est, là ?", 5.0),
        ("5:bad \udcff byte", "bad \ufffd byte", 5.0),
    ],
)
def test_what_is_meant(written, text, time_s):
    assert parse_question(written) == AskedQuestion(text, time_s)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "expected some words"),
        (" \t", "expected some words"),
        (":", "expected some words"),
        ("12.5:", "expected some words"),
        ("12.5: ", "expected some words"),
        ("1:30:", "expected some words"),
        ("1:30", "a time and no question"),
        ("-3:What?", "got the time '-3'"),
        ("+3:What?", "got the time '+3'"),
        ("1e3:What?", "got the time '1e3'"),
        ("5s:What?", "got the time '5s'"),
        ("12,5:What?", "got the time '12,5'"),
        ("1.2.3:What?", "got the time '1.2.3'"),
        (".5:What?", "got the time '.5'"),
        ("5.:What?", "got the time '5.'"),
        ("1.5:30:What?", "got the time '1.5:30'"),
        ("12:30 was it?", "'30 was it?' at the time 12, or all of it without a time"),
        ("5:12 or 13?", "two ways: '12 or 13?' at the time 5, or"),
        ("1:30:2 or 3?", "two ways: '2 or 3?' at the time 1:30, or"),
        ("12:30 is it: yes?", "two ways"),
        ("2:1 for whom?", "two ways"),
        ("1:2:3:4:What?", "got the time '1:2:3:4'"),
        ("1:75:What?", "75 after a colon, expected less than 60"),
        ("1:60:What?", "60 after a colon, expected less than 60"),
        ("1:75:00:What?", "75 after a colon, expected less than 60"),
        ("1:-5:What?", "got the time '1:-5'"),
        ("99999999999:What?", "at most"),
        ("9" * 400 + ":What?", "expected seconds (12.5)"),
        ("5:" + "a" * (LONGEST_CHARACTERS + 1), "4001 characters"),
    ],
)
def test_what_is_refused(written, words):
    with pytest.raises(UsageError) as caught:
        parse_question(written)
    assert words in caught.value.message


@pytest.mark.parametrize("written", ["12:30 was it?", "1:30:2 or 3?", " 2:1 for whom? "])
def test_both_readings_of_a_refused_question_can_be_written(written):
    with pytest.raises(UsageError) as caught:
        parse_question(written)
    with_time, without = re.findall(r"'([^']+)'", caught.value.hint)
    whole, first = parse_question(without), parse_question(with_time)
    assert whole == AskedQuestion(written.strip())
    assert first.time_s is not None and written.strip().endswith(first.text)


def test_a_long_question_is_not_said_three_times():
    with pytest.raises(UsageError) as caught:
        parse_question(f"12:30 {'a' * 1000}")
    assert len(f"{caught.value.message} {caught.value.hint}") < 400


def test_a_dash_is_stdin():
    asks = asks_from_options(["1:Who?", "-", "Where?"])
    assert asks == Asks((AskedQuestion("Who?", 1.0), AskedQuestion("Where?")), reads_stdin=True)
    assert asks_from_options([]) == Asks()
