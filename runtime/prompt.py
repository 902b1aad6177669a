"""A prompt as the decoder reads it: a layout filled in with frames and a question, in embeds.

The layout is data (docs/FORMATS.md, section 3); nothing here knows a model's words. Adjacent
literal text is joined and tokenised once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .prompt_layout import Ids, Piece, PromptLayout, Slot, Text
from .values import Float32

Encode = Callable[[str], Sequence[int]]
Rows = Callable[[Sequence[int]], Float32]


def prompt_embeds(
    layout: PromptLayout, encode: Encode, rows: Rows, frames: Sequence[Float32], question: str
) -> Float32:
    """The embeds of a prompt about some frames, up to where the answer begins.

    Args:
        layout: of the model.
        encode: text → token ids, nothing added before or after.
        rows: token ids → (ids, hidden) float32 rows of the embedding table.
        frames: embeds of each frame, (tokens, hidden) float32, oldest first.
        question: what is asked.

    Returns:
        (positions, hidden) float32.
    """
    parts: list[Float32] = []
    text = ""
    bos = () if layout.bos_id is None else (Ids((layout.bos_id,)),)
    for piece in (*bos, *_pieces(layout, frames, question)):
        if isinstance(piece, Text):
            text += piece.text
            continue
        if text:
            parts.append(rows(encode(text)))
            text = ""
        parts.append(rows(piece.ids) if isinstance(piece, Ids) else piece)
    if text:
        parts.append(rows(encode(text)))
    return np.concatenate(parts)


def _pieces(
    layout: PromptLayout, frames: Sequence[Float32], question: str
) -> Iterator[Text | Ids | Float32]:
    for kind in layout.order:
        if kind == "frame*":
            yield from _frames(layout, frames)
        elif not kind.endswith("*"):
            yield from _filled(layout.segments.get(kind, ()), None, question)


def _frames(layout: PromptLayout, frames: Sequence[Float32]) -> Iterator[Text | Ids | Float32]:
    if not frames:
        return
    yield from _filled(layout.segments.get("frame_open", ()), None, "")
    for index, embeds in enumerate(frames):
        if index:
            yield from _filled(layout.segments.get("frame_join", ()), None, "")
        yield from _filled(layout.segments["frame"], embeds, "")
    yield from _filled(layout.segments.get("frame_close", ()), None, "")


def _filled(
    pieces: Sequence[Piece], embeds: Float32 | None, question: str
) -> Iterator[Text | Ids | Float32]:
    for piece in pieces:
        if not isinstance(piece, Slot):
            yield piece
        elif piece.name == "question":
            yield Text(question)
        elif piece.name == "embeds" and embeds is not None:
            yield embeds
