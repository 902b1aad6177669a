"""The key-frame memory: bounded at every step, nothing uncounted, and the same after a restore."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import EngineNotFinite, SettingsInvalid, StreamOutOfOrder
from edgestream.runtime.memory.key_frame import OVERHEAD_BYTES
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.memory.memory_state import MemoryState

from .key_frame_streams import (
    DIM,
    Step,
    decision_at,
    embeds_of,
    features_at,
    kept,
    play,
    said,
    steps,
)

rules = st.builds(
    KeyFrameRules,
    clip_len=st.integers(1, 5),
    key_frame_buffer_size=st.integers(1, 3),
    key_frame_match_ratio=st.sampled_from([-1.0, 0.6, 1.0]),
    max_frame_set_num=st.integers(1, 4),
    thumbnails=st.booleans(),
    recent_bytes_share=st.sampled_from([0.1, 0.25, 0.75]),
    protected_bytes_share=st.sampled_from([0.3, 0.5, 1.0]),
)
budgets = st.sampled_from([6_800, 7_500, 12_000, 20_000, 200_000])
LARGE = 10_000_000


def covers_of(memory):
    return sum(frame.covers for frame in memory.view().key_frames)


def frame_by_reason(memory, reason):
    return [f for f in memory.view().key_frames if f.reason == reason]


def through_bytes(state):
    """The state as a file and a text hold it."""
    file = io.BytesIO()
    np.savez(file, **state.arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return MemoryState(dict(arrays), json.loads(json.dumps(state.fields)))


@pytest.mark.medium
@given(steps, rules, budgets)
def test_the_budget_holds_and_nothing_is_uncounted_at_every_step(stream, rules, budget_bytes):
    memory = KeyFrameMemory(rules, budget_bytes)
    for number in play(memory, stream):
        assert sum(memory.holders().values()) == memory.n_bytes <= budget_bytes
        assert covers_of(memory) == memory.frames == number + 1
        view = memory.view()
        frames = view.key_frames
        assert all(one.time_s <= other.time_s for one, other in pairwise(frames))
        assert len({frame.frame_id for frame in frames}) == len(frames)
        assert view.n_bytes <= memory.n_bytes
        held = {id(array): array.nbytes for _, array in view.recent.frames}
        assert memory.holders()["recent"] >= sum(held.values())


@pytest.mark.medium
@given(steps, rules, budgets)
def test_protected_frames_stay_while_any_other_could_go(stream, rules, budget_bytes):
    memory = KeyFrameMemory(rules, budget_bytes)
    protected: dict[str, int] = {}
    for number in play(memory, stream):
        frames = memory.view().key_frames
        now = {frame.frame_id: frame.n_bytes for frame in frames if frame.is_protected}
        share = rules.protected_bytes_share * memory.budget_bytes * 15 / 16
        # What was said just now protects another frame, or made one larger that then went.
        together = sum({**protected, **now}.values()) + len(stream[number].said.encode())
        if set(protected) - set(now) and together <= share:
            # Then only protected ones are left, beside the newest frame that waits.
            assert all(frame.is_protected for frame in memory.view().key_frames[:-1])
        protected = now


@pytest.mark.medium
@given(steps, rules, budgets, st.data())
def test_restored_anywhere_it_goes_on_as_if_uninterrupted(stream, rules, budget_bytes, data):
    whole = KeyFrameMemory(rules, budget_bytes)
    for _ in play(whole, stream):
        pass
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=3).map(sorted))
    memory = KeyFrameMemory(rules, budget_bytes)
    for start, end in pairwise([0, *places, len(stream)]):
        for _ in play(memory, stream, start=start, end=end):
            pass
        state = through_bytes(memory.snapshot())
        memory = KeyFrameMemory(rules, budget_bytes)
        memory.restore(state)
    assert kept(memory) == kept(whole)


@pytest.mark.medium
@given(steps, rules)
def test_reset_is_fresh(stream, rules):
    memory, fresh = (KeyFrameMemory(rules, 20_000) for _ in range(2))
    for _ in play(memory, stream):
        pass
    memory.reset()
    assert kept(memory) == kept(KeyFrameMemory(rules, 20_000))
    for _ in zip(play(memory, stream), play(fresh, stream), strict=True):
        pass
    assert kept(memory) == kept(fresh)


@pytest.mark.medium
@given(steps, rules)
def test_views_and_snapshots_never_change(stream, rules):
    memory = KeyFrameMemory(rules, 12_000)
    taken = []
    for number in play(memory, stream):
        if number % 7 == 0:
            view, state = memory.view(), memory.snapshot()
            again = KeyFrameMemory(rules, 12_000)
            again.restore(state)
            taken.append((view, view.key_frames, state, kept(again)))
    for view, key_frames, state, was in taken:
        assert view.key_frames is key_frames
        assert all(not f.embeds.flags.writeable for f in key_frames)
        again = KeyFrameMemory(rules, 12_000)
        again.restore(state)
        assert kept(again) == was


@pytest.mark.medium
@given(steps)
def test_a_smaller_budget_is_kept_on_restore(stream):
    large, small = (KeyFrameMemory(KeyFrameRules(), size) for size in (200_000, 12_000))
    for _ in play(large, stream):
        pass
    small.restore(large.snapshot())
    assert small.n_bytes <= 12_000
    assert covers_of(small) == len(stream)


def test_still_frames_count_for_the_frame_they_repeat_and_add_nothing():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    embeds = embeds_of(1)
    for number in range(50):
        features = features_at(number / 4, is_fresh=number in (0, 20))
        memory.step(features, embeds, decision_at(number / 4))
    assert [frame.covers for frame in memory.view().key_frames] == [20, 30]
    assert memory.view().recent.n_bytes == embeds.nbytes


def test_a_frame_joins_its_clip_and_a_real_frame_stands_for_the_cluster():
    memory = KeyFrameMemory(KeyFrameRules(clip_len=4, max_frame_set_num=4), LARGE)
    for _ in play(memory, [Step(topic=n // 4) for n in range(9)]):
        pass
    key_frames = memory.view().key_frames
    assert [frame.covers for frame in key_frames] == [4, 4, 1]
    assert [frame.reason for frame in key_frames] == ["first", "cluster", "cluster"]
    for frame in key_frames:
        number = int(frame.frame_id[1:])
        assert frame.time_s == (number + 1) / 4
        np.testing.assert_array_equal(
            frame.embeds, embeds_of(number // 4, number).astype(np.float16)
        )


def test_the_frame_after_a_cut_is_protected_also_where_the_cut_came_at_a_still_one():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    stream = [Step(), Step(), Step(is_fresh=False, is_cut=True), Step(), Step(is_cut=True), Step()]
    for _ in play(memory, stream):
        pass
    assert [f.frame_id for f in frame_by_reason(memory, "cut")] == ["k3", "k4"]


def test_what_was_said_stands_at_the_nearest_frame_which_is_protected():
    memory = KeyFrameMemory(KeyFrameRules(clip_len=2), LARGE)
    for _ in play(memory, [Step(passed_s=1.0, topic=n % 6) for n in range(40)]):
        pass
    memory.remember(
        [
            said("A cat.", 10.4),
            said("It left.", 10.0, question=None),
            said("No.", 20.0, is_final=False),
            said("  ", 30.0),
        ]
    )
    (frame,) = frame_by_reason(memory, "spoke")
    assert (frame.time_s, frame.said) == (10.0, "A cat.\nIt left.")
    assert [turn.answer for turn in memory.view().dialogue] == ["A cat."]


def test_what_was_said_of_the_past_is_not_written_on_the_present():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    for _ in play(memory, [Step(passed_s=1.0) for _ in range(4)]):
        pass
    memory.remember([replace(said("A dog.", 4.0, question="@recall What was?"), context="recall")])
    assert not frame_by_reason(memory, "spoke")
    assert [turn.question for turn in memory.view().dialogue] == ["What was?"]


@pytest.mark.medium
def test_where_everything_is_spoken_at_the_rest_is_still_kept():
    memory = KeyFrameMemory(KeyFrameRules(), 60_000)
    stream = [
        Step(passed_s=5.0, topic=n // 2 % 6, said="A dog." if n % 6 == 0 else "")
        for n in range(2000)
    ]
    for _ in play(memory, stream):
        pass
    reasons = Counter(frame.reason for frame in memory.view().key_frames)
    assert reasons["spoke"] > 10 and reasons["cluster"] > 10


def test_a_visit_of_half_a_second_is_seen_at_once():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    stream = [
        Step(topic=1 if n in (21, 22) else 0, is_fresh=n in (0, 21, 22, 23)) for n in range(40)
    ]
    for number in play(memory, stream):
        if number > 22:
            times_s = [frame.time_s for frame in memory.view().key_frames]
            assert {22 / 4, 23 / 4} <= set(times_s)


def test_a_view_up_to_a_time_holds_nothing_later():
    memory = KeyFrameMemory(KeyFrameRules(clip_len=1, key_frame_buffer_size=1), LARGE)
    for _ in play(memory, [Step(passed_s=1.0, topic=n % 6, said="Yes.") for n in range(20)]):
        pass
    view = memory.view().until(12.0)
    assert max(frame.time_s for frame in view.key_frames) == 12.0
    assert view.recent.frames[-1][0] == view.dialogue[-1].time_s == 12.0
    assert view.recent.dialogue == view.dialogue


def test_thumbnails_are_kept_only_where_asked_for_and_counted():
    sizes = []
    for thumbnails in (False, True):
        memory = KeyFrameMemory(KeyFrameRules(thumbnails=thumbnails), LARGE)
        for _ in play(memory, [Step()]):
            pass
        sizes.append(memory.n_bytes)
    assert sizes[1] - sizes[0] == 4 * 6 * 3
    assert (
        memory.view().key_frames[0].n_bytes == embeds_of(0).size * 2 + DIM * 4 + 72 + OVERHEAD_BYTES
    )


def test_a_slice_does_not_keep_the_array_it_was_cut_from():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    batch = np.ones((100, 3, DIM), np.float32)
    batch.flags.writeable = False
    memory.step(features_at(0.0), batch[0], decision_at(0.0))
    assert memory.view().recent.frames[0][1].base is None


def test_embeds_beyond_float16_stay_finite():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    memory.step(features_at(0.0), np.full((2, DIM), 1e6, np.float32), decision_at(0.0))
    assert np.isfinite(memory.view().key_frames[0].embeds).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_frame_that_is_no_number_is_refused_and_changes_nothing(bad):
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    for _ in play(memory, [Step(), Step()]):
        pass
    before = kept(memory)
    embeds = embeds_of(0)
    embeds[1, 2] = bad
    with pytest.raises(EngineNotFinite, match=r"got NaN or infinity in the frame of 1\.000 s"):
        memory.step(features_at(1.0), embeds, decision_at(1.0))
    assert kept(memory) == before


def test_time_that_goes_back_is_refused_and_changes_nothing():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    for _ in play(memory, [Step(), Step()]):
        pass
    before = kept(memory)
    with pytest.raises(StreamOutOfOrder, match=r"got a frame of 0\.400 s, expected 0\.500 s"):
        memory.step(features_at(0.4), embeds_of(0), decision_at(0.4))
    assert kept(memory) == before


@pytest.mark.parametrize("share", [0.05, 0.25, 0.75])
def test_a_budget_below_one_frame_is_refused_and_one_that_is_told_is_enough(share):
    rules = KeyFrameRules(recent_bytes_share=share, thumbnails=True)
    with pytest.raises(SettingsInvalid, match="got a budget of 900 bytes") as refused:
        list(play(KeyFrameMemory(rules, 900), [Step()]))
    enough = int(refused.value.message.split("at least the ")[1].split()[0])
    with pytest.raises(SettingsInvalid, match="expected at least"):
        list(play(KeyFrameMemory(rules, enough - 1), [Step()]))
    memory = KeyFrameMemory(rules, enough)
    for number in play(memory, [Step(said="é" * 700, is_cut=True, topic=n) for n in range(20)]):
        assert memory.n_bytes <= enough
        assert covers_of(memory) == number + 1


@pytest.mark.parametrize("share", [0.05, 0.25, 0.75])
def test_the_budget_that_is_told_is_enough_for_large_embeds_too(share):
    rules, embeds = KeyFrameRules(recent_bytes_share=share), np.ones((300, DIM), np.float32)
    with pytest.raises(SettingsInvalid, match="expected at least") as refused:
        KeyFrameMemory(rules, 900).step(features_at(0.0), embeds, decision_at(0.0))
    enough = int(refused.value.message.split("at least the ")[1].split()[0])
    memory = KeyFrameMemory(rules, enough)
    for number in range(20):
        memory.step(features_at(float(number)), embeds + number, decision_at(float(number)))
        assert memory.n_bytes <= enough


def test_of_two_equally_near_frames_the_newer_one_was_meant():
    memory = KeyFrameMemory(KeyFrameRules(), LARGE)
    for _ in play(memory, [Step(passed_s=1.0) for _ in range(4)]):
        pass
    memory.remember([said("A cat.", 2.5)])
    assert [frame.time_s for frame in frame_by_reason(memory, "spoke")] == [3.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_len": 0},
        {"key_frame_buffer_size": 0},
        {"max_frame_set_num": 0},
        {"key_frame_match_ratio": float("nan")},
        {"recent_bytes_share": 0.0},
    ],
)
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsInvalid, match=f"{next(iter(wrong))} got .*expected"):
        KeyFrameRules(**wrong)
