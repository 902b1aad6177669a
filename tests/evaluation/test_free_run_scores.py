"""Scores of a free run on cases that were computed by hand."""

from __future__ import annotations

import pytest

from edgestream.evaluation.free_run_scores import FreeRun, free_run_tally

ONE = FreeRun(
    true=[(2.0, "A man comes in."), (6.0, "He sits down."), (20.0, "The lamp goes on.")],
    spoken=[(2.4, "a man  comes in"), (5.2, "He stands."), (6.9, "He sits down."), (40.0, "Hm.")],
    answers=[("Red.", "red"), ("Two.", "Three.")],
    watched_s=60.0,
)


def values(*runs):
    return {figure.name: figure.value for figure in free_run_tally(runs).figures()}


def test_one_dialogue_by_hand():
    found = values(ONE)
    assert found["trigger_precision_500ms"] == 1 / 4 and found["trigger_recall_500ms"] == 1 / 3
    # Within a second both 5.2 and 6.9 would do for 6.0; the nearer one is taken, once.
    assert found["trigger_precision_1000ms"] == 2 / 4 and found["trigger_recall_1000ms"] == 2 / 3
    assert found["trigger_f1_1000ms"] == pytest.approx(2 * 2 / (4 + 3))
    assert found["trigger_off_s"] == pytest.approx((0.4 + 0.8) / 2)
    assert found["sentence_exact"] == 1 / 2  # "He stands." is not what is written
    assert found["answer_exact"] == 1 / 2
    assert found["false_speech_per_minute"] == pytest.approx(2.0)


def test_dialogues_are_added_up_and_have_an_interval():
    silent = FreeRun(true=[], spoken=[], watched_s=60.0)
    assert values(ONE, silent)["false_speech_per_minute"] == pytest.approx(1.0)
    assert values(ONE, silent)["trigger_f1_500ms"] == values(ONE)["trigger_f1_500ms"]
    figure = free_run_tally([ONE, silent]).figure("false_speech_per_minute")
    assert figure.ci95[0] <= figure.value <= figure.ci95[1] and figure.unit == "1/min"


def test_what_cannot_be_measured_is_none():
    found = values(FreeRun([], [], watched_s=5.0))
    assert found["trigger_f1_1000ms"] is None and found["answer_exact"] is None
    assert found["false_speech_per_minute"] == 0.0
    with pytest.raises(ValueError, match="no clip"):
        free_run_tally([])
