"""The learning rate goes up, then down, and never outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.training.learning_rate import LEAST, rate_at

UNIT = st.floats(0, 1)


@pytest.mark.medium
@given(step=st.integers(0, 10_000), progress=st.floats(-0.1, 3), warm_up=st.integers(0, 200))
def test_it_stays_between_nothing_and_the_rate(step, progress, warm_up):
    assert 0 < rate_at(2e-3, step, progress, warm_up) <= 2e-3


@given(early=UNIT, late=UNIT)
def test_it_falls_after_the_warm_up(early, late):
    early, late = sorted((early, late))
    assert rate_at(1.0, 100, early, 60) >= rate_at(1.0, 100, late, 60)


def test_its_ends():
    assert rate_at(1.0, 0, 0.0, 60) == pytest.approx(1 / 60)
    assert rate_at(1.0, 59, 0.0, 60) == pytest.approx(1.0)
    assert rate_at(1.0, 100, 0.5, 60) == pytest.approx((1 + LEAST) / 2)
    assert rate_at(1.0, 100, 1.0, 60) == pytest.approx(LEAST)
    assert rate_at(1.0, 100, 7.0, 60) == pytest.approx(LEAST)
