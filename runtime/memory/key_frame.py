"""One key frame, and the view of all that memory keeps at one moment: values that never change."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..motion import TIME_ROUNDING_S
from ..recent import DialogueTurn, RecentView
from ..values import Float32, UInt8

Float16: TypeAlias = NDArray[np.float16]

Reason = Literal["first", "cut", "spoke", "cluster"]
PROTECTED: frozenset[str] = frozenset({"first", "cut", "spoke"})
"""Reasons to let a key frame go last."""

OVERHEAD_BYTES = 640
"""Of one key frame beside its numbers and words: objects, names, its places in the lists.

Measured on CPython 3.11 with numpy 2: 490 bytes, and 28 in the lists; the rest is for holes
that the allocator leaves.
"""


@dataclass(frozen=True, slots=True, eq=False)
class KeyFrame:
    """A frame that stands for others.

    Attributes:
        frame_id: unique in its stream, for example "k12".
        time_s: time of the very frame that the embeds are of, seconds.
        embeds: (tokens, dim) float16, what the language model reads of that frame, read-only.
        summary: (dim,) float32 of unit length, of that frame (zeros, or empty, where it had none).
        thumbnail: (height, width, 3) uint8 RGB, read-only; None where none is kept.
        said: what was said about it; empty where nothing was.
        reason: why it is kept: the first of the stream, the first after a cut, spoken at, or the
            most typical of its cluster.
        covers: frames it stands for, itself among them.
        said_from_s: time that the oldest of its words are about, seconds; None without words.
    """

    frame_id: str
    time_s: float
    embeds: Float16
    summary: Float32
    thumbnail: UInt8 | None = None
    said: str = ""
    reason: Reason = "cluster"
    covers: int = 1
    said_from_s: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_s) and self.time_s >= 0):
            raise ValueError(f"KeyFrame.time_s must be 0 s or more, got {self.time_s}")
        if self.embeds.ndim != 2 or self.embeds.dtype != np.float16 or self.summary.ndim != 1:
            raise ValueError(
                "KeyFrame needs embeds (tokens, dim) float16 and summary (dim,), got "
                f"{self.embeds.shape} {self.embeds.dtype} and {self.summary.shape}"
            )
        if self.covers < 1:
            raise ValueError(f"KeyFrame.covers must be 1 or more, got {self.covers}")
        for name in ("embeds", "summary", "thumbnail"):
            array = getattr(self, name)
            if array is not None and array.flags.writeable:
                array = array.copy()
                array.flags.writeable = False
                object.__setattr__(self, name, array)

    def without_words_before(self, time_s: float) -> KeyFrame:
        """The same without its words, where some of them are about the time before, seconds."""
        if self.said_from_s is None or self.said_from_s >= time_s:
            return self
        return replace(self, said="", said_from_s=None)

    @property
    def is_protected(self) -> bool:
        """It is the last to go."""
        return self.reason in PROTECTED

    @property
    def n_bytes(self) -> int:
        """Size of everything it holds, bytes."""
        thumbnail = 0 if self.thumbnail is None else self.thumbnail.nbytes
        said = len(self.said.encode()) if self.said else 0
        return self.embeds.nbytes + self.summary.nbytes + thumbnail + said + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class MemoryView:
    """What was kept at one moment; it never changes.

    Attributes:
        recent: the last frames, as they were read.
        key_frames: in the order of time.
        dialogue: in the order of time.
    """

    recent: RecentView = field(default_factory=RecentView)
    key_frames: tuple[KeyFrame, ...] = ()
    dialogue: tuple[DialogueTurn, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of all of it, bytes."""
        key_frames = sum(frame.n_bytes for frame in self.key_frames)
        return self.recent.n_bytes + key_frames + sum(turn.n_bytes for turn in self.dialogue)

    def without(self, times_s: Collection[float]) -> MemoryView:
        """The same without the key frames of some times, seconds, of which nothing was said.

        They are shown anyway; what was said of a frame is shown with memory alone.
        """
        left = tuple(
            frame for frame in self.key_frames if frame.said or frame.time_s not in times_s
        )
        return MemoryView(self.recent, left, self.dialogue)

    def until(self, time_s: float) -> MemoryView:
        """The same without what came after a time.

        Args:
            time_s: seconds; times may be off by the 2 ms that files round them to.
        """
        last_s = time_s + TIME_ROUNDING_S
        turns = bisect_right(self.dialogue, last_s, key=lambda turn: turn.time_s)
        frames = self.recent.frames
        recent = RecentView(
            frames[: bisect_right(frames, last_s, key=lambda frame: frame[0])],
            tuple(turn for turn in self.recent.dialogue if turn.time_s <= last_s),
        )
        end = bisect_right(self.key_frames, last_s, key=lambda frame: frame.time_s)
        return MemoryView(recent, self.key_frames[:end], self.dialogue[:turns])
