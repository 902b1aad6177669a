"""Prompt layouts from and to JSON: the `prompt` of a manifest (docs/FORMATS.md, section 3).

What is ours is read here for its type and checked in `prompt_layout.py` for its sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import PromptInvalid
from .json_fields import Fields
from .prompt_layout import DIALOGUE_TURN, Ids, Piece, Pieces, PromptLayout, Slot, Text


def layout_as_json(layout: PromptLayout) -> dict[str, Any]:
    """The `prompt` of a manifest; `layout_from_json` gives an equal layout back."""
    data: dict[str, Any] = {
        "bos_id": layout.bos_id,
        "segments": {kind: _pieces_as_json(pieces) for kind, pieces in layout.segments.items()},
        DIALOGUE_TURN: _pieces_as_json(layout.dialogue_turn),
        "order": list(layout.order),
        "stop_ids": list(layout.stop_ids),
        "silent_ids": list(layout.silent_ids),
        "speak_ids": list(layout.speak_ids),
        "question_on_branch": layout.question_on_branch,
        "max_answer_tokens": layout.max_answer_tokens,
        "token_texts": {role: list(texts) for role, texts in layout.token_texts.items()},
        "text_ids": {text: list(ids) for text, ids in layout.text_ids.items()},
    }
    optional = {"time_text": layout.time_text, "describe": layout.describe}
    return {**data, **{key: text for key, text in optional.items() if text}}


def layout_from_json(data: object) -> PromptLayout:
    """The layout that a manifest's `prompt` describes; keys that are not ours are ignored.

    Raises:
        PromptInvalid: something is missing, of the wrong type, or makes no sense; names the place.
    """
    prompt = Fields(data, "prompt", PromptInvalid)
    segments, token_texts, text_ids = (
        _below(prompt, key) for key in ("segments", "token_texts", "text_ids")
    )
    return PromptLayout(
        segments={kind: segments.objects(kind, _piece) for kind in prompt.mapping("segments")},
        order=prompt.texts("order"),
        stop_ids=prompt.wholes("stop_ids", at_least=0),
        max_answer_tokens=prompt.whole("max_answer_tokens"),
        bos_id=prompt.whole("bos_id", at_least=0) if "bos_id" in prompt else None,
        silent_ids=prompt.wholes("silent_ids", at_least=0) if "silent_ids" in prompt else (),
        speak_ids=prompt.wholes("speak_ids", at_least=0) if "speak_ids" in prompt else (),
        dialogue_turn=prompt.objects(DIALOGUE_TURN, _piece) if DIALOGUE_TURN in prompt else (),
        time_text=prompt.text("time_text") if "time_text" in prompt else None,
        question_on_branch="question_on_branch" in prompt and prompt.flag("question_on_branch"),
        describe=prompt.text("describe") if "describe" in prompt else "",
        token_texts={role: token_texts.texts(role) for role in _keys(prompt, "token_texts")},
        text_ids={text: text_ids.wholes(text, at_least=0) for text in _keys(prompt, "text_ids")},
    )


def _below(prompt: Fields, key: str) -> Fields:
    return Fields(prompt.mapping(key) if key in prompt else {}, f"prompt.{key}", PromptInvalid)


def _keys(prompt: Fields, key: str) -> Mapping[str, Any]:
    return prompt.mapping(key) if key in prompt else {}


def _piece(fields: Fields) -> Piece:
    kinds = [kind for kind in ("text", "slot", "ids") if kind in fields]
    if len(kinds) != 1:
        raise PromptInvalid(f"{fields.place} has {kinds or 'nothing'}, expected text, slot or ids")
    if kinds == ["ids"]:
        return Ids(fields.wholes("ids", at_least=0))
    return Text(fields.text("text")) if kinds == ["text"] else Slot(fields.text("slot"))


def _pieces_as_json(pieces: Pieces) -> list[dict[str, Any]]:
    return [_piece_as_json(piece) for piece in pieces]


def _piece_as_json(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, Text):
        return {"text": piece.text}
    return {"slot": piece.name} if isinstance(piece, Slot) else {"ids": list(piece.ids)}
