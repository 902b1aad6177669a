"""A prompt as the decoder reads it: a layout filled in with what was seen, said and asked.

The layout is data (docs/FORMATS.md, section 3); nothing here knows a model's words. Adjacent
literal text is joined and tokenised once, so ids are cut only where embeds or literal ids stand.

How to think about it: `prompt_pieces` writes a prompt out, `runs` turns any pieces into ids and
embeds. A layout with a `frame_close` ends its frames with the line feed that its `user` and
`assistant` segments need before them; where no frames were closed just before, that beginning is
taken from its `dialogue_turn` (`question_pieces`, `answer_pieces`, `turn_pieces`). A layout with a
`user_close` ends a turn of the user with it, whether there were frames or a question in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from .frame_positions import Grid, Int64, positions_of
from .prompt_layout import DIALOGUE_TURN, Ids, Piece, Pieces, PromptLayout, Slot, Text
from .values import Float32

Encode = Callable[[str], Sequence[int]]
Rows = Callable[[Sequence[int]], Float32]

QUESTION, ANSWER, TIME = Slot("question"), Slot("answer"), Slot("time")


class SaidTurn(Protocol):
    """A turn of earlier dialogue; `question` is None where nobody asked."""

    @property
    def time_s(self) -> float: ...
    @property
    def question(self) -> str | None: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class MemoryEntry:
    """A remembered frame.

    Attributes:
        time_s: of the frame, seconds.
        embeds: (tokens, hidden) float32.
        said: what was said about it.
        frame_id: its name in the memory.
        score: by which it was chosen; where room is short, the lowest goes first.
    """

    time_s: float
    embeds: Float32
    said: str = ""
    frame_id: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PromptParts:
    """What a prompt is made of; each list oldest first.

    Attributes:
        question: what is asked; None to have the frames described without a word of ours.
        frames: (time in seconds or None, embeds (tokens, hidden) float32) of each frame.
        dialogue: turns before this one.
        memory: remembered frames.
        time_s: of the question, for layouts that write it, seconds.
    """

    question: str | None
    frames: Sequence[tuple[float | None, Float32]] = ()
    dialogue: Sequence[SaidTurn] = ()
    memory: Sequence[MemoryEntry] = ()
    time_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Embeds in their place in a prompt."""

    kind: Literal["frame", "memory"]
    embeds: Float32


Filled: TypeAlias = "Text | Ids | Shown"
Run: TypeAlias = "tuple[int, ...] | Shown"


def prompt_embeds(
    layout: PromptLayout,
    encode: Encode,
    rows: Rows,
    frames: Sequence[Float32],
    question: str | None,
) -> Float32:
    """The embeds of a prompt about some frames, up to where the answer begins.

    Args:
        layout: of the model.
        encode: text → token ids, nothing added before or after.
        rows: token ids → (ids, hidden) float32 rows of the embedding table.
        frames: embeds of each frame, (tokens, hidden) float32, oldest first.
        question: what is asked; None to have the frames described.

    Returns:
        (positions, hidden) float32.
    """
    found = _runs_about(layout, encode, frames, question)
    return np.concatenate([run.embeds if isinstance(run, Shown) else rows(run) for run in found])


def prompt_positions(
    layout: PromptLayout,
    encode: Encode,
    frames: Sequence[Float32],
    question: str | None,
    grid: Grid,
) -> Int64:
    """Positions [3, positions] of the prompt that `prompt_embeds` gives, from 0 on.

    Args:
        layout, encode, frames, question: as there.
        grid: rows and columns of one frame's tokens.
    """
    found = _runs_about(layout, encode, frames, question)
    return positions_of(
        ((len(run.embeds), True) if isinstance(run, Shown) else (len(run), False) for run in found),
        grid,
    )


def _runs_about(
    layout: PromptLayout, encode: Encode, frames: Sequence[Float32], question: str | None
) -> Iterator[Run]:
    parts = PromptParts(question, [(None, embeds) for embeds in frames])
    return runs(prompt_pieces(layout, parts), encode)


def runs(pieces: Iterable[Filled], encode: Encode) -> Iterator[Run]:
    """Token ids and embeds in their order; adjacent text is joined and encoded once."""
    text = ""
    for piece in pieces:
        if isinstance(piece, Text):
            text += piece.text
            continue
        if text:
            yield tuple(encode(text))
            text = ""
        yield piece.ids if isinstance(piece, Ids) else piece
    if text:
        yield tuple(encode(text))


