"""The long store against a naive twin: in time order, most alike neighbours first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.memory.clustering import likeness, unit_rows
from edgestream.runtime.memory.key_frame import KeyFrame
from edgestream.runtime.memory.long_store import MAX_SAID_BYTES, LongStore, joined_said, merged

from .key_frame_streams import embeds_of


def key_frame(number, time_s, reason="cluster", covers=1, said=""):
    embeds = embeds_of(number % 3, number).astype(np.float16)
    return KeyFrame(
        f"k{number}", time_s, embeds, np.zeros(0, np.float32), None, said, reason, covers
    )


def naive_pairs(frames):
    """(protected pair, less alike, place) of all neighbours, the first to merge first."""
    return sorted(
        (
            one.is_protected and other.is_protected,
            -round(likeness(unit_rows(one.embeds), unit_rows(other.embeds)), 5),
            at,
        )
        for at, (one, other) in enumerate(pairwise(frames))
    )


acts = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 50), st.sampled_from(["cluster", "cut"])),
        st.tuples(st.just("merge"), st.booleans()),
        st.tuples(st.just("replace"), st.integers(0, 100)),
    ),
    max_size=120,
)


@pytest.mark.medium
@given(acts)
def test_it_does_what_a_plain_list_does(acts):
    store, frames = LongStore(), []
    for number, act in enumerate(acts):
        if act[0] == "insert":
            frame = key_frame(number, float(act[1]), act[2])
            store.insert(frame)
            frames = sorted([*frames, frame], key=lambda f: f.time_s)
        elif act[0] == "replace" and frames:
            at = act[1] % len(frames)
            frames[at] = key_frame(number, frames[at].time_s, "spoke", frames[at].covers)
            store.replace(at, frames[at])
        elif act[0] == "merge":
            pairs = naive_pairs(frames)
            can = bool(pairs) and (act[1] or not pairs[0][0])
            assert store.merge(protected=act[1]) == can
            if can:
                at = pairs[0][2]
                frames[at : at + 2] = [merged(frames[at], frames[at + 1])]
        assert [f.frame_id for f in store.frames()] == [f.frame_id for f in frames]
        assert [f.covers for f in store.frames()] == [f.covers for f in frames]
        assert store.n_bytes == sum(f.n_bytes for f in frames)
    again = LongStore()
    again.fill(store.frames(), store.alike())
    while again.merge(protected=True):
        store.merge(protected=True)
        assert [f.frame_id for f in again.frames()] == [f.frame_id for f in store.frames()]


def test_it_grows_beyond_its_first_room():
    store = LongStore()
    for number in range(300):
        store.insert(key_frame(number, float((number * 7) % 300)))
    times_s = [frame.time_s for frame in store.frames()]
    assert times_s == sorted(times_s)
    assert store.alike().shape == (299,)


def test_nearest_in_time():
    store = LongStore()
    assert store.nearest(3.0) is None
    for number, time_s in enumerate([1.0, 5.0, 9.0]):
        store.insert(key_frame(number, time_s))
    assert [store.nearest(time_s) for time_s in (0.0, 2.9, 3.1, 9.0, 99.0)] == [0, 0, 1, 2, 2]


def test_of_two_the_protected_one_stays_then_the_one_that_covers_more():
    small, large = key_frame(0, 1.0, covers=1), key_frame(1, 2.0, covers=9)
    spoken = key_frame(2, 3.0, "spoke", said="A dog.")
    assert (merged(small, large).frame_id, merged(small, large).covers) == ("k1", 10)
    assert merged(large, spoken).frame_id == "k2"
    assert merged(spoken, key_frame(3, 4.0, "cut", 1, "It left.")).said == "A dog.\nIt left."
    assert merged(small, key_frame(4, 4.0)).frame_id == "k0"


@given(st.text(max_size=900), st.text(max_size=900))
def test_what_is_said_is_bounded_and_the_newest_words_stay(old, new):
    text = joined_said(old, new)
    assert len(text.encode()) <= MAX_SAID_BYTES
    assert text.endswith(new[-200:])
