"""The `change` gate: cuts, lights, pans and movement from stage 0 alone, without any model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from .phases import PhaseRules, Phases, PhasesState
from .values import Features, GateDecision, Motion

CHANGE_EVENTS = ("cut", "dark", "bright", "motion", "pan")
PALETTE_WEIGHT = 0.25
"""How much colours count against content found again: crops of one clip share their colours."""
MOST_FRAMES = 64
"""Frames that a window may hold: 1 s at 60 frames/s."""


def _default_phases() -> dict[str, PhaseRules]:
    return {
        "cut": PhaseRules(0.5),
        "dark": PhaseRules(0.5),
        "bright": PhaseRules(0.5),
        "motion": PhaseRules(0.5, hold_s=1.0),
        "pan": PhaseRules(0.5, hold_s=0.25),
    }


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """What counts as an event. A score is linear in its measure and 0.5 at its threshold.

    Attributes:
        cut_kept: what is kept of a picture (share found again, and a quarter of the share of colour
            that stayed) under which it is a cut. 300 cuts between crops of real clips keep at most
            0.34 (the next 0.28), 93 % of 187 jumps of zoom less than 0.33; of 360 pairs of crops
            that a mover fills, one keeps 0.33 at 4 frames/s, the others 0.40 and more.
        cut_recognisable: share of the picture that must have texture to tell a cut at all.
        light_stops: change of light that is an event, stops. 0.4 is a quarter less or a third
            more; exposure drift of 10 % is 0.14.
        light_window_s: time in which light must change so much, seconds; slower is dusk.
        light_share: share of the picture that a change of light must hold for; a shadow is no dusk.
        pan_px: displacement of the picture that is a pan, px of 112: 4.5 % of its side, about
            twice the sway of a hand.
        pan_window_s: time in which the camera must turn so far, seconds.
        pan_px_per_s: speed below which the camera has stopped, px of 112 a second.
        moving: share of the picture that must move by itself: 0.012 is two to three blocks of 8 px.
        moving_per_px: added to that for each px of 112 that the camera turned since the last frame:
            what is sampled anew at parts of a pixel is no movement.
        moving_per_stop: added to that for each stop of light since the last frame: lights
            fall unevenly.
        moving_most: no more is asked for, however the camera turns, share of the picture.
        phases: rules per event type; motion holds on for 1 s, so that a short rest is no new event.
    """

    cut_kept: float = 0.33
    cut_recognisable: float = 0.2
    light_stops: float = 0.4
    light_window_s: float = 1.0
    light_share: float = 0.4
    pan_px: float = 5.0
    pan_window_s: float = 1.0
    pan_px_per_s: float = 3.0
    moving: float = 0.012
    moving_per_px: float = 0.06
    moving_per_stop: float = 0.5
    moving_most: float = 0.25
    phases: Mapping[str, PhaseRules] = field(default_factory=_default_phases)


@dataclass(frozen=True, slots=True)
class ChangeState:
    """All that a `ChangeGate` carries from step to step.

    Attributes:
        light: (time, seconds; sum of all changes of light so far, stops) of the last second.
        shift: (time, seconds; right, px; down, px) of the last second.
        phases: of the phase machine.
    """

    light: tuple[tuple[float, float], ...]
    shift: tuple[tuple[float, float, float], ...]
    phases: PhasesState


class ChangeGate:
    """Scores the changes that need no model and turns them into events.

    Args:
        rules: thresholds, each with its unit and reason.
    """

    def __init__(self, rules: ChangeRules | None = None) -> None:
        self.rules = rules or ChangeRules()
        self._phases = Phases({name: self.rules.phases[name] for name in CHANGE_EVENTS})
        self.reset()

    def reset(self) -> None:
        """Starts again as if no frame had been seen."""
        self._light: deque[tuple[float, float]] = deque(maxlen=MOST_FRAMES)
        self._shift: deque[tuple[float, float, float]] = deque(maxlen=MOST_FRAMES)
        self._phases.reset()

    def snapshot(self) -> ChangeState:
        """The state, to be put back by `restore`."""
        return ChangeState(tuple(self._light), tuple(self._shift), self._phases.snapshot())

    def restore(self, state: ChangeState) -> None:
        """Continues from a state as if nothing had been between."""
        self._phases.restore(state.phases)
        self._light = deque(state.light, maxlen=MOST_FRAMES)
        self._shift = deque(state.shift, maxlen=MOST_FRAMES)

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """Events at one frame.

        Args:
            features: of the frame; only time_s and motion are read.
            dt_s: seconds since the frame before; None for a first frame.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
        """
        time_s, motion = features.time_s, features.motion
        cut = self._cut_score(motion)
        if motion.is_first or cut >= self.rules.phases["cut"].open_above:
            self._light.clear()
            self._shift.clear()
            self._light.append((time_s, 0.0))
            return self._phases.step(time_s, {**dict.fromkeys(CHANGE_EVENTS, 0.0), "cut": cut})
        dark, bright = self._light_scores(time_s, motion)
        moving = self._motion_score(motion)
        pan, direction = self._pan_score(time_s, motion, dt_s)
        scores = {"cut": cut, "dark": dark, "bright": bright, "motion": moving, "pan": pan}
        return self._phases.step(time_s, scores, {"pan": {"direction": direction}})

    def idle(self, time_s: float) -> GateDecision:
        """Time-outs at a tick without a frame."""
        return self._phases.idle(time_s)

    def _cut_score(self, motion: Motion) -> float:
        if motion.is_first or motion.recognisable < self.rules.cut_recognisable:
            return 0.0
        kept = motion.found + PALETTE_WEIGHT * motion.palette
        return max(0.0, 1.0 - kept / (2 * self.rules.cut_kept))

    def _light_scores(self, time_s: float, motion: Motion) -> tuple[float, float]:
        """How far below the brightest and above the darkest of the last second the light is now."""
        before = self._light[-1][1] if self._light else 0.0
        stops = motion.light_stops if motion.light_share >= self.rules.light_share else 0.0
        now = before + stops
        self._light.append((time_s, now))
        while self._light[0][0] < time_s - self.rules.light_window_s - 1e-6:
            self._light.popleft()
        levels = [level for _, level in self._light]
        whole = 2 * self.rules.light_stops
        return min(1.0, (max(levels) - now) / whole), min(1.0, (now - min(levels)) / whole)

    def _pan_score(self, time_s: float, motion: Motion, dt_s: float | None) -> tuple[float, str]:
        """How far the picture has shifted one way within the window, and where the camera turns."""
        right, down = motion.shift_px
        net_right, net_down = self._net_shift()
        if right * net_right + down * net_down < 0:
            self._shift.clear()  # it turned back: sway, or a new pan
        self._shift.append((time_s, right, down))
        while self._shift[0][0] <= time_s - self.rules.pan_window_s:
            self._shift.popleft()
        net_right, net_down = self._net_shift()
        if abs(net_right) >= abs(net_down):
            direction = "left" if net_right > 0 else "right"
        else:
            direction = "up" if net_down > 0 else "down"
        if math.hypot(right, down) < self.rules.pan_px_per_s * (dt_s or 0.0):
            return 0.0, direction
        is_open = self._phases.open_event("pan")
        if is_open is not None and is_open.attributes["direction"] != direction:
            return 0.0, direction  # the old pan has to close before the new one can open
        return min(1.0, math.hypot(net_right, net_down) / (2 * self.rules.pan_px)), direction

    def _net_shift(self) -> tuple[float, float]:
        return sum(right for _, right, _ in self._shift), sum(down for _, _, down in self._shift)

    def _motion_score(self, motion: Motion) -> float:
        rules = self.rules
        # A camera that comes to rest within this frame turns too little to be found out.
        last_px = math.hypot(*self._shift[-1][1:]) if self._shift else 0.0
        threshold = (
            rules.moving
            + rules.moving_per_px * max(math.hypot(*motion.shift_px), last_px)
            + rules.moving_per_stop * abs(motion.light_stops)
        )
        return min(1.0, motion.moving / (2 * min(threshold, rules.moving_most)))
