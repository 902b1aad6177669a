"""Which of the scored key frames the language model gets to see, by a rule that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from .errors import InputMismatch, SettingsInvalid
from .memory.key_frame import KeyFrame, MemoryView
from .routers import unit_rows
from .values import Float32

LIKE_ENOUGH = 0.9
"""`spread`: summaries of a greater cosine show the same thing. A guess, to be measured."""

Chosen: TypeAlias = tuple[list[int], Float32]
"""Which key frames, in any order, and the score of every key frame by which they were chosen."""


def selected(
    view: MemoryView, scores: Float32, topk: int, rule: str = "top"
) -> tuple[tuple[KeyFrame, float], ...]:
    """The key frames that are shown, with the score that each was chosen by, in order of time.

    Args:
        view: what memory holds.
        scores: (key frames,) of `routers.scores`, in the order of the view.
        topk: so many; all where memory holds fewer.
        rule: its name in RULES.

    Raises:
        SettingsInvalid: topk is below 1, or no rule has this name.
        InputMismatch: there are not as many scores as key frames.

    Cost: `top` sorts; `spread` compares topk summaries with all.
    """
    if topk < 1:
        raise SettingsInvalid(
            f"got memory.topk = {topk}, expected 1 or more",
            hint="use context recent where no key frame is wanted",
        )
    if rule not in RULES:
        raise SettingsInvalid(
            f"got the selection {rule!r}, expected one of {', '.join(RULES)}",
            hint="set memory.selection",
        )
    if scores.shape != (len(view.key_frames),):
        raise InputMismatch(
            f"got scores {scores.shape}, expected one for each of {len(view.key_frames)} key frames"
        )
    if not view.key_frames:
        return ()
    indices, by = RULES[rule](view, scores, topk)
    in_time = sorted(indices, key=lambda index: (view.key_frames[index].time_s, index))
    return tuple((view.key_frames[index], float(by[index])) for index in in_time)


def top(view: MemoryView, scores: Float32, topk: int) -> Chosen:
    """The best scores; of equal ones the newer."""
    return _best_first(scores)[:topk], scores


def similar(view: MemoryView, scores: Float32, topk: int) -> Chosen:
    """Those most like the newest key frame; the score is that cosine, the router's is not read.

    For what happens now: which earlier moments were like this one?

    Source: StreamMind, `similarity` sampling of perception memory (cosine with the last token of
    the segment, order of time kept); differs: a number instead of a share of the segment.
    """
    summaries = _summaries(view)
    likeness: Float32 = summaries @ summaries[-1]
    return _best_first(likeness)[:topk], likeness


def spread(view: MemoryView, scores: Float32, topk: int) -> Chosen:
    """The best scores, but nothing twice while there is something else.

    A key frame whose summary is like that of a better one is passed over; those passed over fill
    what is left, best first.
    """
    summaries, taken, passed = _summaries(view), list[int](), list[int]()
    nearest = np.full(len(scores), -np.inf, np.float32)
    for index in _best_first(scores):
        if len(taken) == topk:
            break
        if nearest[index] > LIKE_ENOUGH:
            passed.append(index)
            continue
        taken.append(index)
        np.maximum(nearest, summaries @ summaries[index], out=nearest)
    return (taken + passed)[:topk], scores


RULES: Mapping[str, Callable[[MemoryView, Float32, int], Chosen]] = {
    "top": top,
    "similar": similar,
    "spread": spread,
}
"""Name in the settings → rule."""


def _best_first(scores: Float32) -> list[int]:
    """All indices; of equal scores the later one first."""
    return [len(scores) - 1 - int(back) for back in np.argsort(-scores[::-1], kind="stable")]


def _summaries(view: MemoryView) -> Float32:
    return unit_rows(np.stack([frame.summary for frame in view.key_frames]))
