"""Which spans leave: laws for every stream of spans and every policy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import ContextTooSmall
from edgestream.runtime.eviction import EvictionPolicy, Span, keep_slots, kept_spans

policies = st.builds(
    EvictionPolicy,
    recent_slots=st.integers(0, 60),
    block_slots=st.integers(0, 40),
    sink_slots=st.integers(0, 12),
)
later = st.builds(
    Span,
    kind=st.sampled_from(["frame", "text"]),
    slots=st.integers(0, 12),
    time_s=st.just(0.0),
    is_protected=st.booleans(),
)
streams = st.tuples(st.integers(0, 20), st.lists(later, max_size=20)).map(
    lambda made: [Span("prefix", made[0], 0.0), *made[1]]
)


def slots_of(spans, indices):
    return sum(spans[index].slots for index in indices)


def is_sink(spans, policy, index):
    before = sum(span.slots for span in spans[:index] if span.kind != "prefix")
    return spans[index].kind == "prefix" or before < policy.sink_slots


def is_recent(spans, policy, index):
    return sum(span.slots for span in spans[index + 1 :]) < policy.recent_slots


@pytest.mark.medium
@given(streams, policies, st.integers(0, 80), st.integers(1, 200))
def test_what_leaves_follows_the_rules(spans, policy, need, capacity):
    everything = range(len(spans))
    lacking = slots_of(spans, everything) + need - capacity
    fixed = [i for i in everything if is_sink(spans, policy, i)]
    may_leave = [i for i in everything if i not in fixed]
    if lacking > slots_of(spans, may_leave):
        with pytest.raises(ContextTooSmall) as fault:
            kept_spans(spans, policy, need, capacity)
        assert fault.value.exit_code == 2
        return
    kept = kept_spans(spans, policy, need, capacity)
    left = [i for i in everything if i not in kept]
    assert list(kept) == sorted(set(kept)) and set(kept) <= set(everything)
    if lacking <= 0:
        assert not left
        return
    assert slots_of(spans, kept) + need <= capacity, "enough is freed"
    assert not set(left) & set(fixed), "neither prefix nor sinks leave"

    def rank(i):
        return (is_recent(spans, policy, i), spans[i].is_protected, i)

    assert all(rank(i) < rank(j) for i in left for j in may_leave if j not in left), "in order"
    plain = [i for i in may_leave if rank(i)[:2] == (False, False)]
    if slots_of(spans, plain) >= max(lacking, policy.block_slots):
        assert slots_of(spans, left) >= policy.block_slots, "a whole block is freed"
    # The last to leave had to: without it too little, or less than a block, would be free.
    last = max(left, key=rank)
    if rank(last)[:2] == (False, False):
        assert slots_of(spans, left) - spans[last].slots < max(lacking, policy.block_slots)
    special = [i for i in left if i not in plain]
    if special:
        last = max(special, key=rank)
        assert slots_of(spans, left) - spans[last].slots < lacking, "no more than had to"


@given(streams, st.sets(st.integers(0, 20)))
def test_slots_are_those_of_whole_spans(spans, chosen):
    kept = sorted(index for index in chosen if index < len(spans))
    owner = [index for index, span in enumerate(spans) for _ in range(span.slots)]
    got = keep_slots(spans, kept)
    assert got.dtype == np.int64
    assert got.tolist() == [slot for slot, index in enumerate(owner) if index in kept]


def frame(slots=10, *, is_protected=False):
    return Span("frame", slots, 0.0, is_protected)


PREFIX = Span("prefix", 20, 0.0)


@pytest.mark.parametrize(
    ("protected", "need", "kept"),
    [
        ((), 10, (0, 3, 4, 5, 6, 7, 8)),  # a block of 20, though 10 would do
        ((1, 3), 10, (0, 1, 3, 5, 6, 7, 8)),  # key frames are passed over
        ((1, 2, 3, 4), 10, (0, 2, 3, 4, 5, 6, 7, 8)),  # ... and leave one by one, no block
        ((8,), 70, (0, 8)),  # the recent window goes only where nothing else is left
    ],
)
def test_examples(protected, need, kept):
    spans = [PREFIX, *(frame(is_protected=index in protected) for index in range(1, 9))]
    policy = EvictionPolicy(recent_slots=40, block_slots=20)
    assert kept_spans(spans, policy, need, capacity=100) == kept


def test_sinks_stay():
    spans = [PREFIX, *(frame() for _ in range(8))]
    policy = EvictionPolicy(recent_slots=40, block_slots=0, sink_slots=11)
    assert kept_spans(spans, policy, 10, capacity=100) == (0, 1, 2, 4, 5, 6, 7, 8)


def test_what_can_never_fit_is_said():
    with pytest.raises(ContextTooSmall, match="got 90 slots to write beside 20 that always stay"):
        kept_spans([PREFIX, frame()], EvictionPolicy(0, 0), 90, capacity=100)


def test_numbers_of_slots_are_not_negative():
    with pytest.raises(ValueError):
        Span("frame", -1, 0.0)
    for wrong in ((-1, 0, 0), (0, -1, 0), (0, 0, -1)):
        with pytest.raises(ValueError):
            EvictionPolicy(*wrong)
