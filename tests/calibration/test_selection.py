"""Choosing few that differ: what the reservoir promises of everything that was ever offered."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgestream.calibration.selection import (
    Reservoir,
    distances_to,
    diversity,
    farthest_first,
)

ROWS = arrays_of.arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.integers(1, 3)),
    elements=st.floats(-4, 4, width=32),
)


def filled(rows, capacity, near):
    pool = Reservoir(capacity, near)
    for index, row in enumerate(rows):
        pool.offer(row, lambda index=index: index)
    return pool


@pytest.mark.medium
@given(ROWS, st.integers(2, 12), st.floats(0.01, 2))
def test_what_is_kept_is_apart_and_near_to_all_that_came(rows, capacity, near):
    pool = filled(rows, capacity, near)
    kept = pool.embeddings
    assert 1 <= len(pool) < capacity and pool.offered == len(rows)
    assert np.array_equal(kept, rows[list(pool.items)]) and list(pool.items) == sorted(pool.items)
    for one, other in itertools.combinations(kept, 2):
        assert np.linalg.norm(one.astype(float) - other) >= pool.radius - 1e-9
    for row in rows:
        assert distances_to(kept, row).min() <= pool.covers + 1e-9


def test_an_item_is_made_only_where_it_is_kept():
    made = []
    pool = Reservoir(8, 0.5)
    for place in (0.0, 0.4, 1.0, 1.1, -1.0, 0.0):
        pool.offer(np.array([place], np.float32), lambda place=place: made.append(place) or place)
    assert made == [0.0, 1.0, -1.0] == list(pool.items)


def test_memory_is_bounded_on_an_endless_stream():
    random = np.random.default_rng(0)
    place = np.zeros(4, np.float32)
    pool = Reservoir(32, 1e-3)
    for index in range(5000):  # a walk that goes ever further
        place = place + random.standard_normal(4).astype(np.float32)
        pool.offer(place, lambda index=index: index)
        assert len(pool) < 32
    assert pool.radius > 1 and max(pool.items) > 4500 and min(pool.items) < 500


@pytest.mark.medium
@given(ROWS, st.integers(1, 20))
def test_the_farthest_comes_first(rows, count):
    found = farthest_first(rows, count)
    order = found.order.tolist()
    assert len(set(order)) == len(order) == min(count, len(rows))
    assert (np.diff(found.distances[1:]) <= 1e-9).all()
    for step in range(1, len(order)):
        nearest = [distances_to(rows[order[:step]], row).min() for row in rows]
        assert nearest[order[step]] == pytest.approx(max(nearest))
        assert found.distances[step] == pytest.approx(max(nearest))


@pytest.mark.medium
@given(ROWS.filter(lambda rows: len(rows) > 2), st.integers(2, 3))
def test_it_covers_at_most_twice_as_badly_as_the_best_choice(rows, count):
    rows = rows[:9]

    def radius(chosen):
        return max(distances_to(rows[list(chosen)], row).min() for row in rows)

    best = min(radius(some) for some in itertools.combinations(range(len(rows)), count))
    assert radius(farthest_first(rows, count).order) <= 2 * best + 1e-6


@pytest.mark.medium
@given(ROWS.filter(lambda rows: len(rows) > 1))
def test_diversity_is_that_of_all_pairs(rows):
    apart = [
        np.linalg.norm(one.astype(float) - other) for one, other in itertools.combinations(rows, 2)
    ]
    found = diversity(rows)
    assert found.mean == pytest.approx(np.mean(apart), abs=1e-6)
    assert found.least == pytest.approx(min(apart), abs=1e-6)


@pytest.mark.parametrize(("capacity", "near"), [(1, 0.1), (4, 0.0), (4, -1.0)])
def test_a_reservoir_that_keeps_nothing_apart_is_refused(capacity, near):
    with pytest.raises(ValueError):
        Reservoir(capacity, near)
