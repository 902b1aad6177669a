"""Dialogues as a gate learns from them: requests, moments to speak, rows with a burn-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.training.dialogues import Dialogue, Turn
from edgestream.training.features import VideoFeatures
from edgestream.training.gate_stage import told_of
from edgestream.training.gate_streams import (
    BURN_IN_FRAMES,
    batch_of,
    batches_of,
    gate_stream,
    rows_of,
)

FPS, DIM = 4, 8


def features(frames: int, seed: int = 0) -> VideoFeatures:
    rng = np.random.default_rng(seed)
    sizes = ((2, DIM), (DIM,), (6, 7, 7))
    tokens, summary, motion = (rng.normal(size=(frames, *size)).astype(np.float16)
                               for size in sizes)  # fmt: skip
    times_s, still = np.arange(frames) / FPS, np.zeros(frames, np.bool_)
    return VideoFeatures(times_s, tokens, summary, None, None, still, motion)


def read(text: str):
    """A vector that tells texts apart."""
    return np.full(3, float(len(text)), np.float32)


def stream(*turns: Turn, frames: int = 12, from_s: float = 0.0):
    return gate_stream(Dialogue(Path("x.mp4"), turns, from_s), features(frames), read, 3)


def test_a_request_holds_from_the_next_frame_to_the_next_request():
    made = stream(
        Turn(0.5, "user", "pans"), Turn(1.0, "assistant", "It pans."), Turn(1.5, "user", "It cuts"),
        Turn(2.25, "assistant", "A cut."),
    )  # fmt: skip
    assert made.texts == ("", "pans", "It cuts")
    assert made.asked.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert np.flatnonzero(made.speaks).tolist() == [4, 9]
    assert made.queries[:, 0].tolist() == [0, 4, 7]


def test_a_question_that_is_answered_at_once_is_no_request():
    made = stream(
        Turn(0.5, "user", "pans"), Turn(1.0, "user", "Dark?"), Turn(1.0, "assistant", "No."),
        Turn(2.0, "assistant", "It pans."),
    )  # fmt: skip
    assert made.texts == ("", "pans") and made.asked[6] == 1
    assert np.flatnonzero(made.speaks).tolist() == [8], "an answer is no moment to speak"
    assert not made.learned[4], "nobody can know that somebody will ask"


def test_what_is_not_to_be_learned_teaches_nothing():
    made = stream(Turn(1.0, "assistant", "Wrong.", learn=False), Turn(2.0, "assistant", "Right."))
    assert made.learned.tolist() == [at != 4 for at in range(12)]


def test_a_part_of_a_video_begins_at_its_own_frame():
    made = stream(Turn(1.5, "assistant", "Now."), from_s=1.0)
    assert made.first == 4 and np.flatnonzero(made.speaks).tolist() == [2]
    batch = batch_of(rows_of([made], 99), [made], ("summary",), 0.25)
    expected = made.features.summary[4:].astype(np.float32)
    np.testing.assert_array_equal(batch.seen["summary"][0], expected)


@pytest.mark.medium
@given(
    frames=st.lists(st.integers(1, 60), min_size=1, max_size=4), most=st.integers(16, 40),
    seed=st.none() | st.integers(0, 9),
)  # fmt: skip
def test_every_frame_is_learned_in_one_row(frames, most, seed):
    streams = [stream(Turn(0.0, "assistant", "A."), frames=count) for count in frames]
    rng = None if seed is None else np.random.default_rng(seed)
    seen = [(row.stream, at) for row in rows_of(streams, most, rng)
            for at in range(row.learned, row.end)]  # fmt: skip
    assert sorted(seen) == [(one, at) for one, count in enumerate(frames) for at in range(count)]
    for row in rows_of(streams, most, rng):
        assert 0 < row.end - row.learned <= most
        assert row.begin == max(0, row.learned - BURN_IN_FRAMES)


def test_batches_are_full_and_the_same_for_the_same_seed():
    streams = [stream(Turn(0.0, "assistant", "A."), frames=50) for _ in range(3)]
    options = {"epochs": 3, "rows": 4, "most_frames": 20}
    made = batches_of(streams, **options, seed=1)
    assert all(len(batch) == 4 for batch in made)
    assert made == batches_of(streams, **options, seed=1) != batches_of(streams, **options, seed=2)


@pytest.mark.medium
@settings(deadline=None, max_examples=10)
@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=3))
def test_a_batch_says_of_each_row_what_the_row_says_alone(counts):
    """Rows of other lengths beside it do not matter, nor does what fills it up."""
    shape = GateShape(dim=DIM, tokens=2, events=0, width=8, layers=1,
                      reads=("tokens", "summary", "motion", "query"), query_dim=3)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        watching = CognitionGate(shape).eval()
    streams = [stream(Turn(0.0, "user", "pans"), Turn(0.5, "assistant", "A."), frames=count + 3)
               for count in counts]  # fmt: skip
    rows = rows_of(streams, 99)
    both = told_of(watching, batch_of(rows, streams, shape.reads, 0.25)).logits
    for at, row in enumerate(rows):
        alone = told_of(watching, batch_of([row], streams, shape.reads, 0.25)).logits[0]
        assert (both[at, : len(alone)] - alone).abs().max() <= 1e-5


def test_what_fills_a_row_up_and_what_burns_in_teach_nothing():
    streams = [stream(Turn(0.0, "assistant", "A."), frames=count) for count in (60, 20)]
    rows = rows_of(streams, 40)
    batch = batch_of(rows, streams, ("summary",), 0.25)
    assert batch.query is None
    assert batch.learned.sum(1).tolist() == [40, 20, 20]
    assert not batch.learned[1, :BURN_IN_FRAMES].any() and not batch.learned[2, 20:].any()


def test_a_query_that_is_left_out_is_zeros():
    one = stream(Turn(0.0, "user", "pans"), Turn(0.5, "assistant", "A."))
    rows = rows_of([one, one], 99)
    batch = batch_of(rows, [one, one], ("summary", "query"), 0.25, [False, True])
    assert batch.query[0].any() and not batch.query[1].any()
    assert batch.dt_s[0].tolist() == pytest.approx([0.25] * 12)
