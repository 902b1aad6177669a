"""Choosing few pictures that differ much out of an endless stream of them, in bounded memory.

A reservoir keeps pictures no two of which are nearer than a radius. When it is full, those that the
farthest-first traversal takes last go, and the radius grows to what parts the rest: the incremental
clustering of Charikar, Chekuri, Feder and Motwani (STOC 1997), without its doubling. At the end the
same traversal (Gonzalez 1985, within twice the best covering radius) takes as many as are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..runtime.values import Float32

Item = TypeVar("Item")


class Traversal(NamedTuple):
    """A farthest-first order.

    Attributes:
        order: (count,) indices, the one nearest the mean first.
        distances: (count,) float64, of each one to the nearest of those before it, never rising;
            infinity for the first.
    """

    order: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Diversity:
    """How far pictures lie apart.

    Attributes:
        mean: distance of two different ones, over all pairs.
        least: distance of the two nearest.
    """

    mean: float
    least: float


class Reservoir(Generic[Item]):
    """What was offered and is kept: at most `capacity` items, no two nearer than `radius`.

    State: the kept items and embeddings in order of coming, the radius, counts.

    Args:
        capacity: 2 or more.
        near: items nearer than this are the same; more than 0.

    Attributes:
        radius: least distance of two kept items; grows when it is full.
        covers: every item that was ever offered lies within this of a kept one.
        offered: how many came.
    """

    def __init__(self, capacity: int, near: float) -> None:
        if capacity < 2 or not near > 0:
            raise ValueError(f"a reservoir of {capacity} items, {near} apart, keeps nothing apart")
        self.capacity, self.radius, self.covers, self.offered = capacity, near, near, 0
        self._items: list[Item] = []
        self._rows: Float32 | None = None

    def offer(self, embedding: Float32, make: Callable[[], Item]) -> bool:
        """Whether the item is kept, for now.

        Args:
            embedding: (dim,) float32, of the same length every time.
            make: makes the item; called only where it is kept.

        Cost: one pass over the kept embeddings; a quadratic one each time it is full.
        """
        self.offered += 1
        if self._rows is None:
            self._rows = np.empty((self.capacity, len(embedding)), np.float32)
        kept = self._rows[: len(self._items)]
        if len(kept) and distances_to(kept, embedding).min() < self.radius:
            return False
        self._rows[len(kept)] = embedding
        self._items.append(make())
        if len(self._items) == self.capacity:
            self._thin()
        return True

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """What is kept, in order of coming."""
        return tuple(self._items)

    @property
    def embeddings(self) -> Float32:
        """(items, dim) float32, a copy."""
        if self._rows is None:
            return np.empty((0, 0), np.float32)
        rows: Float32 = self._rows[: len(self._items)].copy()
        return rows

    def _thin(self) -> None:
        """Let the half go that is nearest to the rest; what stays is farther apart than before."""
        assert self._rows is not None
        found = farthest_first(self._rows, self.capacity // 2 + 1)
        left = np.sort(found.order[:-1])
        # The next one would have been taken at this distance: nobody lies farther from those left.
        self.radius = max(self.radius, float(found.distances[-1]))
        self.covers += self.radius
        self._items = [self._items[index] for index in left]
        self._rows[: len(left)] = self._rows[left]


def farthest_first(embeddings: Float32, count: int) -> Traversal:
    """The farthest-first traversal: each next one is the farthest from all that were taken.

    Args:
        embeddings: (items, dim) float32, one or more.
        count: how many; all where there are fewer.

    Cost: items × count distances. Of equal ones the first is taken, so it repeats itself.
    """
    first = int(distances_to(embeddings, embeddings.mean(axis=0)).argmin())
    order, distances = [first], [np.inf]
    nearest = distances_to(embeddings, embeddings[first])
    while len(order) < min(count, len(embeddings)):
        nearest[order[-1]] = -1.0  # taken, also where all that are left are copies of it
        following = int(nearest.argmax())
        order.append(following)
        distances.append(float(nearest[following]))
        nearest = np.minimum(nearest, distances_to(embeddings, embeddings[following]))
    return Traversal(np.array(order), np.array(distances))


def diversity(embeddings: Float32) -> Diversity:
    """How far the pictures lie apart.

    Args:
        embeddings: (items, dim) float32, two or more.
    """
    count, total, least = len(embeddings), 0.0, np.inf
    for index in range(count - 1):
        apart = distances_to(embeddings[index + 1 :], embeddings[index])
        total, least = total + float(apart.sum()), min(least, float(apart.min()))
    return Diversity(total / (count * (count - 1) / 2), float(least))


def distances_to(embeddings: Float32, one: Float32) -> NDArray[np.float64]:
    """Euclidean distance of each row to one vector, (rows,) float64."""
    difference = embeddings.astype(np.float64) - one.astype(np.float64)
    distances: NDArray[np.float64] = np.sqrt(np.einsum("rd,rd->r", difference, difference))
    return distances
