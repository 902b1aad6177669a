"""The long store: key frames of clusters that left, in order of time, merged where it is full."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..values import Float32
from .clustering import likeness, unit_rows
from .key_frame import KeyFrame

MAX_SAID_BYTES = 1024
"""Of what was said at one key frame; the newest words stay. About 200 words, ten sentences."""
_LAST = 4.0  # taken off the likeness, in [-1, 1], of two protected frames: they merge last


def joined_said(old: str, new: str) -> str:
    """Both texts, the older one first, cut at the front to `MAX_SAID_BYTES`."""
    said = f"{old}\n{new}" if old and new else old or new
    return said.encode()[-MAX_SAID_BYTES:].decode(errors="ignore")


def merged(one: KeyFrame, other: KeyFrame) -> KeyFrame:
    """One key frame for two that follow each other in time.

    A protected one stays before one that is not, then the one that covers more, then the older.
    Its picture and time stay as they were: two pictures are never averaged. Covers add up.
    """
    is_other = (other.is_protected, other.covers) > (one.is_protected, one.covers)
    kept = other if is_other else one
    said = joined_said(one.said, other.said)
    from_s = min((f.said_from_s for f in (one, other) if f.said_from_s is not None), default=None)
    return replace(kept, covers=one.covers + other.covers, said=said, said_from_s=from_s)


class LongStore:
    """Key frames in the order of time; whoever holds it says when two must become one.

    A merge takes the two neighbours in time that are most alike, so that what stays longest is
    what looked different; time order and the sum of covers stay. Cost: two likenesses and one
    pass over 4 bytes a key frame.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._frames: list[KeyFrame] = []
        self._alike: Float32 = np.empty(64, np.float32)  # [i]: of i and i + 1
        self.n_bytes = self.protected_bytes = 0
        self._words_from_s = math.inf  # nothing that was said is about the time before
        self._published: tuple[KeyFrame, ...] | None = ()

    def __len__(self) -> int:
        return len(self._frames)

    def frames(self) -> tuple[KeyFrame, ...]:
        """All of them, in the order of time."""
        if self._published is None:
            self._published = tuple(self._frames)
        return self._published

    def frame(self, at: int) -> KeyFrame:
        """One of them."""
        return self._frames[at]

    def alike(self) -> Float32:
        """(frames - 1,) float32: how alike neighbours are, two protected ones 4 less."""
        alike: Float32 = self._alike[: max(0, len(self._frames) - 1)].copy()
        return alike

    def fill(self, frames: Sequence[KeyFrame], alike: Float32) -> None:
        """Hold these instead, with the likeness of neighbours as `alike` gave it."""
        self.clear()
        self._frames = list(frames)
        self._alike = np.empty(max(64, 2 * len(frames)), np.float32)
        self._alike[: len(alike)] = alike
        for frame in frames:
            self._count(frame, 1)
        self._published = None

    def insert(self, frame: KeyFrame) -> None:
        """Take a key frame in, at its place in time."""
        at = bisect_right(self._frames, frame.time_s, key=lambda kept: kept.time_s)
        count = len(self._frames)
        if count == len(self._alike):
            self._alike = np.concatenate([self._alike, np.empty_like(self._alike)])
        self._frames.insert(at, frame)
        self._alike[at + 1 : count] = self._alike[at : max(at, count - 1)].copy()
        self._count(frame, 1)
        self._changed(at)

    def replace(self, at: int, frame: KeyFrame) -> None:
        """Put another key frame of the same time in the place of one."""
        self._count(self._frames[at], -1)
        self._count(frame, 1)
        self._frames[at] = frame
        self._changed(at)

    def forget_before(self, time_s: float) -> int:
        """Let go of the key frames of before a time, seconds, and of older words of the others.

        Returns:
            how many frames those that went stood for.
        """
        first = bisect_left(self._frames, time_s, key=lambda kept: kept.time_s)
        if not first and self._words_from_s >= time_s:
            return 0  # as at most frames: it costs nothing to ask
        gone, frames = self._frames[:first], self._frames[first:]
        alike = self._alike[first : max(first, first + len(frames) - 1)].copy()
        self.fill([frame.without_words_before(time_s) for frame in frames], alike)
        return sum(frame.covers for frame in gone)

    def nearest(self, time_s: float) -> int | None:
        """Index of the key frame nearest in time; None where there is none."""
        at = bisect_left(self._frames, time_s, key=lambda kept: kept.time_s)
        near = [index for index in (at, at - 1) if 0 <= index < len(self._frames)]
        return min(near, key=lambda index: abs(self._frames[index].time_s - time_s), default=None)

    def pop_only(self) -> KeyFrame:
        """Take the only key frame out."""
        (frame,) = self._frames
        self.clear()
        return frame

    def merge(self, *, protected: bool) -> bool:
        """Let the two neighbours that are most alike become one.

        Args:
            protected: two protected ones may merge, where nothing else is left.

        Returns:
            False where there were none to merge.
        """
        count = len(self._frames)
        if count < 2:
            return False
        at = int(np.argmax(self._alike[: count - 1]))
        if self._alike[at] < -_LAST / 2 and not protected:
            return False
        self._merge_at(at)
        return True

    def merge_protected(self) -> bool:
        """Let the two protected neighbours that are most alike become one.

        Returns:
            False where no two protected ones are neighbours.
        """
        alike = self._alike[: max(0, len(self._frames) - 1)]
        both = np.where(alike < -_LAST / 2, alike, -np.inf)
        if not both.size or not np.isfinite(both.max()):
            return False
        self._merge_at(int(np.argmax(both)))
        return True

    def _merge_at(self, at: int) -> None:
        count = len(self._frames)
        one, other = self._frames[at], self._frames[at + 1]
        frame = merged(one, other)
        self._frames[at : at + 2] = [frame]
        self._alike[at : count - 2] = self._alike[at + 1 : count - 1].copy()
        for part, sign in ((one, -1), (other, -1), (frame, 1)):
            self._count(part, sign)
        self._changed(at)

    def _count(self, frame: KeyFrame, sign: int) -> None:
        """Add or take off the bytes of a frame."""
        self.n_bytes += sign * frame.n_bytes
        if frame.said_from_s is not None:
            self._words_from_s = min(self._words_from_s, frame.said_from_s)
        if frame.is_protected:
            self.protected_bytes += sign * frame.n_bytes

    def _changed(self, at: int) -> None:
        """Measure the likeness of a frame with its neighbours again."""
        self._published = None
        unit = unit_rows(self._frames[at].embeds)
        for left, other in ((at - 1, at - 1), (at, at + 1)):
            if 0 <= other < len(self._frames):
                both = self._frames[at].is_protected and self._frames[other].is_protected
                alike = likeness(unit, unit_rows(self._frames[other].embeds))
                self._alike[left] = alike - (_LAST if both else 0.0)
