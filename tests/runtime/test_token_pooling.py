"""Fewer tokens of a frame: means of neighbours, in the order that they had."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.token_pooling import pooled


def rows(count, width=3):
    return np.random.default_rng(count).standard_normal((count, width)).astype(np.float32)


def test_all_of_it_is_the_very_array():
    embeds = rows(10)
    assert pooled(embeds, 1.0) is embeds


@pytest.mark.parametrize(("share", "count"), [(0.5, 5), (0.25, 3)])
def test_pairs_become_their_mean(share, count):
    embeds = rows(10)
    half = embeds.reshape(5, 2, 3).mean(axis=1)
    quarter = np.array([(half[0] + half[1]) / 2, (half[2] + half[3]) / 2, half[4]])
    expected = {0.5: half, 0.25: quarter}[share]
    assert pooled(embeds, share).shape == (count, 3)
    np.testing.assert_allclose(pooled(embeds, share), expected, rtol=1e-6)


@given(st.integers(0, 40), st.sampled_from([1.0, 0.5, 0.25, 0.125]))
def test_it_has_about_that_share_of_rows_and_nothing_that_was_not_there(count, share):
    embeds = rows(count)
    few = pooled(embeds, share)
    assert few.dtype == np.float32 and few.shape[1:] == embeds.shape[1:]
    assert (few.shape[0] >= 1) == (count >= 1)
    assert count * share <= len(few) <= count * share + 1
    if count:
        assert (few.min(axis=0) >= embeds.min(axis=0) - 1e-6).all()
        assert (few.max(axis=0) <= embeds.max(axis=0) + 1e-6).all()
