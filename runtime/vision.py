"""The encoder of a bundle: motion of every frame, tokens of those that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .block_matching import CELLS, PX_PER_POINT, REACH_POINTS
from .engine import Engine
from .engines.lane import Lanes
from .errors import EngineNotFinite, EngineUnusable
from .gate_change import ChangeRules, cut_score
from .manifest_values import FrameInput
from .motion import TIME_ROUNDING_S, MotionDetector, MotionState
from .motion_input import COLOURS, MAPS, vision_input
from .preprocess import SMALL_PX, fitted_picture, small_picture
from .values import Features, Float32, Frame, Load, Motion, UInt8

SMALL = (SMALL_PX, SMALL_PX)
REACH_PX = REACH_POINTS * PX_PER_POINT
CUT_RULES = ChangeRules()


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What the engine said of one frame.

    Attributes:
        time_s: of the frame, seconds.
        tokens: (tokens, dim) float32, read-only.
        summary: (dim,) float32 of unit length, read-only.
        is_still: the frame did not differ from the picture that it was compared with.
    """

    time_s: float
    tokens: Float32
    summary: Float32
    is_still: bool


@dataclass(frozen=True, slots=True, eq=False)
class VisionState:
    """All that a `VisionEncoder` carries from frame to frame.

    Attributes:
        motion: of its MotionDetector.
        encoded: the last frame that the engine saw; None before the first.
        moved_s: when the picture last moved, seconds; None where it has not.
        frames_since: frames since that one.
    """

    motion: MotionState
    encoded: Encoded | None
    moved_s: float | None = None
    frames_since: int = 0


class VisionEncoder:
    """Features of frames; a still one takes over tokens that are younger than a heartbeat.

    State: that of its MotionDetector, the tokens and summary of one frame, a time and a count; and
    how often it is to encode, which is no part of a snapshot.

    Args:
        engine: of the part `vision`: pixels → tokens (1, n, dim) and summary (1, dim).
        frame_input: how the pixels are made.
        lane: the engine runs as watch; scaling is done outside.
        heartbeat_s: a still scene is encoded again after this long, stream seconds: what changes
            too slowly for motion is seen after 2 s (a choice); 0 encodes every frame.
        settle_s: so long after the last movement every frame is encoded, stream seconds: that
            something has stopped is seen in the frames at rest.

    Raises:
        EngineUnusable: the graph takes or gives something else, or motion of another kind.
    """

    def __init__(
        self,
        engine: Engine,
        frame_input: FrameInput,
        lane: Lanes,
        *,
        heartbeat_s: float = 2.0,
        settle_s: float = 0.0,
    ) -> None:
        got = [spec.name for spec in engine.inputs]
        missing = sorted({"tokens", "summary"} - {spec.name for spec in engine.outputs})
        if got != ["pixels"] or missing:
            raise EngineUnusable(
                f"the vision graph takes {', '.join(got)} and lacks {missing or 'nothing'}; "
                "expected pixels in, tokens and summary out",
                hint="export the bundle again",
            )
        if not heartbeat_s >= 0:
            raise ValueError(f"heartbeat_s must be 0 or more, got {heartbeat_s}")
        if not settle_s >= 0:
            raise ValueError(f"settle_s must be 0 or more, got {settle_s}")
        _check_motion(frame_input)
        self._engine = engine
        self._frame_input = frame_input
        # The picture of stage 0 is squashed too: where the sizes are the same, so is the picture.
        is_squashed = frame_input.resize == "squash" and frame_input.filter in (None, "area")
        self._reads_small = is_squashed and frame_input.size_px == SMALL
        self._lane = lane
        self._heartbeat_s = heartbeat_s
        self._settle_s = settle_s
        self._motion = MotionDetector()
        self._encode_every = 1
        self.reset()

    def reset(self) -> None:
        """Start again: the next frame is a first frame."""
        self._motion.reset()
        self._encoded: Encoded | None = None
        self._moved_s: float | None = None
        self._frames_since = 0

    def carry(self, load: Load) -> None:
        """Encode as often as this load allows: the frames between keep the last tokens."""
        self._encode_every = load.encode_every

    def snapshot(self) -> VisionState:
        """The state, to be put back by `restore`."""
        return VisionState(
            self._motion.snapshot(), self._encoded, self._moved_s, self._frames_since
        )

    def restore(self, state: VisionState) -> None:
        """Continue from a state as if nothing had been between."""
        self._motion.restore(state.motion)
        self._encoded, self._moved_s = state.encoded, state.moved_s
        self._frames_since = state.frames_since

    def encode(self, frame: Frame) -> Features:
        """Features of the frame; `motion` is always its own, `is_fresh` says whose tokens they are.

        Returns:
            tokens (n, dim) and summary (dim,) float32, read-only: the very arrays of an earlier
            frame where they are taken over.

        Raises:
            EngineNotFinite: the engine gave a number that is no number.
            EngineFailed, DeviceMemoryExhausted: it broke off; the next frame is encoded anew.

        Cost: about 3 ms for 1280x720 on one core; where encoded, the scaling and the engine too.
        """
        small = small_picture(frame.pixels)
        motion = self._motion.step_small(small, frame.time_s)
        if not motion.is_still and not motion.is_first:
            self._moved_s = frame.time_s
        kept = self._encoded
        self._frames_since += 1
        is_spared = self._is_spared(motion)
        is_fresh = kept is None or not (is_spared or self._serves(kept, frame.time_s, motion))
        if kept is None or is_fresh:
            kept = self._encoded = self._run(frame, small, motion)
            self._frames_since = 0
        return Features(
            time_s=frame.time_s,
            tokens=kept.tokens,
            summary=kept.summary,
            motion=motion,
            is_still=motion.is_still,
            is_fresh=is_fresh,
            small=small,
        )

    def _serves(self, kept: Encoded, time_s: float, motion: Motion) -> bool:
        """Whether tokens of an earlier frame stand for this one.

        Fast streams are compared with a picture that is older than the frame before: if that one
        moved and the next is back, the next is still but not what was encoded.
        """
        age_s = time_s - kept.time_s
        compared_with_it = kept.is_still or motion.over_s <= age_s + TIME_ROUNDING_S
        is_young = age_s < self._heartbeat_s - TIME_ROUNDING_S
        return motion.is_still and compared_with_it and is_young and self._is_settled(time_s)

    def _is_spared(self, motion: Motion) -> bool:
        """Whether the load has this frame do with the last tokens; another scene never does."""
        is_early = self._frames_since < self._encode_every
        return is_early and cut_score(motion, CUT_RULES) < CUT_RULES.phases["cut"].open_above

    def _is_settled(self, time_s: float) -> bool:
        if self._moved_s is None or not self._settle_s:
            return True
        return time_s - self._moved_s > self._settle_s + TIME_ROUNDING_S

    def _run(self, frame: Frame, small: UInt8, motion: Motion) -> Encoded:
        self._encoded = None  # should the engine fail, the tokens of before stand for nothing now
        fitted = small if self._reads_small else fitted_picture(frame.pixels, self._frame_input)
        pixels = vision_input(fitted, motion.maps, self._frame_input)
        pixels = pixels.astype(self._engine.inputs[0].dtype, copy=False)
        with self._lane.watch():
            outputs = self._engine.run({"pixels": pixels})
        tokens = finite_rows("vision", "tokens", outputs["tokens"])
        summary = unit_length(finite_rows("vision", "summary", outputs["summary"]))
        return Encoded(frame.time_s, tokens, summary, motion.is_still)


