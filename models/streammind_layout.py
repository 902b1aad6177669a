"""StreamMind's prompt as a layout: Mistral's instruction brackets around a segment of the stream.

It needs a tokenizer and no PyTorch, so a device can write it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime.prompt_layout import Ids, PromptLayout, Slot, Text, single_id, with_text_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS, STOP = "<s>", "</s>"
OPEN, CLOSE = "[INST] ", " [/INST]"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
MAX_ANSWER_TOKENS = 128
"""The original allows 1024; a camera is told about in a sentence or two."""


def streammind_layout(tokenizer: Tokenizer) -> PromptLayout:
    """The live template: perception tokens without a word between them, then what is asked.

    An earlier segment of the stream is a turn of its own, with what was said of it, as in the
    original's one long dialogue. A segment about which nothing is asked ends the turn.

    Raises:
        PromptInvalid: the tokenizer does not have <s> or </s> as one token.
    """
    bos_id, stop_id = (single_id(tokenizer, text, "a token of Mistral") for text in (BOS, STOP))
    answer = (Text(CLOSE + " "), Slot("answer"), Text(" "), Ids((stop_id,)), Text(OPEN))
    layout = PromptLayout(
        segments={
            "system": (Text(f"{OPEN}<<SYS>>\n{SYSTEM}\n<</SYS>>\n\n"),),
            "frame": (Slot("embeds"),),
            "frame_close": (Text("\n"),),
            "memory_entry": (
                *(Slot("embeds"), Text("\n" + CLOSE + " "), Slot("said"), Text(" ")),
                *(Ids((stop_id,)), Text(OPEN)),
            ),
            "user": (Text(" "), Slot("question")),
            "assistant": (Text(CLOSE),),
        },
        dialogue_turn=(Slot("question"), *answer),
        order=("system", "memory_entry*", "dialogue_turn*", "frame*", "user", "assistant"),
        bos_id=bos_id,
        stop_ids=(stop_id,),
        max_answer_tokens=MAX_ANSWER_TOKENS,
        token_texts={"bos_id": (BOS,), "stop_ids": (STOP,)},
    )
    return with_text_ids(layout, tokenizer)
