"""Which mode of the lane suits a device, out of what was measured in both. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LaneMode = Literal["shared", "split"]
EQUAL_WITHIN = 0.1
"""Times less than a tenth apart count as equal: so much differs from one run to the next."""
DROPS_APART = 0.05
"""Of the frames. So many more that are dropped are not made good by the others being quick."""


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """What one mode does under load.

    Attributes:
        frame_p99_ms: from when a frame is due until it is encoded, ms.
        dropped_share: of the frames, [0, 1].
        speech_share: speed of decoding, as a share of its speed alone.
    """

    frame_p99_ms: float
    dropped_share: float
    speech_share: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What to set, and why."""

    lane: LaneMode
    why: str

    @property
    def setting(self) -> str:
        """As `--set` takes it."""
        return f"engine.lane={self.lane}"

    def as_json(self) -> dict[str, Any]:
        """`advice` in the result line."""
        return {"setting": self.setting, "why": self.why}


def advice(modes: Mapping[LaneMode, LaneFigures], speak_share: float) -> Advice:
    """The mode to choose.

    The rule: a mode in which speech is slower than its share has lost, unless it is so in both.
    Then a mode that drops 5 % of the frames more than the other has lost. Then the lower p99 of the
    frames wins; where the two are less than a tenth apart, the faster speech.

    Args:
        modes: figures of both.
        speak_share: that speech is to keep at least of its speed alone (`engine.speak_share`).
    """
    shared, split = modes["shared"], modes["split"]
    speaks = {name: one.speech_share >= speak_share for name, one in modes.items()}
    if speaks["shared"] != speaks["split"]:
        lane: LaneMode = "shared" if speaks["shared"] else "split"
        slow = modes[_other(lane)]
        return Advice(
            lane,
            f"with {_other(lane)} speech keeps {slow.speech_share:.0%} of its speed, less than the "
            f"{speak_share:.0%} that it is due",
        )
    drops = {name: one.dropped_share for name, one in modes.items()}
    if abs(drops["shared"] - drops["split"]) >= DROPS_APART:
        lane = "shared" if drops["shared"] < drops["split"] else "split"
        return Advice(
            lane,
            f"it drops {drops[lane]:.1%} of the frames, {_other(lane)} {drops[_other(lane)]:.1%}",
        )
    if math.isclose(shared.frame_p99_ms, split.frame_p99_ms, rel_tol=EQUAL_WITHIN):
        lane = "split" if split.speech_share > shared.speech_share else "shared"
        return Advice(
            lane,
            f"frames are encoded equally soon, and speech keeps {modes[lane].speech_share:.0%} of "
            f"its speed against {modes[_other(lane)].speech_share:.0%}",
        )
    lane = "shared" if shared.frame_p99_ms < split.frame_p99_ms else "split"
    return Advice(
        lane,
        f"frames are encoded within {modes[lane].frame_p99_ms:.0f} ms (p99), with {_other(lane)} "
        f"within {modes[_other(lane)].frame_p99_ms:.0f} ms",
    )


def _other(lane: LaneMode) -> LaneMode:
    return "split" if lane == "shared" else "shared"
