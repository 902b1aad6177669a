"""The words of a prompt as a checkpoint's own chat template writes them, or its family's.

Conversations of marked texts are written by the template and cut at the marks. What was cut counts
where a layout of it writes every conversation token for token as the template does.

    [bos] [system] user_open frame QUESTION user_close answer_open ANSWER turn_end after_turn
        text_open QUESTION user_close assistant_open
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.errors import PromptInvalid
from ..runtime.prompt import PromptParts, Shown, prompt_pieces, runs
from ..runtime.prompt_layout import PromptLayout, ids_of
from ..runtime.recent import DialogueTurn
from .chat_layout import ChatWords, chat_layout
from .chat_template import (
    FRAME,
    ChatTemplate,
    PictureWords,
    TemplateUnfit,
    Turn,
    template_of,
    time_of,
    with_frames,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .hub_checkpoint import HubCheckpoint

QUESTION, ANSWER, LATER = "QuestionOne", "AnswerOne", "QuestionTwo"
ROWS = np.zeros((1, 1), np.float32)
# Field of `ChatWords` → what a person calls it.
_CALLED = {
    "bos": "the first token",
    "system": "the system text",
    "user_open": "how a question is opened",
    "text_open": "how a question is opened",
    "frame_open": "what stands around frames",
    "frame_join": "what stands around frames",
    "frame_close": "what stands around frames",
    "frames_close": "what stands around frames",
    "user_close": "how a question ends",
    "assistant_open": "how an answer is opened",
    "answer_open": "how an answer is opened",
    "turn_end": "how an answer ends",
    "after_turn": "how an answer ends",
}


@dataclass(frozen=True, slots=True)
class HubPrompt:
    """How the prompt of a checkpoint of the Hub is written.

    Attributes:
        layout: of the prompt.
        notes: one sentence for who exports it, where the words are not simply the family's.
    """

    layout: PromptLayout
    notes: tuple[str, ...] = ()


def hub_prompt(
    hub: HubCheckpoint, family: str, tokenizer: Tokenizer, words: ChatWords, pictures: PictureWords
) -> HubPrompt:
    """The prompt as the folder's chat template writes it; as the family does where it has none.

    Args:
        hub: the opened folder.
        family: its name, for the sentence.
        tokenizer: of the checkpoint.
        words: of the family.
        pictures: of the family's processor.

    Raises:
        PromptInvalid: the words are not the tokenizer's.

    Cost: milliseconds.
    """
    stops = hub.stop_texts(tokenizer)
    try:
        template = template_of(hub.folder)
        if template is None:
            return HubPrompt(chat_layout(words, tokenizer, stops))
        conversations = _Conversations(template, words, pictures, tokenizer)
        if conversations.are_of(words, stops):
            return HubPrompt(chat_layout(words, tokenizer, stops))
        cut = conversations.words(stops)
        layout = chat_layout(cut, tokenizer, stops)
    except (TemplateUnfit, PromptInvalid) as error:
        # Of the family's own words a fault is raised here, with or without a template.
        layout = chat_layout(words, tokenizer, stops)
        return HubPrompt(
            layout,
            (
                f"the prompt is that of the family {family}; the checkpoint's own chat template "
                f"cannot be taken over: {error}",
            ),
        )
    return HubPrompt(
        layout,
        (
            f"the prompt is that of the checkpoint's {template.file}, which differs from the "
            f"family {family} in {_differences(words, cut)}",
        ),
    )


class _Conversations:
    """What a template writes, in the one of two forms of messages that it takes.

    Raises:
        TemplateUnfit: it takes neither.
    """

    def __init__(
        self,
        template: ChatTemplate,
        words: ChatWords,
        pictures: PictureWords,
        tokenizer: Tokenizer,
    ) -> None:
        self._template, self._words, self._pictures = template, words, pictures
        self._tokenizer, self._in_parts = tokenizer, True
        added = tokenizer.encode("").tokens
        self._added: str = added[0] if added else ""
        try:
            self.text(*_DIALOGUE)
        except TemplateUnfit:
            self._in_parts = False
            self.text(*_DIALOGUE)

    def text(self, *turns: Turn, asks: bool = True) -> str:
        """A conversation, with `FRAME` for each frame, and what the tokenizer puts before it."""
        written = self._template.written(turns, self._pictures, asks=asks, in_parts=self._in_parts)
        before = "" if written.startswith(self._added) else self._added
        return before + with_frames(written, turns, self._words, self._pictures)

    def are_of(self, words: ChatWords, stops: Sequence[str]) -> bool:
        """Whether these words write all of them, token for token."""
        try:
            layout = chat_layout(words, self._tokenizer, stops)
        except (PromptInvalid, ValueError):
            return False
        return all(
            list(_ids_of_layout(layout, turns, self._tokenizer))
            == list(_ids_of_text(self.text(*turns), words, self._tokenizer))
            for turns in _COMPARED
        )

    def words(self, stops: Sequence[str]) -> ChatWords:
        """The words that the template writes.

        Raises:
            TemplateUnfit: they stand in no fixed places, or do not write what it writes.
        """
        asked, answered = Turn("user", QUESTION), Turn("assistant", ANSWER)
        later, seen = Turn("user", LATER), Turn("user", QUESTION, 1)
        (user_close,) = _cut(self.text(asked, asks=False), QUESTION)[1:]
        (end,) = _cut(self.text(asked, answered, asks=False), QUESTION, ANSWER)[2:]
        plain = _cut(self.text(asked, answered, later), QUESTION, ANSWER, LATER)
        text_open = _behind(plain[2], end)
        head = _before(plain[0], text_open)
        before, after = _cut(_cut(self.text(seen), QUESTION)[0], FRAME)
        between = _cut(self.text(Turn("user", QUESTION, 2)).replace(FRAME, "\0", 1), "\0", FRAME)[1]
        changed: dict[str, Any] = {
            **self._head(head),
            **self._end(end, stops),
            **_around_frames(self._words, _behind(before, head), between, after),
            "text_open": text_open,
            "user_close": user_close,
            "answer_open": _behind(plain[1], user_close),
            "assistant_open": _behind(plain[3], user_close),
        }
        found = replace(self._words, **changed)
        if not self.are_of(found, stops):
            raise TemplateUnfit("its words stand in no fixed places")
        return found

    def _head(self, head: str) -> dict[str, str | None]:
        known = (self._added, self._words.bos, self._template.variables.get("bos_token"))
        bos = next((text for text in known if text and head.startswith(text)), None)
        return {"bos": bos, "system": head.removeprefix(bos or "")}

    def _end(self, end: str, stops: Sequence[str]) -> dict[str, str]:
        known = (self._words.turn_end, *stops, self._template.variables.get("eos_token"))
        stop = next((text for text in known if text and end.startswith(text)), None)
        if stop is None:
            raise TemplateUnfit("an answer does not end with one of the checkpoint's end tokens")
        return {"turn_end": stop, "after_turn": end.removeprefix(stop)}


def _around_frames(
    words: ChatWords, before: str, between: str, after: str
) -> dict[str, str | None]:
    """Where the texts around two frames are parted: as the family does, where that can be."""
    opening = words.frame_open
    closing = between.removesuffix(opening)
    if between.endswith(opening) and before.endswith(opening) and after.startswith(closing):
        return {
            "user_open": before.removesuffix(opening),
            "frame_open": opening,
            "frame_join": None,
            "frame_close": closing,
            "frames_close": after.removeprefix(closing),
        }
    return {
        "user_open": before,
        "frame_open": "",
        "frame_join": between,
        "frame_close": "",
        "frames_close": after,
    }


def _cut(text: str, *marks: str) -> list[str]:
    """What stands around marks, each of which is there once, in this order."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise TemplateUnfit("it does not write each text of a conversation once, in order")
        parts.append(before)
    return [*parts, text]


