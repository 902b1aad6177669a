"""A prompt within a budget of tokens, cut into segments that can be recognised again.

Counting comes before running: what does not fit is left out before a model is asked for anything.
Two prompts share what their first segments share (`shared_positions`), and so much of a cache can
be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .errors import PromptTooLong
from .frame_positions import Grid, Int64, positions_of
from .prompt import (
    Encode,
    MemoryEntry,
    PromptParts,
    Rows,
    Run,
    Shown,
    prompt_pieces,
    runs,
)
from .prompt_layout import DIALOGUE_TURN, PromptLayout
from .values import Float32


@dataclass(frozen=True, slots=True, eq=False)
class PromptSegment:
    """A stretch of a prompt.

    Attributes:
        kind: ids, or embeds of a frame or of a memory entry.
        key: equal for equal contents only: the ids, or a digest of the embeds.
        ids: token ids; () for embeds.
        embeds: (tokens, hidden) float32; None for ids.
    """

    kind: Literal["ids", "frame", "memory"]
    key: tuple[int, ...] | bytes
    ids: tuple[int, ...] = ()
    embeds: Float32 | None = None

    @property
    def positions(self) -> int:
        """How many positions it takes."""
        return len(self.ids) if self.embeds is None else len(self.embeds)

    def as_embeds(self, rows: Rows) -> Float32:
        """(positions, hidden) float32, the ids' from the embedding table."""
        return rows(self.ids) if self.embeds is None else self.embeds


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many parts of a prompt were left out, the oldest of each kind."""

    dialogue: int = 0
    memory: int = 0
    frames: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PlannedPrompt:
    """A prompt that fits.

    Attributes:
        segments: in their order.
        tokens: positions of all of them.
        shown: what it is made of.
        dropped: what was left out.
    """

    segments: tuple[PromptSegment, ...]
    tokens: int
    shown: PromptParts
    dropped: Dropped


def planned_prompt(
    layout: PromptLayout, encode: Encode, parts: PromptParts, budget_tokens: int
) -> PlannedPrompt:
    """The prompt with as much of its parts as the budget has room for.

    The oldest dialogue goes first, then the memory of the lowest score (of equal ones the oldest),
    then the oldest frames; the system text and the question never. Parts for which the layout has
    no place count as dropped.

    Args:
        layout: of the model.
        encode: text → token ids, nothing added before or after; called once per distinct text.
        parts: all that should be in it.
        budget_tokens: upper bound for its positions.

    Raises:
        PromptTooLong: the system text and the question alone are longer.
    """
    known: dict[str, Sequence[int]] = {}

    def encode_once(text: str) -> Sequence[int]:
        if text not in known:
            known[text] = encode(text)
        return known[text]

    left = _with_a_place(layout, parts)
    while True:
        found = list(runs(prompt_pieces(layout, left), encode_once))
        tokens = sum(len(run.embeds) if isinstance(run, Shown) else len(run) for run in found)
        if tokens <= budget_tokens:
            segments = tuple(_segment(run) for run in found)
            return PlannedPrompt(segments, tokens, left, _dropped(parts, left))
        if left.dialogue:
            left = replace(left, dialogue=left.dialogue[1:])
        elif left.memory:
            left = replace(left, memory=_without_the_least(left.memory))
        elif left.frames:
            left = replace(left, frames=left.frames[1:])
        else:
            raise PromptTooLong(
                f"the question takes {tokens} tokens with the words around it, "
                f"expected at most {budget_tokens}",
                hint="ask a shorter question, or give the prompt more tokens",
            )


def shared_positions(before: Sequence[PromptSegment], now: Sequence[PromptSegment]) -> int:
    """How many positions two prompts have in common, counted from their beginning.

    Within ids it ends at the first id that differs; embeds are shared whole or not at all.
    """
    shared = 0
    for old, new in zip(before, now, strict=False):
        if old.key == new.key:
            shared += new.positions
            continue
        for old_id, new_id in zip(old.ids, new.ids, strict=False):
            if old_id != new_id:
                break
            shared += 1
        break
    return shared


def segment_positions(segments: Sequence[PromptSegment], grid: Grid) -> Int64:
    """Positions [3, positions] of a whole prompt, from 0 on.

    Args:
        segments: of the prompt.
        grid: rows and columns of one frame's tokens.
    """
    return positions_of(((one.positions, one.kind != "ids") for one in segments), grid)


def _segment(run: Run) -> PromptSegment:
    if not isinstance(run, Shown):
        return PromptSegment("ids", run, ids=run)
    digest = hashlib.blake2b(str(run.embeds.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(run.embeds).data)
    return PromptSegment(run.kind, digest.digest(), embeds=run.embeds)


def _with_a_place(layout: PromptLayout, parts: PromptParts) -> PromptParts:
    return replace(
        parts,
        dialogue=parts.dialogue if f"{DIALOGUE_TURN}*" in layout.order else (),
        memory=parts.memory if "memory_entry*" in layout.order else (),
        frames=parts.frames if "frame*" in layout.order else (),
    )


def _without_the_least(memory: Sequence[MemoryEntry]) -> tuple[MemoryEntry, ...]:
    """All but the entry of the lowest score, of equal ones the oldest."""
    least = min(range(len(memory)), key=lambda at: memory[at].score)
    return (*memory[:least], *memory[least + 1 :])


def _dropped(parts: PromptParts, left: PromptParts) -> Dropped:
    return Dropped(
        len(parts.dialogue) - len(left.dialogue),
        len(parts.memory) - len(left.memory),
        len(parts.frames) - len(left.frames),
    )
