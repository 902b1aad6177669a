"""The governor: what is left out, step by step, where a device cannot hold the rate aimed at.

How to think about it: a ladder of loads, each lighter than the one above. Too few frames a second
for a while, and it goes one step down. It goes up only where the costs that were measured say that
the step above fits with room to spare, and waits twice as long after it was wrong. It reads no
clock: time and costs are handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What is done for each frame and each answer.

    Attributes:
        level: steps down the ladder; 0: everything.
        encode_every: the encoder runs on every so-manieth frame at most; the frames between get
            stage 0 and the gate, with the last tokens.
        token_share: of a frame's tokens that the language model reads; neighbours are averaged.
        recall_share: of the remembered frames that a question is shown.
    """

    level: int = 0
    encode_every: int = 1
    token_share: float = 1.0
    recall_share: float = 1.0


LADDER = (
    Load(0),
    Load(1, 2),
    Load(2, 3),
    Load(3, 4),
    Load(4, 4, 0.5),
    Load(5, 4, 0.25),
    Load(6, 4, 0.25, 0.5),
    Load(7, 4, 0.25, 0.25),
)
"""What is given up, in this order: encodings, then tokens, then recall. Frames between two
encodings still have their motion, so the first three steps cost the events least."""


@dataclass(frozen=True, slots=True)
class GovernorRules:
    """When the load changes.

    Attributes:
        held: share of the target under which it is not held: a frame in twenty may be late.
        down_after_s: so long it is not held before a step down, seconds.
        room: share of the time between two frames that the step above may take, as predicted.
        up_after_s: so long there is room before a step up, seconds; doubled after a failed one.
        longest_up_s: what that grows to at most, seconds.
        least_frames: a rate is measured over so many frames at least.
    """

    held: float = 0.95
    down_after_s: float = 2.0
    room: float = 0.7
    up_after_s: float = 10.0
    longest_up_s: float = 3600.0
    least_frames: int = 4


class Governor:
    """Decides the load of a run; see `GovernorRules`.

    State: the level, what each step costs against the one below it, and the counts of the last
    seconds, at most a few a frame.

    Args:
        target_fps: frames a second to hold.
        rules: when the load changes.
    """

    def __init__(self, target_fps: float, rules: GovernorRules | None = None) -> None:
        if not target_fps > 0:
            raise ValueError(f"target_fps must be more than 0, got {target_fps}")
        self.target_fps, self.rules = target_fps, rules or GovernorRules()
        self._level = 0
        self._patience_s = self.rules.up_after_s
        self._rose_s: float | None = None
        self._room_since_s: float | None = None
        self._counted: deque[tuple[float, int, float]] = deque()
        # Cost of a level over that of the next. Before it is measured it is taken for the most that
        # it can be: all cost is in the part that the step cuts.
        self._ratios = [_most_ratio(level) for level in range(len(LADDER) - 1)]
        self._left_cost_s: float | None = None
        self.achieved_fps = 0.0
        """Frames a second over the last seconds; 0 before it is known."""

    @property
    def load(self) -> Load:
        """What is done now."""
        return LADDER[self._level]

    def step(self, now_s: float, frames: int, busy_s: float) -> Load:
        """What is to be done from now on; called after each frame.

        Args:
            now_s: time on a clock that never goes back, seconds.
            frames: watched so far.
            busy_s: time that watching them took, in all, seconds.
        """
        self._counted.append((now_s, frames, busy_s))
        since_s, since_frames, since_busy_s = self._first_of_window(now_s, frames)
        took_s, seen = now_s - since_s, frames - since_frames
        if took_s < self.rules.down_after_s or seen < self.rules.least_frames:
            return self.load
        self.achieved_fps = seen / took_s
        self._decide(now_s, (busy_s - since_busy_s) / seen)
        return self.load

    def _first_of_window(self, now_s: float, frames: int) -> tuple[float, int, float]:
        """The newest count that is old enough for a rate; older ones are let go."""
        counted, rules = self._counted, self.rules
        while len(counted) > 1 and (
            now_s - counted[1][0] >= rules.down_after_s
            and frames - counted[1][1] >= rules.least_frames
        ):
            counted.popleft()
        return counted[0]

    def _decide(self, now_s: float, cost_s: float) -> None:
        rules, budget_s = self.rules, 1.0 / self.target_fps
        self._learn(cost_s)
        # A slow source is no reason: only where the work fills the time is there less to be done.
        is_full = cost_s > rules.room * budget_s
        if self.achieved_fps < rules.held * self.target_fps and is_full:
            if self._level < len(LADDER) - 1:
                self._go_down(now_s, cost_s)
            return
        has_room = self._level > 0 and (
            cost_s * self._ratios[self._level - 1] < rules.room * budget_s
        )
        if not has_room:
            self._room_since_s = None
        elif self._room_since_s is None:
            self._room_since_s = now_s
        elif now_s - self._room_since_s >= self._patience_s:
            self._go_up(now_s)

    def _learn(self, cost_s: float) -> None:
        """After a step down: what the step above costs against this one."""
        if self._left_cost_s is not None and cost_s > 0:
            level = self._level - 1
            # More than it can be is something else that took the device meanwhile.
            self._ratios[level] = min(max(1.0, self._left_cost_s / cost_s), _most_ratio(level))
        self._left_cost_s = None

    def _go_down(self, now_s: float, cost_s: float) -> None:
        if self._rose_s is not None and now_s - self._rose_s < self._patience_s:
            self._patience_s = min(2 * self._patience_s, self.rules.longest_up_s)
        self._rose_s, self._left_cost_s = None, cost_s
        self._change(now_s, self._level + 1)

    def _go_up(self, now_s: float) -> None:
        if self._rose_s is not None:  # the step before this one has held
            self._patience_s = self.rules.up_after_s
        self._rose_s = now_s
        self._change(now_s, self._level - 1)

    def _change(self, now_s: float, level: int) -> None:
        self._level, self._room_since_s = level, None
        last = self._counted[-1]
        self._counted.clear()
        self._counted.append(last)  # what was counted before is of another load


def _most_ratio(level: int) -> float:
    """The most that a level can cost, over what the next one does."""
    now, below = LADDER[level], LADDER[level + 1]
    return max(
        below.encode_every / now.encode_every,
        now.token_share / below.token_share,
        now.recall_share / below.recall_share,
    )
