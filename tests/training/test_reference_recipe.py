"""The recipe: clips of stages that never meet, budgets, steps as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world import frozen_set
from edgestream.training.gate_traces import held_out_seeds
from edgestream.training.reference_recipe import (
    CALIBRATION_SEEDS,
    SEEDS_A_RUN,
    STAGES,
    TRAINING_SEEDS,
    Budget,
    Recipe,
    budgets_of_minutes,
    steps_from_text,
    text_of_steps,
)


@pytest.mark.medium
@given(
    seed=st.integers(0, 10**6),
    stage=st.sampled_from(STAGES),
    number=st.integers(0, SEEDS_A_RUN - 1),
)
def test_clips_of_a_stage_are_its_own_and_for_training(seed, stage, number):
    clip = Recipe(seed=seed).clip_seed(stage, number)
    assert clip // SEEDS_A_RUN == STAGES.index(stage) and clip < TRAINING_SEEDS
    assert clip != Recipe(seed=seed).clip_seed(stage, (number + 1) % SEEDS_A_RUN)


def test_held_out_clips_are_neither_for_training_nor_frozen():
    seeds = held_out_seeds(1_000_000, 500)
    assert seeds[0] >= TRAINING_SEEDS and seeds[-1] < CALIBRATION_SEEDS <= frozen_set().first_seed


def test_budgets():
    budgets = budgets_of_minutes(Recipe(), 70)
    assert list(budgets) == list(STAGES)
    assert 0.9 * 70 * 60 < sum(one.seconds for one in budgets.values()) < 70 * 60
    assert Budget(seconds=10).progress(99, 5.0) == 0.5
    assert Budget(steps=10).progress(5, 99.0) == 0.5
    assert Budget().progress(0, 0.0) == 1.0  # nothing to do is done


@pytest.mark.medium
@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
def test_steps_are_read_as_they_are_written(counts):
    steps = dict(zip(STAGES, counts, strict=True))
    assert steps_from_text(text_of_steps(steps)) == steps


@pytest.mark.parametrize("text", ["", "vision", "vision=x", "sight=3", "-3", "vision=3;text=2"])
def test_other_steps_are_refused(text):
    with pytest.raises(ValueError):
        steps_from_text(text)


def test_a_number_alone_gives_every_stage_some_steps():
    assert min(steps_from_text("1").values()) == 1
