"""Batches for vision and gate: rendered clips as tensors, fresh ones at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.world import ATTRIBUTES, EVENT_TYPES, Clip, WorldRules, render_clip
from ..runtime.motion_input import MAP_STD, clip_maps

ATTRIBUTES_OF: Mapping[str, tuple[str, ...]] = {
    "pan": ("direction",),
    "zoom": ("direction",),
    "enter": ("colour", "side", "size"),
    "leave": ("colour", "side"),
    "start": ("colour", "direction"),
    "stop": ("colour",),
    "meet": ("colour",),
}
"""Event type → what its sentence says of it."""
IGNORED = -100
"""Target of an attribute at a frame where nobody asks for it."""
USUAL_DT_S, DT_RANGE_S = 0.25, (0.125, 0.5)
STILL_FLOW_PX, STILL_LEVEL = 0.3, 0.004
"""A frame with less displacement and less change of light than this may be taken as still."""


@dataclass(frozen=True, slots=True, eq=False)
class VisionBatch:
    """Clips of one length; B of them, of T frames.

    Attributes:
        colours: (B, T, 112, 112, 3) uint8 RGB.
        maps: (B, T, 6, 7, 7) float32, in their own units.
        dt_s: (B, T) float32, seconds since the frame before.
        source: (B, T) int64: the frame whose tokens the gate reads; an earlier one where still.
        speak: (B, T) float32, 0 or 1.
        events: (B, T, 14) float32, 0 or 1.
        attributes: name → (B, T) int64: value, one beyond for none of them, or IGNORED.
        patch_colour: (B, T, 49) int64.
        patch_moving: (B, T, 49) float32.
        count: (B, T) int64.
        scene: (B, T, 2) float32: dark, camera moves.
    """

    colours: Tensor
    maps: Tensor
    dt_s: Tensor
    source: Tensor
    speak: Tensor
    events: Tensor
    attributes: Mapping[str, Tensor]
    patch_colour: Tensor
    patch_moving: Tensor
    count: Tensor
    scene: Tensor

    def to(self, device: str) -> VisionBatch:
        """The same on a device."""
        if device == "cpu":
            return self
        moved: dict[str, Any] = {
            name: {key: one.to(device) for key, one in value.items()}
            if isinstance(value, Mapping)
            else value.to(device)
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        }
        return VisionBatch(**moved)


def rendered_batch(
    seeds: Sequence[int],
    frames: int,
    rules: WorldRules,
    *,
    reused: float = 0.0,
    other_rates: float = 0.0,
) -> VisionBatch:
    """The clips of some seeds; the same arguments, the same batch.

    Args:
        seeds: of the clips.
        frames: of each.
        rules: of the world.
        reused: share of clips in which still frames bring the tokens of an earlier frame.
        other_rates: share of clips whose frames are not 0.25 s apart.

    Cost: about 1.2 ms a frame.
    """
    clips = [render_clip(seed, frames, rules) for seed in seeds]
    pixels = [clip.pixels for clip in clips if clip.pixels is not None]
    maps = np.stack([clip_maps(one) for one in pixels])
    rngs = [np.random.default_rng([seed, 17]) for seed in seeds]
    intervals = [_interval(rng, other_rates) for rng in rngs]
    sources = [
        _sources(clip, maps[at], rngs[at]) if rngs[at].random() < reused else np.arange(frames)
        for at, clip in enumerate(clips)
    ]
    labels = [clip.labels for clip in clips]
    return VisionBatch(
        colours=torch.from_numpy(np.stack(pixels)),
        maps=torch.from_numpy(maps),
        dt_s=torch.tensor(intervals, dtype=torch.float32)[:, None].expand(-1, frames),
        source=torch.from_numpy(np.stack(sources)),
        speak=_floats([one.speak for one in labels]),
        events=_floats([one.events for one in labels]),
        attributes=attribute_targets(labels_of_clips(clips)),
        patch_colour=torch.from_numpy(
            np.stack([one.patch_colour for one in labels]).astype(np.int64)
        ).flatten(2),
        patch_moving=_floats([one.patch_moving for one in labels]).flatten(2),
        count=torch.from_numpy(np.stack([one.count for one in labels]).astype(np.int64)),
        scene=_floats([np.stack([one.is_dark, one.camera_moves], -1) for one in labels]),
    )


def labels_of_clips(
    clips: Sequence[Clip],
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.int64]]]:
    """(B, T, 14) bool events, and attribute → (B, T) int64 values, -1 for none."""
    events = np.stack([clip.labels.events for clip in clips])
    values = {
        name: np.stack([clip.labels.attributes[name] for clip in clips]).astype(np.int64)
        for name in ATTRIBUTES
    }
    return events, values


def attribute_targets(
    labels: tuple[NDArray[np.bool_], dict[str, NDArray[np.int64]]],
) -> dict[str, Tensor]:
    """What the heads of the gate are to say, at event frames and the frame after.

    A gate may open a frame late; what happened is then the same.
    """
    events, values = labels
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        asked = [name in ATTRIBUTES_OF.get(kind, ()) for kind in EVENT_TYPES]
        is_asked = events[..., asked].any(-1)
        target = np.where(is_asked, np.where(value < 0, len(ATTRIBUTES[name]), value), IGNORED)
        late: NDArray[np.bool_] = np.logical_not(events.any(-1))
        late[:, 0] = False
        before = np.roll(target, 1, axis=1)
        found[name] = torch.from_numpy(np.where(late, before, target))
    return found


def scaled_maps(maps: Tensor) -> Tensor:
    """Motion maps as vision reads them: divided by their declared scales."""
    scale = torch.tensor(MAP_STD, dtype=maps.dtype, device=maps.device)
    return maps / scale[:, None, None]


def _interval(rng: np.random.Generator, other_rates: float) -> float:
    if rng.random() >= other_rates:
        return USUAL_DT_S
    low, high = np.log(DT_RANGE_S)
    return float(np.exp(rng.uniform(low, high)))


def _sources(clip: Clip, maps: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Which frame's tokens each frame brings, where about half of the still ones are not encoded.

    At most 8 frames in a row, as the device's heartbeat of 2 s has it.
    """
    moves = np.abs(maps[:, :2]).max((1, 2, 3)) > STILL_FLOW_PX
    lights = np.abs(maps[:, 4:]).max((1, 2, 3)) > STILL_LEVEL
    labels = clip.labels
    told = labels.speak | labels.camera_moves | labels.patch_moving.any((1, 2))
    still = ~(moves | lights | told) & (rng.random(len(told)) < 0.7)
    source = np.arange(len(told))
    for frame in range(1, len(told)):
        if still[frame] and frame - source[frame - 1] < 8:
            source[frame] = source[frame - 1]
    return source


def _floats(parts: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(parts).astype(np.float32))
