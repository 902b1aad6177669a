"""Rows of the embedding table: the table's numbers, and nothing behind them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import InputMismatch
from edgestream.runtime.token_rows import TokenRows


@given(
    vocabulary=st.integers(1, 9),
    hidden=st.integers(1, 6),
    more=st.integers(0, 20),
    dtype=st.sampled_from(["f2", "f4"]),
    data=st.data(),
)
def test_a_row_is_the_embedding_and_then_zeros(vocabulary, hidden, more, dtype, data):
    table = np.random.default_rng(vocabulary).standard_normal((vocabulary, hidden)).astype(dtype)
    rows = TokenRows(table, hidden + more)
    ids = data.draw(st.lists(st.integers(0, vocabulary - 1), max_size=7))
    made = rows(ids)
    assert made.shape == (len(ids), rows.width) == (len(ids), hidden + more)
    assert made.dtype == np.float32
    assert np.array_equal(made[:, :hidden], table[ids].astype(np.float32))
    assert not made[:, hidden:].any()


def test_a_row_that_held_something_else_is_written_over_whole():
    rows = TokenRows(np.ones((2, 3), np.float32), 9)
    row = np.full(9, np.nan, np.float32)
    rows.into(1, row)
    assert row.tolist() == [1.0] * 3 + [0.0] * 6


def test_without_a_width_a_row_is_the_embedding():
    rows = TokenRows(np.ones((2, 3), np.float16))
    assert (rows.vocabulary, rows.hidden, rows.width) == (2, 3, 3)
    assert rows([0]).tolist() == [[1.0] * 3]


def test_a_row_narrower_than_its_embedding_is_refused():
    with pytest.raises(ValueError, match="a row of 2 cannot hold an embedding of 3"):
        TokenRows(np.ones((2, 3), np.float32), 2)


@pytest.mark.parametrize("token_id", [-1, 2])
def test_an_id_without_a_row_is_refused(token_id):
    with pytest.raises(InputMismatch, match="expected one of 2 rows"):
        TokenRows(np.ones((2, 3), np.float32), 6)([token_id])
