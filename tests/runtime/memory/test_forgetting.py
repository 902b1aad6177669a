"""Forgetting: nothing of before a time is left, and what stays covers the rest."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.memory.dialogue import DialogueMemory
from edgestream.runtime.memory.dialogue_log import BEFORE, NEWEST, DialogueLog
from edgestream.runtime.memory.key_frame import KeyFrame
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.memory.long_store import merged
from edgestream.runtime.recent import DialogueTurn, RecentMemory

from .key_frame_streams import (
    DIM,
    TOKENS,
    decision_at,
    embeds_of,
    features_at,
    kept,
    play,
    said,
    steps,
    times_of,
)
from .test_keyframes import budgets, covers_of, rules, through_bytes

LARGE = 10_000_000
PLANTED, OLD_WORDS = 0.5, "SECRET"


def assert_nothing_before(memory, time_s):
    view = memory.view()
    times_s = [frame.time_s for frame in view.key_frames]
    times_s += [at for at, _ in view.recent.frames] + [turn.time_s for turn in view.dialogue]
    times_s += [f.said_from_s for f in view.key_frames if f.said]
    times_s += [cluster.since_s for cluster in memory._store._live.clusters]
    assert all(at >= time_s for at in times_s)


@pytest.mark.medium
@settings(deadline=None)
@given(steps, rules, budgets, st.lists(st.tuples(st.integers(0, 120), st.floats(0, 60))))
def test_what_stays_covers_what_was_stepped_and_not_forgotten(stream, rules, budget_bytes, places):
    memory, at, times_s = KeyFrameMemory(rules, budget_bytes), dict(places), times_of(stream)
    before = 0
    for change, number in enumerate(play(memory, stream)):
        if change in at:
            time_s = times_s[number] - at[change]
            memory.forget_before(time_s)
            assert_nothing_before(memory, time_s)
            assert before <= memory.forgotten <= memory.frames
            before = memory.forgotten
        assert covers_of(memory) == memory.frames - memory.forgotten
        assert sum(memory.holders().values()) == memory.n_bytes <= budget_bytes
        assert memory.view().n_bytes <= memory.n_bytes
        names = [frame.frame_id for frame in memory.view().key_frames]
        assert len(set(names)) == len(names)


@pytest.mark.medium
@settings(deadline=None)
@given(steps, rules, budgets)
def test_what_is_not_old_is_not_touched(stream, rules, budget_bytes):
    one, other = (KeyFrameMemory(rules, budget_bytes) for _ in range(2))
    for _ in zip(play(one, stream), play(other, stream), strict=True):
        one.forget_before(0.0)
    assert kept(one) == kept(other) and one.forgotten == 0


@pytest.mark.medium
@settings(deadline=None)
@given(steps, rules, budgets, st.data())
def test_restored_after_forgetting_it_goes_on_as_if_uninterrupted(
    stream, rules, budget_bytes, data
):
    whole, memory = (KeyFrameMemory(rules, budget_bytes) for _ in range(2))
    at = data.draw(st.integers(0, len(stream)))
    before_s = data.draw(st.floats(0, 200))
    for one in (whole, memory):
        for _ in play(one, stream, end=at):
            pass
        one.forget_before(before_s)
    state = through_bytes(memory.snapshot())
    memory = KeyFrameMemory(rules, budget_bytes)
    memory.restore(state)
    for one in (whole, memory):
        for _ in play(one, stream, start=at):
            pass
        one.forget_before(before_s + 10.0)
    assert kept(memory) == kept(whole) and memory.forgotten == whole.forgotten


planted_streams = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=50
)


@pytest.mark.medium
@settings(max_examples=200, deadline=None)
@given(planted_streams, rules, st.sampled_from([12_000, 20_000, 60_000]), st.data())
def test_no_number_and_no_word_of_what_was_forgotten_is_left(stream, rules, budget_bytes, data):
    """Everything about the time before is planted; a mean that holds a part of it is found too."""
    memory, cut = KeyFrameMemory(rules, budget_bytes), data.draw(st.integers(0, len(stream)))
    for number, (topic, is_cut, speaks) in enumerate(stream):
        time_s, is_old = number / 4, number < cut
        embeds = embeds_of(topic, number)
        embeds[:, -1] = PLANTED if is_old else 0.0
        picture = np.full((4, 6, 3), 255 if is_old else 7, np.uint8)
        features = features_at(time_s, small=picture)
        memory.step(features, embeds, decision_at(time_s, is_cut=is_cut))
        if speaks:
            memory.remember([said(OLD_WORDS if is_old else "A dog.", time_s)])
    memory.forget_before(cut / 4)
    state = memory.snapshot()
    assert OLD_WORDS not in json.dumps(state.fields)
    for name, array in state.arrays.items():
        numbers = np.asarray(array)
        if name.endswith(("embeds", "mean")):
            planted = numbers.reshape(-1, DIM)[:, -1]
            assert not planted.any(), name
        if name.endswith("thumbnail"):
            assert not (numbers == 255).any(), name
    assert covers_of(memory) == memory.frames - memory.forgotten


def test_a_still_scene_whose_frame_was_forgotten_is_kept_again_from_the_next_frame_on():
    memory, embeds, times_s = KeyFrameMemory(KeyFrameRules(), LARGE), embeds_of(0), set()
    for number in range(40):
        memory.step(features_at(number / 4, is_fresh=number == 0), embeds, decision_at(0.0))
        (frame,) = memory.view().key_frames
        times_s.add(frame.time_s)
        memory.forget_before(number / 4 - 2.0)
        assert covers_of(memory) == memory.frames - memory.forgotten
        assert_nothing_before(memory, number / 4 - 2.0)
    assert sorted(times_s) == [0.0, 2.5, 5.0, 7.5]


def test_wiped_it_is_empty_and_its_names_go_on():
    memory = KeyFrameMemory(KeyFrameRules(thumbnails=True), LARGE)
    for number in range(30):
        memory.step(
            features_at(number / 4, small=np.zeros((4, 6, 3), np.uint8)),
            embeds_of(number % 3, number),
            decision_at(number / 4),
        )
    memory.remember([said("A dog.", 5.0)])
    memory.wipe()
    view = memory.view()
    assert (view.key_frames, view.recent.frames, view.dialogue, memory.n_bytes) == ((), (), (), 0)
    assert memory.forgotten == memory.frames == 30
    memory.step(features_at(7.5, small=np.zeros((4, 6, 3), np.uint8)), embeds_of(0), decision_at(0))
    (frame,) = memory.view().key_frames
    assert frame.frame_id == "k30" and covers_of(memory) == 1


def test_a_state_of_before_words_had_times_takes_them_for_as_old_as_their_frames():
    memory = KeyFrameMemory(KeyFrameRules(clip_len=1), LARGE)
    for number in range(8):
        memory.step(features_at(number / 4), embeds_of(number, number), decision_at(number / 4))
        memory.remember([said(f"It is {number}.", number / 4)])
    state = through_bytes(memory.snapshot())
    old = {k: v for k, v in state.fields.items() if "said_from_s" not in k and k != "forgotten"}
    arrays = {name: array for name, array in state.arrays.items() if name != "live_since_s"}
    again = KeyFrameMemory(KeyFrameRules(clip_len=1), LARGE)
    again.restore(type(state)(arrays, old))
    assert kept(again) == kept(memory)
    again.forget_before(1.0)
    assert [frame.said for frame in again.view().key_frames] == [f"It is {n}." for n in range(4, 8)]


def test_pictures_are_left_out_where_the_rules_keep_none():
    memory = KeyFrameMemory(KeyFrameRules(thumbnails=True, clip_len=1), LARGE)
    for number in range(12):
        picture = np.full((4, 6, 3), number, np.uint8)
        memory.step(features_at(number / 4, small=picture), embeds_of(number), decision_at(0.0))
    assert all(frame.thumbnail is not None for frame in memory.view().key_frames)
    plain = KeyFrameMemory(KeyFrameRules(clip_len=1), LARGE)
    plain.restore(memory.snapshot())
    frames = plain.view().key_frames
    assert [f.frame_id for f in frames] == [f.frame_id for f in memory.view().key_frames]
    assert all(frame.thumbnail is None for frame in frames) and plain.n_bytes < memory.n_bytes
    assert sum(plain.holders().values()) == plain.n_bytes


@pytest.mark.medium
@given(
    st.lists(st.floats(0, 100).map(lambda s: round(s, 2)), max_size=30).map(sorted),
    st.floats(0, 100),
)
def test_the_last_frames_and_the_talk_of_before_a_time_go(times_s, before_s):
    memory, talk = RecentMemory(max_frames=20), DialogueMemory(max_turns=50)
    for number, time_s in enumerate(times_s):
        shared = embeds_of(number // 3)
        memory.step(features_at(time_s), shared, decision_at(time_s))
        memory.remember([said(f"It is {number}.", time_s)])
        talk.add(DialogueTurn(time_s, f"{number}?", "yes"))
    memory.forget_before(before_s)
    talk.forget_before(before_s)
    later = [time_s for time_s in times_s if time_s >= before_s]
    assert [time_s for time_s, _ in memory.view().frames] == later[-20:]
    assert all(turn.time_s >= before_s for turn in memory.view().dialogue)
    assert memory.n_bytes == memory.view().n_bytes <= len(later) * TOKENS * 8 * 4
    assert [turn.time_s for turn in talk.view()] == later
    assert talk.n_bytes == sum(turn.n_bytes for turn in talk.view())
    memory.wipe()
    assert memory.n_bytes == 0 and not memory.view().frames and not memory.view().dialogue


def times_in(folder):
    files = [folder / name for name in (BEFORE, NEWEST) if (folder / name).exists()]
    lines = b"".join(file.read_bytes() for file in files).splitlines()
    return [json.loads(line)["time_s"] for line in lines]


@pytest.mark.parametrize("before_s", [0.0, 3.0, 25.0, 39.5, 1e9])
def test_the_log_loses_the_lines_of_before_a_time_and_goes_on(tmp_path, before_s):
    with DialogueLog(tmp_path, max_bytes=4000) as log:
        for number in range(40):
            log.append(DialogueTurn(float(number), "What?", f"SECRET {number} " + "x" * 30))
        assert (tmp_path / BEFORE).exists() and len(times_in(tmp_path)) > 20
        had = times_in(tmp_path)
        log.forget_before(before_s)
        assert times_in(tmp_path) == [time_s for time_s in had if time_s >= before_s]
        log.append(DialogueTurn(99.0, "And?", "So."))
        assert times_in(tmp_path)[-1] == 99.0
    names = {file.name for file in tmp_path.iterdir()}
    assert names <= {BEFORE, NEWEST}, "nothing is left beside it"
    if before_s > 40:
        assert not any(b"SECRET" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_line_that_is_none_goes_with_the_old_ones(tmp_path):
    (tmp_path / NEWEST).write_bytes(b'{"time_s": 5.0, "question": "a", "answer": "b"}\nSECRET\n')
    with DialogueLog(tmp_path) as log:
        log.forget_before(1.0)
    assert times_in(tmp_path) == [5.0]


def test_a_cluster_that_began_before_begins_anew_with_its_frame():
    memory = KeyFrameMemory(KeyFrameRules(clip_len=1), LARGE)
    base, off = embeds_of(1), 0.3 * embeds_of(2)
    shown = [embeds_of(5), base + off, base - 0.3 * off, base - 0.4 * off, embeds_of(4)]
    for number, embeds in enumerate(shown):
        memory.step(features_at(float(number)), embeds.astype(np.float32), decision_at(0.0))
    (cluster,) = [c for c in memory._store._live.clusters if c.members == 3]
    assert cluster.since_s == 1.0 < cluster.frame.time_s, "its most typical frame is a younger one"
    memory.forget_before(1.5)
    (cluster,) = memory._store._live.clusters
    assert (cluster.members, cluster.since_s) == (1, cluster.frame.time_s)
    np.testing.assert_array_equal(cluster.mean, cluster.frame.embeds.astype(np.float32))
    assert covers_of(memory) == memory.frames - memory.forgotten == 4, "only the first one went"


def test_words_that_two_key_frames_had_go_when_the_older_of_them_are_too_old():
    def frame(at_s, words, from_s):
        half = embeds_of(0).astype(np.float16)
        return KeyFrame(f"k{at_s}", at_s, half, np.zeros(1, np.float32), said=words,
                        said_from_s=from_s, covers=2)  # fmt: skip

    both = merged(frame(1.0, "Old.", 1.0), frame(9.0, "New.", 9.0))
    assert both.said == "Old.\nNew." and both.said_from_s == 1.0
    newer = merged(frame(8.0, "", None), frame(9.0, "New.", 9.0))
    assert newer.said_from_s == 9.0 and newer.without_words_before(9.0) is newer
    assert merged(frame(8.0, "", None), frame(9.0, "", None)).said_from_s is None
    silent = both.without_words_before(1.5)
    assert (silent.said, silent.said_from_s, silent.covers) == ("", None, 4)