def _behind(text: str, beginning: str) -> str:
    if not text.startswith(beginning):
        raise TemplateUnfit("what ends a turn depends on what follows")
    return text.removeprefix(beginning)


def _before(text: str, ending: str) -> str:
    if not text.endswith(ending):
        raise TemplateUnfit("the first question is opened otherwise than later ones")
    return text.removesuffix(ending)


def _ids_of_text(text: str, words: ChatWords, tokenizer: Tokenizer) -> Iterator[int]:
    """Token ids of a written conversation, -1 for the rows of a frame."""
    parts = text.split(FRAME)
    for number, part in enumerate(parts):
        is_shown = number < len(parts) - 1
        told = words.time_text.format(time_of(number)) if words.is_timed and is_shown else ""
        yield from ids_of(tokenizer, part + told)
        yield from [-1] * is_shown


def _ids_of_layout(
    layout: PromptLayout, turns: Sequence[Turn], tokenizer: Tokenizer
) -> Iterator[int]:
    *dialogue, last = turns
    shown = [(time_of(number), ROWS) for number in range(last.frames)]
    pairs = zip(dialogue[::2], dialogue[1::2], strict=True)
    said = [DialogueTurn(0.0, asked.text, answer.text) for asked, answer in pairs]
    parts = PromptParts(last.text, shown, said)
    for run in runs(prompt_pieces(layout, parts), lambda text: ids_of(tokenizer, text)):
        yield from [-1] if isinstance(run, Shown) else run


def _differences(words: ChatWords, cut: ChatWords) -> str:
    effective = [
        replace(one, text_open=one.user_open if one.text_open is None else one.text_open,
                answer_open=one.assistant_open if one.answer_open is None else one.answer_open)
        for one in (words, cut)
    ]  # fmt: skip
    named = {
        called: None
        for name, called in _CALLED.items()
        if getattr(effective[0], name) != getattr(effective[1], name)
    }
    return ", ".join(named)


_DIALOGUE = (Turn("user", "Is it dark?"), Turn("assistant", "No."), Turn("user", "Why?"))
_COMPARED: tuple[tuple[Turn, ...], ...] = (
    (Turn("user", "What is there?"),),
    (Turn("user", "What is there?", 1),),
    (Turn("user", "What is there?", 3),),
    _DIALOGUE,
    (*_DIALOGUE, Turn("assistant", "The sun shines."), Turn("user", "Who is there?", 2)),
)
