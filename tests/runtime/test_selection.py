"""Selection: as many as asked for, in order of time, by scores that a person can read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import InputMismatch, SettingsInvalid
from edgestream.runtime.memory.key_frame import KeyFrame, MemoryView
from edgestream.runtime.selection import LIKE_ENOUGH, RULES, selected


def view_of(summaries, times_s=None):
    frames = (
        KeyFrame(
            f"k{i}",
            float(i) if times_s is None else times_s[i],
            np.zeros((1, 2), np.float16),
            np.asarray(summary, np.float32),
        )
        for i, summary in enumerate(summaries)
    )
    return MemoryView(key_frames=tuple(frames))


def ids(chosen):
    return [frame.frame_id for frame, _ in chosen]


def clustered(counts, seed=0, dim=32):
    """Key frames of so many clusters, one after the other; cluster of each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(counts), dim))
    of = [cluster for cluster, count in enumerate(counts) for _ in range(count)]
    summaries = [centres[cluster] + 0.05 * rng.normal(size=dim) for cluster in of]
    return view_of([row / np.linalg.norm(row) for row in summaries]), of


@st.composite
def scored(draw):
    count = draw(st.integers(0, 12))
    times_s = sorted(draw(st.lists(st.floats(0, 9), min_size=count, max_size=count)))
    rows = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)
    summaries = draw(st.lists(rows, min_size=count, max_size=count))
    values = st.lists(st.floats(-2, 2, width=32), min_size=count, max_size=count)
    return view_of(summaries, times_s), np.array(draw(values), np.float32)


@pytest.mark.medium
@given(scored(), st.integers(1, 15), st.sampled_from(sorted(RULES)))
def test_as_many_as_asked_for_in_order_of_time_and_none_twice(case, topk, rule):
    view, scores = case
    chosen = selected(view, scores, topk, rule)
    places = [int(name[1:]) for name in ids(chosen)]
    assert len(chosen) == min(topk, len(scores))
    assert places == sorted(set(places))
    assert all(isinstance(score, float) and np.isfinite(score) for _, score in chosen)


@pytest.mark.medium
@given(scored(), st.integers(1, 15))
def test_top_is_what_a_plain_sort_takes(case, topk):
    view, scores = case
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], -i))[:topk]
    want = [(view.key_frames[i], float(scores[i])) for i in sorted(best)]
    got = selected(view, scores, topk)
    assert [(id(frame), score) for frame, score in got] == [(id(f), s) for f, s in want]


@pytest.mark.parametrize("rule", RULES)
def test_more_than_there_are_is_all_and_none_is_refused(rule):
    view, _ = clustered([2, 3])
    scores = np.arange(5, dtype=np.float32)
    assert ids(selected(view, scores, 99, rule)) == ["k0", "k1", "k2", "k3", "k4"]
    assert selected(MemoryView(), np.zeros(0, np.float32), 8, rule) == ()
    for topk in (0, -1):
        with pytest.raises(SettingsInvalid, match=rf"memory.topk = {topk}, expected 1 or more"):
            selected(view, scores, topk, rule)


def test_unknown_rules_and_other_scores_are_refused():
    view, _ = clustered([2])
    with pytest.raises(SettingsInvalid, match="'best', expected one of top, similar, spread"):
        selected(view, np.zeros(2, np.float32), 1, "best")
    with pytest.raises(InputMismatch, match="one for each of 2 key frames"):
        selected(view, np.zeros(3, np.float32), 1)


def test_similar_takes_what_is_like_the_newest_and_says_how_much():
    view, _ = clustered([3, 4, 2, 3])
    # The newest is made one of the second cluster; the router would have chosen others.
    view = MemoryView(key_frames=(*view.key_frames[:9], view.key_frames[5]))
    chosen = selected(view, np.linspace(1, 0, 10, dtype=np.float32), 5, "similar")
    assert ids(chosen) == ["k3", "k4", "k5", "k5", "k6"]
    newest = view.key_frames[-1].summary
    for frame, score in chosen:
        assert score == pytest.approx(float(frame.summary @ newest), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_spread_takes_one_of_each_cluster_before_it_takes_a_second(seed):
    view, of = clustered([6, 5, 4], seed)
    scores = np.array([3 - cluster for cluster in of], np.float32)
    assert {of[int(name[1:])] for name in ids(selected(view, scores, 3, "top"))} == {0}
    chosen = selected(view, scores, 3, "spread")
    assert {of[int(name[1:])] for name in ids(chosen)} == {0, 1, 2}
    assert [score for _, score in chosen] == [3.0, 2.0, 1.0]
    more = [of[int(name[1:])] for name in ids(selected(view, scores, 5, "spread"))]
    assert sorted(more) == [0, 0, 0, 1, 2]  # what is left is filled with the best


@pytest.mark.medium
@given(scored(), st.integers(1, 6))
def test_spread_is_as_in_plain_loops(case, topk):
    view, scores = case
    rows = [frame.summary.astype(float) for frame in view.key_frames]
    rows = [row / np.linalg.norm(row) if row.any() else row for row in rows]
    products = [float(a @ b) for a in rows for b in rows]
    if any(abs(product - LIKE_ENOUGH) < 1e-5 for product in products):
        return
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], -i))
    taken = []
    for index in order:
        if all(rows[index] @ rows[other] <= LIKE_ENOUGH for other in taken) and len(taken) < topk:
            taken.append(index)
    taken += [index for index in order if index not in taken]
    assert ids(selected(view, scores, topk, "spread")) == [f"k{i}" for i in sorted(taken[:topk])]


def test_without_summaries_the_rules_still_choose():
    view, scores = view_of([[]] * 4), np.array([3, 1, 2, 0], np.float32)
    assert ids(selected(view, scores, 2, "spread")) == ["k0", "k2"]
    assert ids(selected(view, scores, 2, "similar")) == ["k2", "k3"]
