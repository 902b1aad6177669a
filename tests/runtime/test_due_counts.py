"""Counts that are told now and then: nothing is lost, the first at once, then not too often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.due_counts import DueCounts

NAMES = st.sampled_from(["frames", "late frames"])


@pytest.mark.medium
@given(st.lists(st.tuples(st.floats(0, 3), NAMES, st.integers(0, 5)), max_size=40))
def test_what_is_told_adds_up_and_is_not_told_too_often(steps):
    counts, now_s, added, told = DueCounts(1.0), 50.0, Counter(), Counter()
    last_s: dict[str, float] = {}
    for later_s, name, count in steps:
        now_s += later_s
        counts.add(name, count)
        added[name] += count
        for what, how_many in counts.due(now_s):
            assert how_many > 0 and now_s - last_s.get(what, -9) >= 1.0
            told[what] += how_many
            last_s[what] = now_s
    for what, how_many in counts.due(now_s, is_last=True):
        told[what] += how_many
    assert +told == +added
    assert counts.due(now_s + 99) == []


def test_the_first_is_told_at_once():
    counts = DueCounts(60.0)
    counts.add("damage")
    assert counts.due(0.0) == [("damage", 1)]
    counts.add("damage", 2)
    assert counts.due(59.0) == []
    assert counts.due(60.0) == [("damage", 2)]
