"""VideoLLM-online's prompt as a layout: its stream of frames, questions and answers as data.

It needs a tokenizer and no PyTorch, so a device can write it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..runtime.prompt_layout import (
    Ids,
    PromptLayout,
    Slot,
    Text,
    ids_of,
    single_id,
    with_text_ids,
)

CLOSE = "]\n"
"""Ends a stretch of frames; its (first) token is how the model says that it wants to speak."""


@dataclass(frozen=True, slots=True)
class LivePrompt:
    """The strings of a layout that differ from checkpoint to checkpoint.

    Attributes:
        system: what the model is told first.
        bos: text of the token that begins a prompt; None for a model without one.
        stop: text of the token that ends an answer.
        join: stands between two frames and says "silent"; None for models of one token a frame,
            which are silent with `stop`.
        standby: says "silent, but something is under way"; None for models that do not say so.
        max_answer_tokens: tokens that an answer may have; VideoLLM-online's own limit is 100.
    """

    system: str
    stop: str
    bos: str | None = None
    join: str | None = ","
    standby: str | None = None
    max_answer_tokens: int = 100


def live_layout(prompt: LivePrompt, tokenizer: Any) -> PromptLayout:
    """VideoLLM-online's template, with the ids of this tokenizer.

    A message of the original begins with a line feed; here the one after `]` belongs to `]`,
    because the two are one token for the model. The token sequence is the same. A remembered frame
    is written as a stretch of one frame, the nearest thing that the model was trained on.

    Raises:
        PromptInvalid: the tokenizer does not have bos, stop, join or standby as one token, or a
            text does not come back from its tokens.
    """
    stop_id = single_id(tokenizer, prompt.stop, "config.json.prompt.stop")
    silent = prompt.stop if prompt.join is None else prompt.join
    silent_ids: tuple[int, ...] = (single_id(tokenizer, silent, "config.json.prompt.join"),)
    texts: dict[str, tuple[str, ...]] = {
        "stop_ids": (prompt.stop,), "silent_ids": (silent,), "speak_ids": (CLOSE,)
    }  # fmt: skip
    if prompt.standby is not None:
        silent_ids += (single_id(tokenizer, prompt.standby, "config.json.prompt.standby"),)
        texts["silent_ids"] += (prompt.standby,)
    bos_id = None
    if prompt.bos is not None:
        bos_id = single_id(tokenizer, prompt.bos, "config.json.prompt.bos")
        texts["bos_id"] = (prompt.bos,)
    layout = PromptLayout(
        segments={
            "system": (Text(prompt.system + "\n"),),
            "frame_open": (Text("\n["),),
            "frame": (Slot("embeds"),),
            "frame_join": () if prompt.join is None else (Text(prompt.join),),
            "frame_close": (Text(CLOSE),),
            "memory_entry": (Text("\n["), Slot("embeds"), Text("]")),
            "user": (Text("User: "), Slot("question"), Text("\n")),
            "assistant": (Text("Assistant:"),),
        },
        dialogue_turn=(
            Text("\nUser: "),
            Slot("question"),
            Text("\nAssistant: "),
            Slot("answer"),
            Ids((stop_id,)),
        ),
        order=("system", "memory_entry*", "dialogue_turn*", "frame*", "user", "assistant"),
        bos_id=bos_id,
        stop_ids=(stop_id,),
        silent_ids=silent_ids,
        speak_ids=ids_of(tokenizer, CLOSE)[:1],
        max_answer_tokens=prompt.max_answer_tokens,
        token_texts=texts,
    )
    return with_text_ids(layout, tokenizer)