def _check_motion(frame_input: FrameInput) -> None:
    """Raises EngineUnusable where the model wants motion that is not measured here."""
    motion = frame_input.motion
    if motion is None:
        return
    wanted = (motion.kind, motion.cells, motion.reach_px, motion.maps)
    measured = ("block", CELLS, REACH_PX, MAPS)
    channels = COLOURS + len(motion.maps)
    is_scaled = len(frame_input.mean or ()) == len(frame_input.std or ()) == channels
    if wanted != measured or frame_input.channels != channels or not is_scaled:
        raise EngineUnusable(
            f"the model reads {frame_input.channels} channels with the motion {wanted}; expected "
            f"{channels} with a mean and a std each, and the motion {measured}",
            hint="update edgestream, or export the bundle again",
        )


def finite_rows(part: str, name: str, output: NDArray[Any]) -> Float32:
    """The output of an engine for the one frame of its batch.

    Args:
        part, name: for the message.
        output: (1, ...) of any float type.

    Returns:
        (...) float32, read-only; no copy of a float32 output.

    Raises:
        EngineNotFinite: one of the numbers is none.
    """
    rows = np.asarray(output[0], np.float32)
    if not np.isfinite(rows).all():
        count = int(rows.size - np.isfinite(rows).sum())
        raise EngineNotFinite(
            f"{part}: {count} of {rows.size} numbers of {name} are not finite",
            hint="`edgestream verify` tells whether this device computes what the bundle promises",
        )
    rows.flags.writeable = False
    return rows


def unit_length(vector: Float32) -> Float32:
    """The vector at length 1, read-only; all zero stays so."""
    length = float(np.linalg.norm(vector))
    scaled = np.asarray(vector / np.float32(length) if length > 0 else vector, np.float32)
    scaled.flags.writeable = False
    return scaled
