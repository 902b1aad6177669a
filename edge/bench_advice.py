"""Which mode of the lane suits a device, out of what was measured in both. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LaneMode = Literal["shared", "split"]
EQUAL_WITHIN = 0.1
"""Speeds less than a tenth apart count as equal: so much differs from one run to the next."""
DROPS_APART = 0.05
"""Of the frames. So many more that are dropped are not made good by the others being quick."""
FEW_SAMPLES = 100
"""With fewer, a p99 is the slowest sample or the next, and another run has another."""


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """What one mode does under load.

    Attributes:
        frame_p99_ms: from when a frame is due until it is encoded, ms.
        frames: that were encoded: the samples of `frame_p99_ms`.
        dropped_share: of the frames, [0, 1].
        speech_share: speed of decoding, as a share of its speed alone.
    """

    frame_p99_ms: float
    frames: int
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


def advice(modes: Mapping[LaneMode, LaneFigures], *, fps: float, speak_share: float) -> Advice:
    """The mode to choose, and the costs of both.

    The rule: a mode in which speech is slower than its share has lost, unless it is so in both.
    Then a mode that drops 5 % of the frames more than the other has lost. Then, where both encode
    frames (p99) before the next one is due, the faster speech wins: a frame that is earlier still
    gains nothing. Where speech is less than a tenth apart, or frames are late, the lower p99 wins.

    Args:
        modes: figures of both.
        fps: at which frames came.
        speak_share: that speech is to keep at least of its speed alone (`engine.speak_share`).
    """
    lane, reason = _chosen(modes, 1e3 / fps, speak_share)
    return Advice(lane, f"{reason}. {_costs(modes)}")


def _chosen(
    modes: Mapping[LaneMode, LaneFigures], period_ms: float, speak_share: float
) -> tuple[LaneMode, str]:
    shared, split = modes["shared"], modes["split"]
    speaks = {name: one.speech_share >= speak_share for name, one in modes.items()}
    if speaks["shared"] != speaks["split"]:
        lane: LaneMode = "shared" if speaks["shared"] else "split"
        return lane, f"{_other(lane)} leaves speech less than the {speak_share:.0%} that it is due"
    if abs(shared.dropped_share - split.dropped_share) >= DROPS_APART:
        lane = "shared" if shared.dropped_share < split.dropped_share else "split"
        kept, lost = modes[lane].dropped_share, modes[_other(lane)].dropped_share
        return lane, f"{_other(lane)} drops {lost:.1%} of the frames, {lane} {kept:.1%}"
    sooner: LaneMode = "shared" if shared.frame_p99_ms <= split.frame_p99_ms else "split"
    if max(shared.frame_p99_ms, split.frame_p99_ms) >= period_ms:
        late = f"not both do so before the next one is due ({period_ms:.0f} ms)"
        return sooner, f"it encodes frames sooner, and {late}"
    if math.isclose(shared.speech_share, split.speech_share, rel_tol=EQUAL_WITHIN):
        return sooner, "speech is about as fast in both, and it encodes frames sooner"
    lane = "shared" if shared.speech_share > split.speech_share else "split"
    return lane, f"speech is faster, and both encode frames within the {period_ms:.0f} ms they have"


def _costs(modes: Mapping[LaneMode, LaneFigures]) -> str:
    shared, split = modes["shared"], modes["split"]
    frames = min(shared.frames, split.frames)
    few = f" (of few samples: n = {frames})" if frames < FEW_SAMPLES else ""
    return (
        f"p99 of frames{few}: shared {shared.frame_p99_ms:.0f} ms, split {split.frame_p99_ms:.0f} "
        f"ms; speech keeps {shared.speech_share:.0%} of its speed with shared, "
        f"{split.speech_share:.0%} with split"
    )


def _other(lane: LaneMode) -> LaneMode:
    return "split" if lane == "shared" else "shared"
