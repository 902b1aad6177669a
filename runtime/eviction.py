"""Which spans of the cache go when there is no room: whole frames and texts, the oldest first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ContextTooSmall

Kind: TypeAlias = Literal["prefix", "frame", "text"]


@dataclass(frozen=True, slots=True)
class Span:
    """Slots that stay or go together.

    Attributes:
        kind: `prefix` never goes; a frame; a text (a question, an answer, what joins frames).
        slots: how many, 0 or more.
        time_s: stream time of what it holds, seconds.
        is_protected: a key frame: it goes after all others of its age.
    """

    kind: Kind
    slots: int
    time_s: float
    is_protected: bool = False

    def __post_init__(self) -> None:
        if self.slots < 0:
            raise ValueError(f"a span has 0 or more slots, got {self.slots}")


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """How much is kept, and how much goes at a time.

    Attributes:
        recent_slots: the newest so many slots are the last to go.
        block_slots: at least so many are freed at a time, as far as neither recent nor protected
            slots have to go for it. One eviction costs about as much whether one slot goes or many.
        sink_slots: the first so many slots after the prefix never go; may be 0. Attention leans on
            the first positions whatever they hold (StreamingLLM); the prefix is usually enough.
    """

    recent_slots: int
    block_slots: int
    sink_slots: int = 0

    def __post_init__(self) -> None:
        if min(self.recent_slots, self.block_slots, self.sink_slots) < 0:
            raise ValueError(f"slots are counted from 0, got {self}")


def kept_spans(
    spans: Sequence[Span], policy: EvictionPolicy, need: int, capacity: int
) -> tuple[int, ...]:
    """Which spans stay so that `need` slots more fit.

    The order of leaving, each the oldest first: neither recent nor protected; protected; recent;
    recent and protected. The prefix and the sinks never leave.

    Args:
        spans: in the order of their slots.
        need: slots that shall be written next.
        capacity: slots in all.

    Returns:
        Indices of `spans`, increasing; all of them where there is room already.

    Raises:
        ContextTooSmall: it does not fit even when all that may leave has left.
    """
    lacking = sum(span.slots for span in spans) + need - capacity
    if lacking <= 0:
        return tuple(range(len(spans)))
    fixed, recent = _fixed(spans, policy), _recent(spans, policy)
    ranks = [(i in recent) * 2 + span.is_protected for i, span in enumerate(spans)]
    leaving, freed = set[int](), 0
    for index in sorted(set(range(len(spans))) - fixed, key=lambda index: (ranks[index], index)):
        # Only what is neither recent nor protected leaves to fill up a block.
        wanted = max(lacking, policy.block_slots) if ranks[index] == 0 else lacking
        if freed >= wanted:
            break
        leaving.add(index)
        freed += spans[index].slots
    if freed < lacking:
        stay = sum(spans[index].slots for index in fixed)
        raise ContextTooSmall(
            f"got {need} slots to write beside {stay} that always stay, "
            f"expected at most {capacity} in all",
            hint="ask a shorter question, or use a larger cache",
        )
    return tuple(index for index in range(len(spans)) if index not in leaving)


def keep_slots(spans: Sequence[Span], kept: Collection[int]) -> NDArray[np.int64]:
    """Slots of the kept spans, increasing; what `Arena.evict` takes."""
    stays = np.isin(np.arange(len(spans)), sorted(kept))
    slots = np.repeat(stays, [span.slots for span in spans])
    return np.flatnonzero(slots).astype(np.int64)


def _fixed(spans: Sequence[Span], policy: EvictionPolicy) -> set[int]:
    """The prefix, and spans with one of the first `sink_slots` slots after it."""
    fixed, passed = set[int](), 0
    for index, span in enumerate(spans):
        if span.kind == "prefix":
            fixed.add(index)
            continue
        if passed < policy.sink_slots:
            fixed.add(index)
        passed += span.slots
    return fixed


def _recent(spans: Sequence[Span], policy: EvictionPolicy) -> set[int]:
    """Spans with one of the last `recent_slots` slots."""
    newer: Iterable[int] = accumulate((span.slots for span in reversed(spans)), initial=0)
    places = zip(reversed(range(len(spans))), newer, strict=False)
    return {index for index, slots in places if slots < policy.recent_slots}
