"""Event scores: the matching is one to one, and every figure can be counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.event_scores import Scores, TypeScore, nearest_pairs, score_events
from edgestream.runtime.scripted import TrueEvent
from edgestream.runtime.values import Event


def said(event: str, at_s: float, **attributes: str) -> Event:
    return Event("e1", event, at_s, attributes=attributes)


def true(event: str, from_s: float, to_s: float | None = None, **attributes: str) -> TrueEvent:
    return TrueEvent(event, from_s, from_s if to_s is None else to_s, attributes)


def test_figures_counted_by_hand() -> None:
    opened = [
        said("cut", 1.0),
        said("cut", 1.25),
        said("pan", 3.25, direction="left"),
        said("pan", 6.0, direction="up"),
        said("pan", 9.0, direction="up"),
    ]
    truth = [true("cut", 1.0), true("cut", 5.0), true("pan", 3.0, 4.0, direction="left")]
    truth += [true("pan", 6.0, 7.0, direction="down")]
    scores = score_events(opened, truth, fps=4, watched_s=30, scored=("cut", "pan", "dark"))
    cut, pan, dark = (scores.types[name] for name in ("cut", "pan", "dark"))
    assert (cut.recall, cut.precision, cut.n_false) == (0.5, 0.5, 1)
    assert (pan.recall, pan.precision, pan.direction_accuracy) == (1.0, 2 / 3, 0.5)
    assert pan.latency_frames == (0.0, 1.0)
    assert (dark.recall, dark.precision, dark.direction_accuracy) == (1.0, 1.0, None)
    assert scores.false_per_minute == 4.0


def test_an_event_that_opens_late_is_missed_and_false() -> None:
    scores = score_events(
        [said("pan", 3.6)], [true("pan", 3.0, 5.0)], fps=4, watched_s=10, scored=("pan",)
    )
    assert scores.types["pan"].recall == 0.0 and scores.types["pan"].n_false == 1


def test_types_that_are_not_scored_count_nowhere() -> None:
    scores = score_events([said("motion", 1.0)], [], fps=4, watched_s=10, scored=("cut",))
    assert scores.false_per_minute == 0.0


TIMES = st.lists(st.floats(0, 5), max_size=8)


@pytest.mark.medium
@given(TIMES, TIMES, st.floats(0.01, 1))
def test_matching_is_one_to_one_and_within_the_tolerance(
    opened_s: list[float], true_s: list[float], tolerance_s: float
) -> None:
    pairs = nearest_pairs(opened_s, true_s, tolerance_s)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(abs(opened_s[i] - true_s[j]) <= tolerance_s for i, j in pairs)
    # Nobody is left with a partner who is free too.
    free = (
        set(range(n)) - {pair[k] for pair in pairs}
        for k, n in enumerate(map(len, (opened_s, true_s)))
    )
    ours, theirs = free
    assert all(abs(opened_s[i] - true_s[j]) > tolerance_s for i in ours for j in theirs)


def test_scores_add_up() -> None:
    one = Scores({"cut": TypeScore("cut", 2, 3, 1, 0, 0, (1.0,))}, 10)
    two = Scores({"cut": TypeScore("cut", 1, 1, 1, 1, 1, (0.0,)), "pan": TypeScore("pan")}, 20)
    both = one + two
    assert both.types["cut"] == TypeScore("cut", 3, 4, 2, 1, 1, (1.0, 0.0))
    assert both.watched_s == 30 and set(both.types) == {"cut", "pan"}
    assert both.false_per_minute == pytest.approx(4.0)
    assert Scores().false_per_minute == 0.0