def prompt_pieces(layout: PromptLayout, parts: PromptParts) -> Iterator[Filled]:
    """The whole prompt, up to where the answer begins, in the layout's own order.

    Parts for which the layout has no place are left out.
    """
    if layout.bos_id is not None:
        yield Ids((layout.bos_id,))
    is_closed = is_asked = False
    for kind in layout.order:
        if kind == "user":
            if parts.question is None:
                continue
            is_asked = True
            pieces = question_pieces(layout, is_closed)
            yield from filled(layout, pieces, parts.time_s, {"question": parts.question})
        elif kind == "assistant":
            yield from filled(layout, answer_pieces(layout, is_closed or is_asked), parts.time_s)
        elif kind.endswith("*"):
            starred = list(_STARRED[kind](layout, parts))
            yield from starred
            is_closed = kind == "frame*" if starred else is_closed
        else:
            is_closed = False
            yield from filled(layout, layout.segments.get(kind, ()))


def question_pieces(layout: PromptLayout, is_closed: bool) -> Pieces:
    """How a question is put; `is_closed` where frames were closed just before it."""
    user = layout.segments.get("user", ())
    if is_closed or not layout.segments.get("frame_close") or QUESTION not in layout.dialogue_turn:
        return user
    before, _ = _around(layout.dialogue_turn, QUESTION)
    opening = tuple(piece for piece in before if not isinstance(piece, Slot))
    return (*opening, QUESTION, *_around(user, QUESTION)[1])


def answer_pieces(layout: PromptLayout, is_begun: bool) -> Pieces:
    """How an answer begins; `is_begun` where a question or closed frames stand just before it."""
    assistant = layout.segments.get("assistant", ())
    if is_begun:
        return (*layout.segments.get("user_close", ()), *assistant)
    if not layout.segments.get("frame_close"):
        return assistant
    return (*_around(layout.segments.get("user", ()), QUESTION)[1], *assistant)


def turn_pieces(layout: PromptLayout, is_asked: bool) -> Pieces:
    """How a turn of earlier dialogue is written; without its question where nobody asked."""
    turn = layout.dialogue_turn
    if is_asked or QUESTION not in turn:
        return turn
    before, after = _around(turn, QUESTION)
    time = (TIME,) if TIME in before else ()
    if closing := layout.segments.get("user_close"):
        # A turn of the user that is not there needs no end.
        return (*time, *(after[len(closing) :] if after[: len(closing)] == closing else after))
    if layout.segments.get("frame_close"):
        return (*time, *after)
    return (*time, *layout.segments.get("assistant", ()), ANSWER, *answer_ending(layout))


def answer_ending(layout: PromptLayout) -> Pieces:
    """What follows an answer in earlier dialogue: its stop token, and what the layout adds."""
    return _around(layout.dialogue_turn, ANSWER)[1]


def filled(
    layout: PromptLayout,
    pieces: Sequence[Piece],
    time_s: float | None = None,
    texts: Mapping[str, str] | None = None,
    shown: Shown | None = None,
) -> Iterator[Filled]:
    """The pieces with their slots filled in; a slot for which there is nothing is left out."""
    texts = dict(texts or {})
    if time_s is not None and layout.time_text is not None:
        texts["time"] = layout.time_text.format(time_s)
    for piece in pieces:
        if not isinstance(piece, Slot):
            yield piece
        elif piece.name == "embeds" and shown is not None:
            yield shown
        elif texts.get(piece.name):
            yield Text(texts[piece.name])


def _memory(layout: PromptLayout, parts: PromptParts) -> Iterator[Filled]:
    for entry in parts.memory:
        pieces = layout.segments["memory_entry"]
        shown = Shown("memory", entry.embeds)
        yield from filled(layout, pieces, entry.time_s, {"said": entry.said}, shown)


def _dialogue(layout: PromptLayout, parts: PromptParts) -> Iterator[Filled]:
    for turn in parts.dialogue:
        # The text of an answer begins with the space that the layout has written already.
        texts = {"question": turn.question or "", "answer": turn.answer.strip()}
        yield from filled(layout, turn_pieces(layout, bool(turn.question)), turn.time_s, texts)


def _frames(layout: PromptLayout, parts: PromptParts) -> Iterator[Filled]:
    if not parts.frames:
        return
    yield from filled(layout, layout.segments.get("frame_open", ()))
    for index, (time_s, embeds) in enumerate(parts.frames):
        if index:
            yield from filled(layout, layout.segments.get("frame_join", ()))
        yield from filled(layout, layout.segments["frame"], time_s, None, Shown("frame", embeds))
    yield from filled(layout, layout.segments.get("frame_close", ()))


_STARRED: Mapping[str, Callable[[PromptLayout, PromptParts], Iterator[Filled]]] = {
    "memory_entry*": _memory,
    f"{DIALOGUE_TURN}*": _dialogue,
    "frame*": _frames,
}


def _around(pieces: Pieces, slot: Slot) -> tuple[Pieces, Pieces]:
    """What stands before and after a slot; nothing and nothing where it is not there."""
    if slot not in pieces:
        return (), ()
    place = pieces.index(slot)
    return pieces[:place], pieces[place + 1 :]
