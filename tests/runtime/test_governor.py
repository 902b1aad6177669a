"""The governor: the order in which it gives way, and that it never swings to and fro."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.governor import LADDER, Governor, GovernorRules

RULES = GovernorRules()


class Device:
    """A live stream at the target rate on a device of given costs, and its governor.

    A frame takes what its load costs, or the time to the next frame where that is longer.
    """

    def __init__(self, target_fps, cost_s, source_fps=None):
        self.governor = Governor(target_fps)
        self.cost_s = cost_s
        self.fps = source_fps or target_fps
        self.now_s, self.frames, self.busy_s = 0.0, 0, 0.0
        self.changes = []

    def run(self, seconds):
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            before = self.governor.load
            cost_s = self.cost_s(before)
            self.now_s += max(cost_s, 1.0 / self.fps)
            self.busy_s += cost_s
            self.frames += 1
            load = self.governor.step(self.now_s, self.frames, self.busy_s)
            if load != before:
                self.changes.append((self.now_s, load.level))
        return self.governor.load.level


def costs(fixed, encoder, tokens=0.0, recall=0.0, times=1.0):
    """Cost of a frame, seconds: what every frame takes, and what each part of the ladder does."""
    return lambda load: (
        times
        * (
            fixed
            + encoder / load.encode_every
            + tokens * load.token_share
            + recall * load.recall_share
        )
    )


def settle(device):
    """Run as long as it may take to the last step: each is measured over some of the frames."""
    step_s = max(RULES.down_after_s, RULES.least_frames / device.fps) + device.cost_s(LADDER[0])
    return device.run((len(LADDER) + 2) * max(step_s, 6 * device.cost_s(LADDER[0])))


part = st.floats(0.0, 0.5)
parts = st.tuples(st.floats(0.001, 0.5), part, part, part)


def test_the_ladder_gives_up_encodings_then_tokens_then_recall():
    assert [one.level for one in LADDER] == list(range(len(LADDER)))
    for above, below in pairwise(LADDER):
        named = [name for name in ("encode_every", "token_share", "recall_share")
                 if getattr(above, name) != getattr(below, name)]  # fmt: skip
        assert len(named) == 1, "one thing at a time"
        assert below.encode_every >= above.encode_every
        assert below.token_share <= above.token_share
        assert below.recall_share <= above.recall_share
    assert [one.encode_every for one in LADDER[:4]] == [1, 2, 3, 4]
    assert LADDER[3].token_share == 1.0 and LADDER[5].recall_share == 1.0


def test_a_device_that_holds_the_target_does_everything():
    device = Device(4.0, costs(0.05, 0.15))
    assert device.run(120) == 0 and not device.changes
    assert device.governor.achieved_fps == pytest.approx(4.0)


def test_it_goes_down_a_step_at_a_time_until_the_target_is_held():
    device = Device(4.0, costs(0.05, 0.56))  # 0.61, 0.33, 0.237 s of 0.25
    assert device.run(60) == 2
    assert [level for _, level in device.changes] == [1, 2]
    (first_s, _), (second_s, _) = device.changes
    assert first_s >= RULES.down_after_s and second_s - first_s >= RULES.down_after_s
    assert device.governor.achieved_fps >= 0.95 * 4.0


def test_it_goes_up_again_when_there_is_room_and_not_before():
    device = Device(4.0, costs(0.02, 0.6))
    assert device.run(30) == 2
    since_s = device.now_s
    device.cost_s = costs(0.02, 0.34)
    assert device.run(120) == 2, "the step above is predicted to take 0.19 s, of 0.25 s"
    device.cost_s = costs(0.02, 0.1)
    since_s = device.now_s
    assert device.run(120) == 0
    times_s = [time_s for time_s, _ in device.changes if time_s > since_s]
    assert times_s[0] - since_s >= RULES.up_after_s
    assert times_s[1] - times_s[0] >= RULES.up_after_s


def test_a_slow_source_is_no_reason_to_give_anything_up():
    device = Device(8.0, costs(0.01, 0.02), source_fps=3.0)
    assert device.run(60) == 0
    assert device.governor.achieved_fps == pytest.approx(3.0)


@pytest.mark.medium
@given(parts, st.floats(0.5, 30.0))
def test_a_constant_cost_gives_finitely_many_changes_and_then_none(shares, target_fps):
    device = Device(target_fps, costs(*shares))
    settle(device)
    settled = list(device.changes)
    assert len(settled) < len(LADDER) and [lvl for _, lvl in settled] == sorted(
        lvl for _, lvl in settled
    )
    device.run(300)
    assert device.changes == settled


@given(parts, st.floats(0.5, 30.0), st.floats(1.0, 5.0))
def test_the_level_never_falls_where_the_cost_rises(shares, target_fps, times):
    cheap, dear = Device(target_fps, costs(*shares)), Device(target_fps, costs(*shares, times))
    assert settle(cheap) <= settle(dear)


@given(parts, st.floats(0.5, 30.0))
def test_where_it_rests_the_target_is_held_or_nothing_is_left_to_give(shares, target_fps):
    device = Device(target_fps, costs(*shares))
    level = settle(device)
    held = device.governor.achieved_fps >= RULES.held * target_fps * (1 - 1e-9)
    assert held or level == len(LADDER) - 1
    if level:
        above = Device(target_fps, lambda load: costs(*shares)(LADDER[level - 1]))
        above.run(30)
        assert above.governor.achieved_fps < RULES.held * target_fps, "no step too many"


@pytest.mark.medium
@settings(max_examples=50)
@given(st.lists(st.floats(0.001, 1.0), min_size=len(LADDER), max_size=len(LADDER)))
def test_whatever_the_steps_cost_a_failed_rise_is_tried_again_ever_more_rarely(some):
    """Also where a step costs more than it can by the ladder: something else is in play."""
    steps = sorted(some, reverse=True)
    device = Device(4.0, lambda load: steps[load.level])
    device.run(4000)
    rises = [now for (_, before), (now, level) in pairwise(device.changes) if level < before]
    assert len(rises) <= 10 + len(LADDER)
    gaps = [later - sooner for sooner, later in pairwise(rises)]
    assert gaps == sorted(gaps) or len(rises) <= len(LADDER)


def test_after_a_failed_rise_it_waits_twice_as_long():
    steps = [0.6] + [0.05] * (len(LADDER) - 1)  # the step up costs twelve times as much, not two
    device = Device(4.0, lambda load: steps[load.level])
    device.run(400)
    rises = [time_s for time_s, level in device.changes if level == 0]
    gaps = [later - sooner for sooner, later in pairwise(rises)]
    assert len(gaps) >= 3
    assert all(1.5 <= later / sooner <= 2.5 for sooner, later in pairwise(gaps))


def test_it_keeps_a_few_seconds_of_counts():
    device = Device(100.0, costs(0.001, 0.001))
    device.run(60)
    assert len(device.governor._counted) <= RULES.down_after_s * 100 + 2


def test_a_target_of_nothing_is_none():
    with pytest.raises(ValueError, match="more than 0"):
        Governor(0.0)
