"""Positions of frames on three axes: what the arena holds is what a list of the tokens says."""

from __future__ import annotations

import random
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.context_continuous import ContinuousContext, ContinuousRules
from edgestream.runtime.context_recent import RecentContext, RecentRules
from edgestream.runtime.decoder import Decoding
from edgestream.runtime.errors import EngineError, EngineFailed, InputMismatch
from edgestream.runtime.eviction import EvictionPolicy
from edgestream.runtime.frame_positions import grid_of, halved, positions_of
from edgestream.runtime.manifest import Positions
from edgestream.runtime.memory.key_frame import KeyFrame, MemoryView
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.recall import Recall, RecallRules
from edgestream.runtime.recent import RecentMemory
from edgestream.runtime.session import LanguageSession
from edgestream.runtime.stream_prompt import StreamText
from edgestream.runtime.token_pooling import pooled
from edgestream.runtime.values import Features, GateDecision, Load, Observed

from ..scripted_decoder import HIDDEN, LAYOUT, ScriptedDecoder, decode, encode, scripted_model
from .test_session import event, question, script

GRID = (2, 4)
PICTURE = Positions(3, 10_000.0, (1, 0, 0), GRID)
# Rows and columns of what is left of a frame of 2 x 4 tokens under load.
LEFT = {8: (2, 4), 4: (2, 2), 2: (2, 1), 1: (1, 1)}


def listed(rows):
    """Positions of what is in the cache, one token after the other; a frame's rows are -1 - n."""
    found, following, at = [], 0, 0
    while at < len(rows):
        if rows[at] >= 0:
            found.append((following,) * 3)
            following, at = following + 1, at + 1
            continue
        size = next(n for n in count(1) if at + n == len(rows) or rows[at + n] != rows[at])
        height, width = LEFT[size]
        for row in range(height):
            found += [(following, following + row, following + column) for column in range(width)]
        following, at = 1 + max(map(max, found[-size:])), at + size
    return np.array(found, np.int64).reshape(-1, 3).T, following


def seen(number):
    """Frame `number`: 2 x 4 tokens that all tell its number."""
    embeds = np.full((8, HIDDEN), -1.0 - number, np.float32)
    motion = Motion(np.zeros((6, 7, 7), np.float32))
    return Observed(Features(number / 2, embeds, np.ones(1, np.float32), motion, False), embeds)


def remembered(numbers):
    """A memory of these frames, which every question about the past is shown."""
    frames = tuple(
        KeyFrame(f"k{n}", n / 2, np.full((8, HIDDEN), -1.0 - n, np.float16), np.ones(1, np.float32))
        for n in numbers
    )
    return MemoryView(key_frames=frames)


def random_session(chance):
    faults = {chance.randrange(1, 60): EngineFailed("x") for _ in range(chance.randrange(3))}
    engine = ScriptedDecoder(script({}, default="yes it is"), faults, axes=3)
    model = scripted_model(
        engine, chance.choice([64, 96, 160]), chance.choice([1, 5, 16]), positions=PICTURE
    )
    if chance.random() < 0.5:
        memory = RecentMemory(max_frames=6)
        rules = RecentRules(chance.choice([1, 3]), 0.0, 2, 16)
        recall = Recall(
            RecallRules("recall", topk=2, router="recency"),
            lambda: remembered(range(100, 104)),
            lambda text: model.rows(encode(text)),
        )
        context = RecentContext(
            model, LAYOUT, encode, memory.view, rules, recall=chance.choice([None, recall])
        )
        return LanguageSession(model, context, LAYOUT, decode, Decoding()), memory
    policy = EvictionPolicy(chance.choice([0, 20]), chance.choice([1, 16]), 0)
    rules = ContinuousRules(
        policy, 16, chance.choice([0, 12]), on_branch=chance.random() < 0.5, skip_still=False
    )
    context = ContinuousContext(model, LAYOUT, StreamText(LAYOUT, encode), rules)
    return LanguageSession(model, context, LAYOUT, decode, Decoding()), None


