"""The prompt of the reference assistant as a layout, and its renderings as training sequences.

    <s> (<memory>12 FRAME what was said </s>)* (<user> question <assistant> answer </s>)*
        (<frame> FRAME)* [<user> question] <assistant> → answer </s>, or <silent> </s>

Training sequences come out of the very renderer that writes the prompts of the device
(`runtime/prompt_plan.py`), so no difference between them can be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.prompt import (
    Encode,
    MemoryEntry,
    PromptParts,
    SaidTurn,
    Shown,
    answer_pieces,
    filled,
    question_pieces,
    runs,
)
from ..runtime.prompt_layout import Ids, PromptLayout, Slot, Text, ids_of, single_id, with_text_ids
from ..runtime.prompt_plan import Dropped, planned_prompt
from .reference_tokenizer import ASSISTANT, BOS, FRAME, MEMORY, SILENT, STOP, USER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_ANSWER_TOKENS = 48
"""Two sentences and a half: the world never says more of one frame."""
MEMORY_TOPK, MEMORY_CLIP_LEN = 16, 2
"""Remembered frames that a question is shown: with their sentences they fit into the cache of 512.
Frames that are sorted in together: what was said can be remembered two frames later."""
EMBEDS_ID = -1
"""Stands in `RenderedPrompt.ids` where the embeds of a frame go."""
TIME_TEXT = "{:.0f}"


def reference_layout(
    tokenizer: Tokenizer, max_answer_tokens: int = MAX_ANSWER_TOKENS
) -> PromptLayout:
    """The layout, with the ids of this tokenizer.

    Raises:
        PromptInvalid: the tokenizer lacks a token that structures a prompt.
    """
    stop_id = single_id(tokenizer, STOP, "the stop token")
    stop = Ids((stop_id,))
    layout = PromptLayout(
        segments={
            "memory_entry": (Text(MEMORY), Slot("time"), Slot("embeds"), Slot("said"), stop),
            "frame": (Text(FRAME), Slot("embeds")),
            "user": (Text(USER), Slot("question")),
            "assistant": (Text(ASSISTANT),),
        },
        dialogue_turn=(
            Text(USER),
            Slot("question"),
            Text(ASSISTANT),
            Slot("answer"),
            stop,
        ),
        order=("memory_entry*", "dialogue_turn*", "frame*", "user", "assistant"),
        bos_id=single_id(tokenizer, BOS, "the first token"),
        stop_ids=(stop_id,),
        silent_ids=(single_id(tokenizer, SILENT, "the silent token"),),
        time_text=TIME_TEXT,
        question_on_branch=True,
        max_answer_tokens=max_answer_tokens,
        token_texts={"bos_id": (BOS,), "stop_ids": (STOP,), "silent_ids": (SILENT,)},
    )
    return with_text_ids(layout, tokenizer)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the embeds of a frame go.

    Attributes:
        at: position of the first of them.
        index: of the frame in what was given to be rendered, among memory or among frames.
        is_memory: it is a remembered frame.
    """

    at: int
    index: int
    is_memory: bool


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as training reads it.

    Attributes:
        ids: token ids; EMBEDS_ID where embeds go.
        places: of the embeds, in their order.
        dropped: what the budget had no room for, the oldest of each kind.
    """

    ids: tuple[int, ...]
    places: tuple[Place, ...]
    dropped: Dropped


def rendered_prompt(
    layout: PromptLayout,
    encode: Encode,
    *,
    memory: Sequence[tuple[float, str]] = (),
    frames: int = 0,
    dialogue: Sequence[SaidTurn] = (),
    question: str | None = None,
    tokens_per_frame: int = 10,
    budget_tokens: int = 464,
) -> RenderedPrompt:
    """The prompt that the device would write, up to where the answer begins.

    Args:
        layout: of `reference_layout`.
        encode: text → token ids, such as `encoder_of` gives.
        memory: (time in seconds, what was said) of each remembered frame, oldest first.
        frames: how many frames are shown after it.
        dialogue: turns before this one, oldest first.
        question: None for a sentence that nobody asked for.
        tokens_per_frame: rows of a frame's embeds; 0 renders without pixels, as text alone.
        budget_tokens: that the device has for a prompt: the cache less an answer.

    Raises:
        PromptTooLong: the question alone is longer than the budget.
    """
    rows = np.zeros((tokens_per_frame, 0), np.float32)
    parts = PromptParts(
        question,
        [(None, rows)] * frames,
        dialogue,
        [MemoryEntry(time_s, rows, said) for time_s, said in memory],
    )
    plan = planned_prompt(layout, encode, parts, budget_tokens)
    index = {"memory": plan.dropped.memory, "frame": plan.dropped.frames}
    ids: list[int] = []
    places: list[Place] = []
    for segment in plan.segments:
        if segment.kind == "ids":
            ids += segment.ids
            continue
        places.append(Place(len(ids), index[segment.kind], segment.kind == "memory"))
        index[segment.kind] += 1
        ids += [EMBEDS_ID] * segment.positions
    return RenderedPrompt(tuple(ids), tuple(places), plan.dropped)


def question_ids(layout: PromptLayout, encode: Encode, question: str | None) -> tuple[int, ...]:
    """The end of a prompt: its question and where the answer begins.

    A prompt with a question is the same prompt without the end `question_ids(…, None)`, and this
    behind it: so several questions can branch off one prefix.
    """
    pieces = [*filled(layout, answer_pieces(layout, question is not None))]
    if question is not None:
        asked = filled(layout, question_pieces(layout, False), None, {"question": question})
        pieces = [*asked, *pieces]
    found = runs(pieces, encode)
    return tuple(token for run in found if not isinstance(run, Shown) for token in run)


def answer_ids(layout: PromptLayout, encode: Encode, answer: str) -> tuple[int, ...]:
    """What is to be learned behind a prompt: the answer, or the silent token, and the stop token.

    Args:
        answer: empty where nothing is to be said.
    """
    said = tuple(encode(answer)) if answer else layout.silent_ids[:1]
    return (*said, layout.stop_ids[0])


def encoder_of(tokenizer: Tokenizer) -> Encode:
    """Text → token ids as the device makes them; each distinct text is encoded once."""
    known: dict[str, tuple[int, ...]] = {}

    def encode(text: str) -> Sequence[int]:
        if text not in known:
            known[text] = ids_of(tokenizer, text)
        return known[text]

    return encode
