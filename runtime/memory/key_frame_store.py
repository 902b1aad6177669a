"""Where key frames live: the clip buffer, the live clusters and the long store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .clustering import LiveClusters
from .key_frame import KeyFrame
from .key_frame_rules import KeyFrameRules
from .long_store import LongStore, joined_said, merged
from .memory_state import (
    MemoryState,
    packed_clusters,
    packed_key_frames,
    unpacked_clusters,
    unpacked_key_frames,
)


class KeyFrameStore:
    """Every frame that was taken in is covered by exactly one key frame in here.

    A frame waits in the clip buffer, joins a live cluster with its clip, and ends, or its
    cluster's most typical frame does, in the long store.

    Args:
        rules: how key frames are made.
    """

    def __init__(self, rules: KeyFrameRules) -> None:
        self._clip_len = rules.clip_len
        self._live = LiveClusters(
            rules.key_frame_buffer_size, rules.key_frame_match_ratio, rules.max_frame_set_num
        )
        self._long = LongStore()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._clip: list[KeyFrame] = []
        self._live.fill(())
        self._long.clear()

    @property
    def is_empty(self) -> bool:
        """Nothing was taken in yet: from the first frame on, the clip buffer holds the newest."""
        return not self._clip

    @property
    def clip(self) -> tuple[KeyFrame, ...]:
        """Frames that wait to be clustered."""
        return tuple(self._clip)

    @property
    def live(self) -> tuple[KeyFrame, ...]:
        """The frame that stands for each live cluster."""
        return self._live.frames()

    @property
    def long(self) -> tuple[KeyFrame, ...]:
        """The long store, in the order of time."""
        return self._long.frames()

    def n_bytes(self) -> dict[str, int]:
        """Size of each of the three, bytes."""
        clip = sum(frame.n_bytes for frame in self._clip)
        return {"clip": clip, "clusters": self._live.n_bytes, "key_frames": self._long.n_bytes}

    def repeat(self) -> None:
        """Count a frame without a change for the one it repeats, which is the newest."""
        self._clip[-1] = replace(self._clip[-1], covers=self._clip[-1].covers + 1)

    def take(self, frame: KeyFrame) -> None:
        """Take a frame in, newer than all before; a full clip is clustered first."""
        if len(self._clip) >= self._clip_len:
            for waiting in self._clip:
                left = self._live.take(waiting)
                if left is not None:
                    self._long.insert(left)
            self._clip.clear()
        self._clip.append(frame)

    def say(self, about_s: float, text: str) -> None:
        """Write a text at the key frame nearest in time, the newest of equally near ones.

        A frame that stood for its cluster alone is protected from now on.
        """
        clusters, at = self._live.clusters, self._long.nearest(about_s)
        choices = [
            *((frame.time_s, "clip", i) for i, frame in enumerate(self._clip)),
            *((cluster.frame.time_s, "live", i) for i, cluster in enumerate(clusters)),
            *(() if at is None else ((self._long.frame(at).time_s, "long", at),)),
        ]
        if not choices:
            return
        _, where, at = min(choices, key=lambda choice: (abs(choice[0] - about_s), -choice[0]))
        if where == "clip":
            self._clip[at] = _said_at(self._clip[at], text, about_s)
        elif where == "live":
            clusters[at].frame = _said_at(clusters[at].frame, text, about_s)
        else:
            self._long.replace(at, _said_at(self._long.frame(at), text, about_s))

    def forget_before(self, time_s: float) -> int:
        """Let go of the key frames of before a time, seconds, and of older words of the others.

        Returns:
            how many frames those that went stood for.
        """
        gone = [frame for frame in self._clip if frame.time_s < time_s]
        kept = [frame for frame in self._clip if frame.time_s >= time_s]
        self._clip = [frame.without_words_before(time_s) for frame in kept]
        forgotten = sum(frame.covers for frame in gone)
        return forgotten + self._live.forget_before(time_s) + self._long.forget_before(time_s)

    def forget_pictures(self) -> None:
        """Keep no thumbnail: the rules of another run had them."""
        self._clip = [replace(frame, thumbnail=None) for frame in self._clip]
        for cluster in self._live.clusters:
            cluster.frame = replace(cluster.frame, thumbnail=None)
        long = [replace(frame, thumbnail=None) for frame in self._long.frames()]
        self._long.fill(long, self._long.alike())

    def shrink(self, protected_bytes: int) -> bool:
        """Let go of a little: what looks like its neighbour first, what is protected last.

        Args:
            protected_bytes: of the long store that protected frames may hold before all others.

        Returns:
            False where nothing but the newest frame is left.
        """
        if self._long.protected_bytes > protected_bytes and self._long.merge_protected():
            return True
        if self._long.merge(protected=False):
            return True
        if len(self._live):
            self._long.insert(self._live.leave())
            return True
        if len(self._clip) > 1:
            self._long.insert(self._clip.pop(0))
            return True
        if self._long.merge(protected=True):
            return True
        if len(self._long):
            self._clip[0] = _newest_of(self._long.pop_only(), self._clip[0])
            return True
        if self._clip and self._clip[0].said:
            self._clip[0] = replace(self._clip[0], said="", said_from_s=None)
            return True
        return False

    def snapshot(self) -> MemoryState:
        """The state, to be put back by `restore`; nothing in it changes later."""
        parts = (
            packed_key_frames("clip", self._clip),
            packed_clusters(self._live.clusters),
            packed_key_frames("long", self._long.frames()),
        )
        return MemoryState(
            {
                **{name: array for part in parts for name, array in part.arrays.items()},
                "long_alike": self._long.alike(),
            },
            {name: value for part in parts for name, value in part.fields.items()},
        )

    def restore(self, state: MemoryState) -> None:
        """Continue from a state as if nothing had been between."""
        clip, clusters = unpacked_key_frames("clip", state), unpacked_clusters(state)
        long = unpacked_key_frames("long", state)
        self._clip = clip
        self._live.fill(clusters)
        self._long.fill(long, np.asarray(state.arrays["long_alike"]))


def _said_at(frame: KeyFrame, text: str, about_s: float) -> KeyFrame:
    reason = "spoke" if frame.reason == "cluster" else frame.reason
    from_s = about_s if frame.said_from_s is None else min(frame.said_from_s, about_s)
    said = joined_said(frame.said, text)
    return replace(frame, said=said, reason=reason, said_from_s=from_s)


def _newest_of(old: KeyFrame, newest: KeyFrame) -> KeyFrame:
    """The newest frame, standing for the old one too: there is room for one alone."""
    return replace(newest, covers=merged(old, newest).covers)
