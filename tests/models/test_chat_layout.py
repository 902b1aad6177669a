"""Chat templates as layouts: what is written where no template of a model's author says it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgestream.models.chat_layout import ChatWords, chat_layout
from edgestream.runtime.errors import PromptInvalid
from edgestream.runtime.prompt import MemoryEntry, PromptParts, Shown, prompt_pieces, runs
from edgestream.runtime.prompt_json import layout_as_json, layout_from_json
from edgestream.runtime.prompt_layout import PromptLayout, ids_of
from edgestream.runtime.recent import DialogueTurn
from edgestream.runtime.stream_prompt import StreamText

from ..hub_checkpoints import chat_tokenizer

TOKENIZER = chat_tokenizer(("<b>", "<|turn|>", "<|end|>", "<img>", "</img>"))
WORDS = ChatWords(
    bos="<b>",
    system="<|turn|>system: Look.<|end|>\n",
    user_open="<|turn|>user:",
    text_open="<|turn|>user: ",
    frame_open="<img>",
    frame_close="</img>",
    user_close="<|end|>\n",
    assistant_open="<|turn|>assistant:",
    answer_open="<|turn|>assistant: ",
    turn_end="<|end|>",
)
LAYOUT = chat_layout(WORDS, TOKENIZER)
ROWS = np.zeros((1, 1), np.float32)


def encode(text: str) -> tuple[int, ...]:
    return ids_of(TOKENIZER, text)


def written(parts: PromptParts, layout: PromptLayout = LAYOUT) -> str:
    """The prompt as text, `#` for a frame."""
    return "".join(
        "#" if isinstance(run, Shown) else TOKENIZER.decode(list(run), skip_special_tokens=False)
        for run in runs(prompt_pieces(layout, parts), encode)
    )


HEAD = "<b><|turn|>system: Look.<|end|>\n"
ANSWER = "<|end|>\n<|turn|>assistant:"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (PromptParts("Why?"), f"<|turn|>user: Why?{ANSWER}"),
        (PromptParts("Why?", [(1.0, ROWS)]), f"<|turn|>user:<img>#</img>Why?{ANSWER}"),
        (PromptParts(None, [(1.0, ROWS)] * 2), f"<|turn|>user:<img>#</img><img>#</img>{ANSWER}"),
        (
            PromptParts("Why?", dialogue=[DialogueTurn(1.0, "Who?", " A dog.")]),
            f"<|turn|>user: Who?{ANSWER} A dog.<|end|>\n<|turn|>user: Why?{ANSWER}",
        ),
        (
            PromptParts("Why?", [(1.0, ROWS)], [DialogueTurn(1.0, "", "It is dark.")]),
            f"<|turn|>assistant: It is dark.<|end|>\n<|turn|>user:<img>#</img>Why?{ANSWER}",
        ),
        (
            PromptParts("Why?", memory=[MemoryEntry(12.4, ROWS, "A dog.")]),
            f"<|turn|>user:<img>#</img>Earlier, at 12 s: A dog.<|end|>\n<|turn|>user: Why?{ANSWER}",
        ),
    ],
)
def test_every_turn_is_opened_and_closed_once(parts, expected):
    assert written(parts) == HEAD + expected


def test_a_stream_reads_as_the_prompt_of_the_same_turns():
    """Frame, frame, question, answer, frame, nothing asked: as one chat."""
    text, ids = StreamText(LAYOUT, encode), []
    stop = LAYOUT.stop_ids[0]
    ids += [*text.frame_prefix(1.0), -1, *text.frame_prefix(2.0), -1]
    ids += [*text.ask("Who?", 2.0), *encode(" A dog.")]
    text.answered(stop)
    ids += [*text.frame_prefix(3.0), -1, *text.describe(3.0)]
    said = "".join(
        "#" if token < 0 else TOKENIZER.decode([token], skip_special_tokens=False) for token in ids
    )
    assert said == (
        f"{HEAD}<|turn|>user:<img>#</img><img>#</img>Who?{ANSWER} A dog.<|end|>\n"
        f"<|turn|>user:<img>#</img>{ANSWER}"
    )


def test_it_survives_the_manifest_and_says_what_is_asked_of_an_event():
    assert layout_from_json(layout_as_json(LAYOUT)) == LAYOUT
    assert LAYOUT.describe == WORDS.describe and not LAYOUT.silent_ids
    quiet = chat_layout(replace(WORDS, describe=""), TOKENIZER)
    assert "describe" not in layout_as_json(quiet)
    assert layout_from_json(layout_as_json(quiet)) == quiet


def test_further_tokens_that_end_an_answer_come_behind_the_own_one():
    layout = chat_layout(replace(WORDS, stops=("<b>",)), TOKENIZER, ["<|end|>", "<img>"])
    assert layout.token_texts["stop_ids"] == ("<|end|>", "<b>", "<img>")
    with pytest.raises(PromptInvalid, match="a token that ends an answer is 'no token'"):
        chat_layout(WORDS, TOKENIZER, ["no token"])
    with pytest.raises(ValueError, match="nothing ends a stretch of frames"):
        chat_layout(replace(WORDS, frame_close=""), TOKENIZER)
