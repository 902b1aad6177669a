"""The state of the memory as plain arrays and plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..array_file import ArrayPieces, Saved
from ..recent import DialogueTurn, RecentView
from .clustering import Cluster, unit_rows
from .key_frame import KeyFrame

Arrays = Mapping[str, Saved]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryState:
    """Everything a memory needs to continue as if nothing had been between.

    Attributes:
        arrays: numbers, by name; the large ones in pieces, which are those of the memory itself, so
            that taking a state copies nothing that is large.
        fields: what JSON can write.
    """

    arrays: Arrays
    fields: Mapping[str, Any]


def flat_arrays(
    name: str, arrays: Sequence[NDArray[Any]], dtype: type[np.generic]
) -> dict[str, Saved]:
    """Arrays of any shapes as one: `name` has the numbers, `name_shapes` a row of lengths each.

    Args:
        name: of the one array.
        arrays: none of them may change later.
        dtype: of each of them.
    """
    axes = max((array.ndim for array in arrays), default=1)
    shapes = np.array([(*a.shape, *[-1] * (axes - a.ndim)) for a in arrays], np.int64)
    return {
        name: ArrayPieces(tuple(arrays), np.dtype(dtype)),
        f"{name}_shapes": shapes.reshape(len(arrays), axes),
    }


def arrays_of(name: str, arrays: Arrays) -> list[NDArray[Any]]:
    """What `flat_arrays` took, each in memory of its own, read-only."""
    made, start, flat = [], 0, np.asarray(arrays[name])
    for row in np.asarray(arrays[f"{name}_shapes"]):
        shape = tuple(int(length) for length in row if length >= 0)
        end = start + int(np.prod(shape, dtype=np.int64))
        array = flat[start:end].reshape(shape).copy()
        array.flags.writeable = False
        made.append(array)
        start = end
    return made


def packed_key_frames(name: str, frames: Sequence[KeyFrame]) -> MemoryState:
    """A row of key frames."""
    none = np.empty(0, np.uint8)
    pictures = [none if f.thumbnail is None else f.thumbnail for f in frames]
    return MemoryState(
        {
            **flat_arrays(f"{name}_embeds", [f.embeds for f in frames], np.float16),
            **flat_arrays(f"{name}_summary", [f.summary for f in frames], np.float32),
            **flat_arrays(f"{name}_thumbnail", pictures, np.uint8),
            f"{name}_time_s": np.array([f.time_s for f in frames], np.float64),
            f"{name}_covers": np.array([f.covers for f in frames], np.int64),
        },
        {
            f"{name}_ids": [f.frame_id for f in frames],
            f"{name}_reasons": [f.reason for f in frames],
            f"{name}_said": {str(at): f.said for at, f in enumerate(frames) if f.said},
            f"{name}_said_from_s": {
                str(at): f.said_from_s for at, f in enumerate(frames) if f.said
            },
        },
    )


def unpacked_key_frames(name: str, state: MemoryState) -> list[KeyFrame]:
    """What `packed_key_frames` took."""
    arrays, fields = state.arrays, state.fields
    columns = zip(
        fields[f"{name}_ids"],
        np.asarray(arrays[f"{name}_time_s"]).tolist(),
        arrays_of(f"{name}_embeds", arrays),
        arrays_of(f"{name}_summary", arrays),
        arrays_of(f"{name}_thumbnail", arrays),
        fields[f"{name}_reasons"],
        np.asarray(arrays[f"{name}_covers"]).tolist(),
        strict=True,
    )
    said = fields[f"{name}_said"]
    # Before retention came, nobody asked how old words are: those are as old as their frame.
    said_from_s = fields.get(f"{name}_said_from_s", {})
    return [
        KeyFrame(
            frame_id,
            time_s,
            embeds,
            summary,
            thumbnail if thumbnail.ndim == 3 else None,
            said.get(str(at), ""),
            reason,
            covers,
            said_from_s.get(str(at), time_s) if str(at) in said else None,
        )
        for at, (frame_id, time_s, embeds, summary, thumbnail, reason, covers) in enumerate(columns)
    ]


def packed_clusters(clusters: Sequence[Cluster]) -> MemoryState:
    """Live clusters in their order."""
    frames = packed_key_frames("live", [cluster.frame for cluster in clusters])
    # A running mean changes with the next frame that joins.
    means = flat_arrays("live_mean", [cluster.mean.copy() for cluster in clusters], np.float32)
    columns = {
        "live_members": np.array([cluster.members for cluster in clusters], np.int64),
        "live_since_s": np.array([cluster.since_s for cluster in clusters], np.float64),
    }
    return MemoryState({**frames.arrays, **means, **columns}, frames.fields)


def unpacked_clusters(state: MemoryState) -> list[Cluster]:
    """What `packed_clusters` took."""
    frames = unpacked_key_frames("live", state)
    means = [mean.copy() for mean in arrays_of("live_mean", state.arrays)]
    members = np.asarray(state.arrays["live_members"]).tolist()
    # Before retention came, nobody asked since when: older than anything that is kept.
    since_s = np.asarray(state.arrays.get("live_since_s", np.zeros(len(frames)))).tolist()
    return [
        Cluster(frame, mean, count, unit_rows(mean), since)
        for frame, mean, count, since in zip(frames, means, members, since_s, strict=True)
    ]


def packed_recent(view: RecentView) -> MemoryState:
    """The last frames, embeds that some of them share written once, and the dialogue."""
    unique = {id(embeds): embeds for _, embeds in view.frames}
    number = {name: at for at, name in enumerate(unique)}
    return MemoryState(
        {
            **flat_arrays("recent_embeds", list(unique.values()), np.float32),
            "recent_time_s": np.array([time_s for time_s, _ in view.frames], np.float64),
            "recent_of": np.array([number[id(embeds)] for _, embeds in view.frames], np.int64),
        },
        {"dialogue": [asdict(turn) for turn in view.dialogue]},
    )


def unpacked_recent(state: MemoryState) -> RecentView:
    """What `packed_recent` took."""
    embeds = arrays_of("recent_embeds", state.arrays)
    times_s, of = (
        np.asarray(state.arrays["recent_time_s"]).tolist(),
        np.asarray(state.arrays["recent_of"]).tolist(),
    )
    frames = tuple((time_s, embeds[at]) for time_s, at in zip(times_s, of, strict=True))
    return RecentView(frames, tuple(DialogueTurn(**turn) for turn in state.fields["dialogue"]))
