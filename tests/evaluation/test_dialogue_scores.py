"""The scores of streaming dialogues on cases that were computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.dialogue_scores import (
    DialogueScores,
    TriggerScore,
    TurnLogs,
    frames_early,
    mean_scores,
    score_triggers,
    score_turns,
)


def turn(frames="", tokens="", later="", losses=None, last=False, silence=None):
    """`.` silent wins, `!` it speaks; `1` a right token, `0` a wrong one."""

    def wins(text):
        return np.array([letter == "." for letter in text], bool)

    right = np.array([letter == "1" for letter in tokens], bool)
    told = np.ones(len(tokens)) if losses is None else np.array(losses, float)
    quiet = np.where(wins(frames), 0.9, 0.1) if silence is None else np.array(silence)
    return TurnLogs(told, right, quiet, wins(frames), np.where(wins(later), 0.9, 0.1),
                    wins(later), last)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "early"),
    [
        (turn("...!"), 0),  # at the last of four frames
        (turn("!..."), 3),  # 4 - 0 - 1
        (turn(".!.!"), 2),
        (turn("!"), 0),
        (turn("....", later="..!"), -3),  # at the third frame behind it
        (turn("....", later="!.."), -1),
        (turn("....", later="..."), -3),  # never: as late as could be seen
        (turn("....", later=""), 0),
        (turn("....", later="..!", last=True), 0),
    ],
)
def test_frames_early_or_late(given, early):
    assert frames_early(given) == early


def test_below_the_threshold_it_speaks_whatever_is_most_likely():
    unsure = turn("....", silence=[0.9, 0.7, 0.8, 0.6], later=".", last=False)
    assert frames_early(unsure) == -1
    assert frames_early(unsure, 0.725) == 2  # 4 - 1 - 1
    assert frames_early(unsure, 0.65) == 0
    assert frames_early(turn("...", later="..."), 0.95) == 2  # later ones are 0.9 too


def test_one_turn_by_hand():
    """s = 4, m = 5, in time, two tokens right before the first wrong one."""
    found = score_turns([turn("...!", "11011", losses=[0, 1, 2, 1, 1])], fps=2.0)
    assert found == DialogueScores(math.exp(1.0), 2 / 5, 0.0, (4 + 2) / (4 + 5), 1)


@pytest.mark.parametrize(
    ("given", "fluency", "time_diff_s"),
    [
        (turn("...!", "1111"), 1.0, 0.0),
        (turn("...!", "0111"), 4 / 8, 0.0),
        (turn(".!..", "1111"), (4 - 2) / 8, 1.0),  # two frames early at 2 a second
        (turn("....", "1111", later=".!"), (4 - 1) / 8, 1.0),
        (turn("....", "1111", later="..", last=True), 1.0, 0.0),
    ],
)
def test_fluency_and_time_by_hand(given, fluency, time_diff_s):
    found = score_turns([given], fps=2.0)
    assert found.fluency == pytest.approx(fluency) and found.time_diff_s == time_diff_s


def test_turns_are_averaged_and_answers_without_frames_have_no_fluency():
    answered = turn("", "10", losses=[1, 3])
    found = score_turns([turn("..!", "11", losses=[0, 0]), answered], fps=1.0)
    assert found.ppl == pytest.approx((1 + math.exp(2)) / 2)
    assert found.correctness == (1 + 0.5) / 2
    assert found.fluency == 1.0 and found.time_diff_s == 0.0 and found.turns == 2


def test_dialogues_count_once_each_and_nothing_has_no_score():
    nothing = score_turns([], fps=2.0)
    assert nothing == DialogueScores(None, None, None, None, 0)
    one, many = DialogueScores(2.0, 0.5, 1.0, 0.2, 1), DialogueScores(4.0, 1.0, 0.0, None, 9)
    assert mean_scores([one, many, nothing]) == DialogueScores(3.0, 0.75, 0.5, 0.2, 10)


flags = st.text(".!", max_size=6)


@pytest.mark.medium
@given(flags, st.text("01", max_size=6), flags, st.booleans(), st.sampled_from([0.0, 0.5, 0.95]))
def test_scores_stay_in_their_bounds(frames, tokens, later, last, threshold):
    given_turn = turn(frames, tokens, later[: max(0, len(frames) - 1)], last=last)
    found = score_turns([given_turn], fps=2.0, threshold=threshold)
    for value in (found.fluency, found.correctness):
        assert value is None or 0.0 <= value <= 1.0
    assert (found.fluency == 1.0) == (
        bool(frames and tokens) and "0" not in tokens and found.time_diff_s == 0
    )
    assert (found.time_diff_s or 0.0) <= len(frames) / 2.0


def test_triggers_by_hand():
    spoken, true = [1.0, 4.8, 5.2, 20.0], [1.4, 5.0, 9.0]
    found = score_triggers(spoken, true, 0.5)
    assert found == TriggerScore(n_true=3, n_spoken=4, n_found=2)
    assert (found.precision, found.recall) == (0.5, 2 / 3)
    assert found.f1 == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert score_triggers(spoken, true, 5.0).n_found == 3
    assert score_triggers([], [], 1.0).f1 == 1.0
    assert score_triggers([1.0], [], 1.0).precision == 0.0
    assert score_triggers([3.0], [1.0], 1.0).f1 == 0.0
    assert found + found == TriggerScore(6, 8, 4)


moments = st.lists(st.floats(0, 60), max_size=8)


@pytest.mark.medium
@given(moments, moments, st.floats(0, 10), st.floats(0, 10))
def test_more_tolerance_never_finds_less_and_both_sides_are_alike(spoken, true, one, more):
    narrow, wide = (score_triggers(spoken, true, at) for at in (one, one + more))
    assert narrow.n_found <= wide.n_found <= min(len(spoken), len(true))
    turned = score_triggers(true, spoken, one)
    assert turned.n_found == narrow.n_found and turned.precision == narrow.recall
