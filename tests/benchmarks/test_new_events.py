"""The clips of `adapt_reference.py`: colours turn where it can be told, and no word lies."""

from __future__ import annotations

import new_events
import numpy as np
import pytest
from new_events import ALONE, EVENTS, FIRST_TURN, FRAMES, LAST_TURN, LIES, turns_of

from edgestream.evaluation.world import WorldRules, render_clip

SENTENCE = EVENTS["red"].sentence


@pytest.mark.parametrize("seed", range(6))
def test_colours_turn_alone_and_in_a_picture_that_is_not_black(seed):
    clip = render_clip(seed, FRAMES, WorldRules(looks=6))
    turned = new_events._begins(clip, np.random.default_rng(seed))
    if turned == FRAMES:
        return
    assert FIRST_TURN <= turned < LAST_TURN
    near = clip.narration[turned - ALONE : turned + ALONE + 1]
    assert not any(near) and clip.pixels[turned].std() > 20


@pytest.mark.parametrize("seed", range(6))
def test_of_turned_colours_nothing_is_learned_that_is_not_true(seed):
    clip = render_clip(seed, FRAMES, WorldRules(looks=6), pixels=False)
    turned = 12
    turns = turns_of(clip, turned, SENTENCE)
    assert [turn.time_s for turn in turns if turn.text == SENTENCE] == [3.0]
    for turn in turns:
        told = " ".join(clip.narration[int(4 * turn.time_s)])
        if turn.time_s < 3.0:
            assert turn.learn and turn.text == told
        elif turn.time_s > 3.0 and turn.learn:
            assert not any(word in turn.text for word in LIES) and turn.text in told
    never = turns_of(clip, FRAMES, SENTENCE)
    assert all(turn.learn and turn.text != SENTENCE for turn in never)
    assert len(never) == sum(bool(told) for told in clip.narration)
