"""A chat template as a prompt layout: the words of a family's turns, with frames inside the user's.

    [bos] [system] (user: a remembered frame)* (user: question, assistant: answer)*
        user: FRAMES question, assistant: → answer

It needs a tokenizer and no PyTorch, so a device can write it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..runtime.prompt_layout import (
    Ids,
    Piece,
    Pieces,
    PromptLayout,
    Slot,
    Text,
    single_id,
    with_text_ids,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_ANSWER_TOKENS = 128
"""A camera is told about in a sentence or two; longer answers keep the frames waiting."""


@dataclass(frozen=True, slots=True)
class ChatWords:
    """The strings of a chat template; each stands in the prompt exactly as it is here.

    Attributes:
        user_open: begins a turn of the user.
        frame_open, frame_close: around the tokens of each frame.
        user_close: ends a turn of the user.
        assistant_open: after which an answer is generated.
        turn_end: the token that ends an answer.
        after_turn: stands behind `turn_end` where a turn follows.
        system: the whole system message with its ends; empty for none.
        bos: the token that begins a prompt; None where the template writes none.
        text_open: begins a turn of the user that has no frames, where it is another text than
            `user_open`; None where it is the same.
        frames_close: between the last frame and the question; it or `frame_close` is not empty.
        frame_join: between two frames, where it is another text than `frame_close`; None where it
            is the same. `frame_open` follows in any case.
        is_timed: each frame stands behind its time, also a remembered one.
        answer_open: begins an answer of earlier dialogue, where it is another text than
            `assistant_open`; None where it is the same.
        memory_open, memory_time: what a remembered frame is introduced with, around its time.
        stops: further tokens that end an answer.
        time_text: format of a time in seconds.
        describe: what is asked when an event opens: such a model speaks when it is asked.
        max_answer_tokens: tokens that an answer may have.
    """

    user_open: str
    frame_open: str
    frame_close: str
    user_close: str
    assistant_open: str
    turn_end: str
    after_turn: str = "\n"
    system: str = ""
    bos: str | None = None
    text_open: str | None = None
    frames_close: str = ""
    frame_join: str | None = None
    is_timed: bool = False
    answer_open: str | None = None
    memory_open: str = "Earlier, at "
    memory_time: str = " s: "
    stops: tuple[str, ...] = ()
    time_text: str = "{:.0f}"
    describe: str = "What has just happened? Answer in one sentence."
    max_answer_tokens: int = MAX_ANSWER_TOKENS


def chat_layout(words: ChatWords, tokenizer: Tokenizer, stops: Iterable[str] = ()) -> PromptLayout:
    """The layout of a chat model, with the ids of this tokenizer.

    Frames stand in the turn of the user before the question. A remembered frame is a turn of the
    user of its own, since the dialogue stands between it and the question. Nothing is silent: such
    a model speaks when it is asked.

    Args:
        words: of the family.
        tokenizer: of the checkpoint.
        stops: further tokens that the checkpoint ends an answer with.

    Raises:
        PromptInvalid: the tokenizer does not have bos or a stop as one token, or a text does not
            come back from its tokens.
    """
    ends = tuple(dict.fromkeys((words.turn_end, *words.stops, *stops)))
    stop_ids = tuple(single_id(tokenizer, text, "a token that ends an answer") for text in ends)
    texts = {"stop_ids": ends}
    bos_id = None
    if words.bos is not None:
        bos_id = single_id(tokenizer, words.bos, "the token that begins a prompt")
        texts["bos_id"] = (words.bos,)
    order = ("memory_entry*", "dialogue_turn*", "frame*", "user", "assistant")
    layout = PromptLayout(
        segments=_segments(words),
        dialogue_turn=_dialogue_turn(words, Ids(stop_ids[:1])),
        order=("system", *order) if words.system else order,
        bos_id=bos_id,
        stop_ids=stop_ids,
        max_answer_tokens=words.max_answer_tokens,
        time_text=words.time_text,
        describe=words.describe,
        token_texts=texts,
    )
    return with_text_ids(layout, tokenizer)


def _segments(words: ChatWords) -> dict[str, Pieces]:
    if not words.frame_close + words.frames_close:
        raise ValueError("frame_close and frames_close are empty: nothing ends a stretch of frames")
    told = () if words.is_timed else (words.memory_open, Slot("time"), words.memory_time)
    shown = (words.frame_open, *((Slot("time"),) if words.is_timed else ()), Slot("embeds"))
    closed = (words.frame_close, words.frames_close)
    segments = {
        "frame_open": _pieces(words.user_open),
        "frame": _pieces(*shown),
        # What ends a frame is written with what follows it, so that there is a `frame_close`.
        "frame_join": _pieces(words.frame_close if words.frame_join is None else words.frame_join),
        "frame_close": _pieces(*closed),
        "memory_entry": _pieces(
            *(words.user_open, *shown, *closed, *told, Slot("said"), words.user_close)
        ),
        "user": (Slot("question"),),
        "user_close": _pieces(words.user_close),
        "assistant": _pieces(words.assistant_open),
    }
    return {"system": _pieces(words.system), **segments} if words.system else segments


def _dialogue_turn(words: ChatWords, stop: Ids) -> Pieces:
    return _pieces(
        words.user_open if words.text_open is None else words.text_open,
        Slot("question"),
        words.user_close,
        words.assistant_open if words.answer_open is None else words.answer_open,
        Slot("answer"),
        stop,
        words.after_turn,
    )


def _pieces(*parts: str | Piece) -> Pieces:
    """Texts as pieces, empty ones left out."""
    made = (Text(part) if isinstance(part, str) else part for part in parts if part != "")
    return tuple(made)