def moment_of(chance, step, memory):
    kind = chance.choice("ffffqqe")
    if kind == "q":
        return question("q" * chance.choice([1, 5, 20]), step / 2, f"t{step}")
    if kind == "e":
        return event(step / 2, f"t{step}")
    one = seen(step)
    if memory is not None:
        memory.step(one.features, one.embeds, GateDecision(one.features.time_s))
    return one


@pytest.mark.medium
@pytest.mark.parametrize("first_seed", range(0, 60, 20))
def test_the_arena_holds_what_a_list_of_its_tokens_says(first_seed):
    """After frames, questions, shared prompts, branches, evictions, faults, and under load."""
    evicted = shared = 0
    for seed in range(first_seed, first_seed + 20):
        chance = random.Random(seed)
        session, memory = random_session(chance)
        arena = session.model.arena
        for step in range(40):
            session.context.carry(Load(token_share=chance.choice([1.0, 1.0, 0.5, 0.25, 0.125])))
            before = arena.mark()
            try:
                list(session.take(moment_of(chance, step, memory), lambda: False, lambda _: None))
            except EngineError:
                break
            rows = arena.tensors()["0.value"][0, 0, : arena.length, 0]
            expected, following = listed(rows.tolist())
            assert np.array_equal(arena.positions[:, : arena.length], expected), (seed, step)
            assert arena.next_position == following
            assert following <= arena.capacity
            evicted += memory is None and arena.mark().moves > before.moves
            shared += memory is not None and arena.mark().moves == before.moves
    assert evicted > 5 and shared > 5


SHARES = st.sampled_from([1.0, 0.5, 0.25, 0.125])
SIDES = st.sampled_from([1, 2, 4, 8])


def picture_of(rows, columns):
    return np.random.default_rng(rows).standard_normal((rows, columns, 3)).astype(np.float32)


@given(SIDES, SIDES, SHARES)
def test_what_is_left_of_a_frame_under_load_is_the_means_of_tiles(rows, columns, share):
    picture = picture_of(rows, columns)
    few = pooled(picture.reshape(-1, 3), share, (rows, columns))
    assert len(few) == max(1, rows * columns * share)
    left = grid_of(len(few), (rows, columns))
    tiles = picture.reshape(left[0], rows // left[0], left[1], columns // left[1], 3)
    np.testing.assert_allclose(few.reshape(*left, 3), tiles.mean(axis=(1, 3)), rtol=1e-4, atol=1e-6)


@given(st.integers(1, 12), st.integers(1, 12), SHARES)
def test_grids_of_any_size_leave_a_grid(rows, columns, share):
    picture = picture_of(rows, columns)
    few = pooled(picture.reshape(-1, 3), share, (rows, columns))
    left = grid_of(len(few), (rows, columns))
    assert left[0] <= rows and left[1] <= columns and left[0] * left[1] == len(few)
    assert rows * columns * share <= len(few) <= (rows + 1) * (columns + 1) * share + 3
    assert (few.max(axis=0) <= picture.max(axis=(0, 1)) + 1e-6).all()


def test_a_longer_side_is_halved_first():
    assert [halved((8, 8)), halved((8, 4)), halved((1, 5)), halved((5, 1))] == [
        (8, 4), (4, 4), (1, 3), (3, 1)
    ]  # fmt: skip


def test_texts_and_frames_follow_each_other():
    positions = positions_of([(2, False), (6, True), (1, False)], (2, 3), first=4)
    assert positions.tolist() == [
        [4, 5, 6, 6, 6, 6, 6, 6, 9],
        [4, 5, 6, 6, 6, 7, 7, 7, 9],
        [4, 5, 6, 7, 8, 6, 7, 8, 9],
    ]


def test_a_frame_of_another_size_is_refused():
    with pytest.raises(InputMismatch, match="got a frame of 5 tokens, expected 2 x 4"):
        positions_of([(5, True)], GRID)
    with pytest.raises(InputMismatch, match="got a frame of 0 tokens"):
        positions_of([(0, True)], GRID)
