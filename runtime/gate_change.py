"""The `change` gate: cuts, lights, pans and movement from stage 0 alone, without any model.

What it cannot tell, measured: a slow dissolve is nothing; a fade to another room by way of black is
`dark`, then `bright`; a zoom is `motion`, and so is something that only appears, for one frame; a
wipe is `motion`; a whip pan by three quarters of the width in 0.25 s is a `cut`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from .phases import TIME_TOLERANCE_S, PhaseRules, Phases, PhasesState
from .values import Features, GateDecision, Motion

CHANGE_EVENTS = ("cut", "dark", "bright", "motion", "pan")
PALETTE_WEIGHT = 0.25
"""How much colours count against content found again: crops of one clip share their colours."""
MOST_FRAMES = 16
"""Frames that a window of 1 s holds at most: stage 0 compares 8 pictures a second, not more."""
FLICKERS, FLICKER_S = 3, 6.0
"""A third darkening within 6 s is the last one told until the light was steady for 3 s."""


def _default_phases() -> dict[str, PhaseRules]:
    return {
        "cut": PhaseRules(0.5),
        "dark": PhaseRules(0.5, flickers=FLICKERS, flicker_s=FLICKER_S),
        "bright": PhaseRules(0.5, flickers=FLICKERS, flicker_s=FLICKER_S),
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
        moving_per_px: added to that for each px of 112 that the camera turned between the pictures
            compared: what is sampled anew at parts of a pixel is no movement.
        moving_per_stop: added to that for each stop of light between them: lights fall unevenly.
        moving_most: no more is asked for, however the camera turns, share of the picture.
        undecided: share of the picture that follows a camera that turned a moment ago, from which
            it may be turning still: then moving_most is asked for.
        phases: rules per event type; motion holds on for 1 s, so that a short rest is no new event;
            dark and bright stay open while the light flickers.
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
    moving_most: float = 0.35
    undecided: float = 0.3
    phases: Mapping[str, PhaseRules] = field(default_factory=_default_phases)


@dataclass(frozen=True, slots=True)
class Summed:
    """Where light and camera stand at one frame, all changes since the last cut added up.

    Attributes:
        time_s: of the frame, seconds.
        stops: of light.
        right: displacement of the content, px of 112.
        down: the same.
        turned_px: displacement between the two pictures compared at this frame, px of 112.
    """

    time_s: float
    stops: float = 0.0
    right: float = 0.0
    down: float = 0.0
    turned_px: float = 0.0


@dataclass(frozen=True, slots=True)
class ChangeState:
    """All that a `ChangeGate` carries from step to step.

    Attributes:
        track: the last second or so, oldest first, without frames that are `is_between`.
        scores: at the last of those frames.
        pan_from_s: where the camera last began to turn another way, seconds.
        phases: of the phase machine.
    """

    track: tuple[Summed, ...]
    scores: Mapping[str, float]
    pan_from_s: float
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
        self._track: deque[Summed] = deque(maxlen=MOST_FRAMES)
        self._scores: Mapping[str, float] = dict.fromkeys(CHANGE_EVENTS, 0.0)
        self._pan_from_s = 0.0
        self._phases.reset()

    def snapshot(self) -> ChangeState:
        """The state, to be put back by `restore`."""
        track, phases = tuple(self._track), self._phases.snapshot()
        return ChangeState(track, self._scores, self._pan_from_s, phases)

    def restore(self, state: ChangeState) -> None:
        """Continues from a state as if nothing had been between."""
        self._phases.restore(state.phases)
        self._track = deque(state.track, maxlen=MOST_FRAMES)
        self._scores, self._pan_from_s = state.scores, state.pan_from_s

    def step(self, features: Features, dt_s: float | None = None) -> GateDecision:
        """Events at one frame.

        Args:
            features: of the frame; only time_s and motion are read.
            dt_s: not read: the motion says which time it is over.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
        """
        time_s, motion = features.time_s, features.motion
        cut = cut_score(motion, self.rules)
        before = self._at(time_s - motion.over_s)
        attributes: dict[str, dict[str, str]] = {}
        if before is None and self._track:
            # The other picture is older than the last cut: it says nothing about this scene.
            if not motion.is_between:
                self._track.append(Summed(time_s))
        elif motion.is_first or cut >= self.rules.phases["cut"].open_above:
            self._scores, self._pan_from_s = dict.fromkeys(CHANGE_EVENTS, 0.0), time_s
            self._track.clear()
            self._track.append(Summed(time_s))
        elif not motion.is_between:
            self._scores, direction = self._changes(time_s, motion, before or Summed(time_s))
            attributes = {"pan": {"direction": direction}}
        return self._phases.step(time_s, {**self._scores, "cut": cut}, attributes)

    def idle(self, time_s: float) -> GateDecision:
        """Time-outs at a tick without a frame."""
        return self._phases.idle(time_s)

    def _at(self, time_s: float) -> Summed | None:
        """Where things stood at a time; None before the last cut."""
        older = (at for at in reversed(self._track) if at.time_s <= time_s + TIME_TOLERANCE_S)
        return next(older, None)

    def _changes(
        self, time_s: float, motion: Motion, before: Summed
    ) -> tuple[dict[str, float], str]:
        """Scores of all that is no cut, and where the camera turns."""
        rules, (right, down) = self.rules, motion.shift_px
        moving = self._motion_score(motion, before)
        stops = motion.light_stops if motion.light_share >= rules.light_share else 0.0
        now = Summed(
            time_s,
            before.stops + stops,
            before.right + right,
            before.down + down,
            math.hypot(right, down),
        )
        begin = self._pan_begin(before.time_s)
        if right * (before.right - begin.right) + down * (before.down - begin.down) < 0:
            self._pan_from_s = before.time_s  # it turned back: sway, or a new pan
        self._track.append(now)
        window_s = max(rules.light_window_s, rules.pan_window_s)
        while len(self._track) > 1 and self._track[1].time_s <= time_s - window_s:
            self._track.popleft()
        dark, bright = self._light_scores(now)
        pan, direction = self._pan_score(now, time_s - before.time_s)
        return {"dark": dark, "bright": bright, "motion": moving, "pan": pan}, direction

    def _light_scores(self, now: Summed) -> tuple[float, float]:
        """How far below the brightest and above the darkest of the last second the light is now."""
        since_s = now.time_s - self.rules.light_window_s - TIME_TOLERANCE_S
        levels = [at.stops for at in self._track if at.time_s >= since_s]
        whole = 2 * self.rules.light_stops
        return (
            min(1.0, (max(levels) - now.stops) / whole),
            min(1.0, (now.stops - min(levels)) / whole),
        )

    def _pan_begin(self, time_s: float) -> Summed:
        """Where the camera stood when the window began that ends at a time."""
        begin_s = max(time_s - self.rules.pan_window_s, self._pan_from_s)
        return self._at(begin_s) or (self._track[0] if self._track else Summed(time_s))

    def _pan_score(self, now: Summed, over_s: float) -> tuple[float, str]:
        """How far the picture has shifted one way within the window, and where the camera turns."""
        begin = self._pan_begin(now.time_s)
        right, down = now.right - begin.right, now.down - begin.down
        if abs(right) >= abs(down):
            direction = "left" if right > 0 else "right"
        else:
            direction = "up" if down > 0 else "down"
        if now.turned_px < self.rules.pan_px_per_s * over_s:
            return 0.0, direction
        is_open = self._phases.open_event("pan")
        if is_open is not None and is_open.attributes["direction"] != direction:
            return 0.0, direction  # the old pan has to close before the new one can open
        return min(1.0, math.hypot(right, down) / (2 * self.rules.pan_px)), direction

    def _motion_score(self, motion: Motion, before: Summed) -> float:
        rules, turned_px = self.rules, math.hypot(*motion.shift_px)
        if before.turned_px and not turned_px and motion.agreement >= rules.undecided:
            return min(1.0, motion.moving / (2 * rules.moving_most))
        # A camera that comes to rest within this time turns too little to be found out.
        threshold = (
            rules.moving
            + rules.moving_per_px * max(turned_px, before.turned_px)
            + rules.moving_per_stop * abs(motion.light_stops)
        )
        return min(1.0, motion.moving / (2 * min(threshold, rules.moving_most)))


def cut_score(motion: Motion, rules: ChangeRules) -> float:
    """How much a picture is another scene than the one before, [0, 1]; 0.5 and more is a cut."""
    if motion.is_first or motion.recognisable < rules.cut_recognisable:
        return 0.0
    kept = motion.found + PALETTE_WEIGHT * motion.palette
    return max(0.0, 1.0 - kept / (2 * rules.cut_kept))
