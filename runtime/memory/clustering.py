"""Live clusters: frames that look alike, gathered while they come in, as the seed does it.

The measure is that of the key-frame-router VLM (its section 1.1): the mean, over the token
positions of a frame, of the cosine between two grids of tokens. What differs from it:

- A cluster stands for its members by a *real* frame, the one nearest to the running mean; the
  seed hands the mean itself on, which is a picture that no camera ever took.
- The cluster that was joined longest ago leaves first; the seed drops the oldest one even while
  frames still join it.
- A full cluster no longer competes. In the seed it goes on matching best, so that every further
  frame of a scene opens a cluster of its own.
- It holds one mean and one frame, not every member.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..values import Float32
from .key_frame import KeyFrame

CLUSTER_OVERHEAD_BYTES = 512
"""Of one cluster beside its key frame and its mean: the objects and two arrays' headers."""
_NO_NORM = np.float32(1e-12)


def unit_rows(embeds: NDArray[np.floating]) -> Float32:
    """Rows of unit length; a row of zeros stays one. (tokens, dim) float32."""
    rows = embeds.astype(np.float32)
    norms = np.sqrt(np.einsum("td,td->t", rows, rows))
    rows /= np.maximum(norms, _NO_NORM)[:, None]
    return rows


def likeness(one: Float32, other: Float32) -> float:
    """Mean cosine, position by position, of two grids of unit rows.

    Returns:
        In [-1, 1]; -1 for grids of different shapes, which nothing makes comparable.
    """
    if one.shape != other.shape or not one.size:
        return -1.0
    return float(np.vdot(one, other)) / len(one)


@dataclass(slots=True)
class Cluster:
    """Frames that look alike.

    Attributes:
        frame: the one that stands for them; covers all.
        mean: (tokens, dim) float32, running mean of the members.
        members: frames that joined, still ones not counted.
        unit_mean: rows of the mean at unit length.
        since_s: time of the first of them, seconds.
    """

    frame: KeyFrame
    mean: Float32
    members: int
    unit_mean: Float32
    since_s: float

    @property
    def n_bytes(self) -> int:
        """Size of everything it holds, bytes."""
        return self.frame.n_bytes + 2 * self.mean.nbytes + CLUSTER_OVERHEAD_BYTES

    def join(self, frame: KeyFrame, unit: Float32) -> None:
        """Take a frame in; it stands for the cluster if it is more typical than the last one."""
        self.members += 1
        self.mean += (frame.embeds - self.mean) / np.float32(self.members)
        self.unit_mean = unit_rows(self.mean)
        covers = self.frame.covers + frame.covers
        old = self.frame
        is_nearer = not old.is_protected and (
            likeness(unit, self.unit_mean) > likeness(unit_rows(old.embeds), self.unit_mean)
        )
        self.frame = replace(frame if is_nearer else old, covers=covers)


def cluster_of(frame: KeyFrame) -> Cluster:
    """A cluster of one frame."""
    mean = frame.embeds.astype(np.float32)
    return Cluster(frame, mean, 1, unit_rows(frame.embeds), frame.time_s)


class LiveClusters:
    """The clusters that frames may still join, the one joined longest ago first.

    Args:
        size: at most so many.
        match_ratio: a frame joins the cluster that is most alike if that is at least so alike.
        max_members: a cluster that has so many takes no more.
    """

    def __init__(self, size: int, match_ratio: float, max_members: int) -> None:
        self._size, self._match_ratio, self._max_members = size, match_ratio, max_members
        self.clusters: list[Cluster] = []

    def __len__(self) -> int:
        return len(self.clusters)

    @property
    def n_bytes(self) -> int:
        """Size of all of them, bytes."""
        return sum(cluster.n_bytes for cluster in self.clusters)

    def frames(self) -> tuple[KeyFrame, ...]:
        """The frame that stands for each."""
        return tuple(cluster.frame for cluster in self.clusters)

    def forget_before(self, time_s: float) -> int:
        """Let go of clusters whose frame is of before a time, seconds, and of older words.

        One whose frame is younger than some of its members begins anew with that frame: its mean
        holds something of them.

        Returns:
            how many frames those that went stood for.
        """
        forgotten, kept = 0, list[Cluster]()
        for cluster in self.clusters:
            if cluster.frame.time_s < time_s:
                forgotten += cluster.frame.covers
                continue
            cluster.frame = cluster.frame.without_words_before(time_s)
            kept.append(cluster if cluster.since_s >= time_s else cluster_of(cluster.frame))
        self.clusters = kept
        return forgotten

    def fill(self, clusters: Iterable[Cluster]) -> None:
        """Hold these instead."""
        self.clusters = list(clusters)

    def take(self, frame: KeyFrame) -> KeyFrame | None:
        """Let a frame join or open a cluster. A protected frame always opens its own.

        Returns:
            The key frame of the cluster that had to leave; None where none had to.
        """
        unit = unit_rows(frame.embeds)
        best = None if frame.is_protected else self._best_match(unit)
        if best is None:
            self.clusters.append(cluster_of(frame))
        else:
            cluster = self.clusters.pop(best)
            cluster.join(frame, unit)
            self.clusters.append(cluster)
        return self.leave() if len(self.clusters) > self._size else None

    def leave(self) -> KeyFrame:
        """Let the cluster that was joined longest ago go."""
        return self.clusters.pop(0).frame

    def _best_match(self, unit: Float32) -> int | None:
        """Index of the cluster that has room and is most alike; None where none is alike enough."""
        alike = [
            likeness(cluster.unit_mean, unit) if cluster.members < self._max_members else -2.0
            for cluster in self.clusters
        ]
        best = int(np.argmax(alike)) if alike else None
        return None if best is None or alike[best] < self._match_ratio else best
