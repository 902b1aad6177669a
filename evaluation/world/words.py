"""All words and marks that the world's sentences, questions and answers are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .event_types import ATTRIBUTES, COLOURS
from .phrasings import CLAUSES, SEEN
from .phrasings_unseen import UNSEEN
from .sentences import BLACK_SENTENCE, PLAIN, event_sentence, scene_sentence
from .topics import NUMBERS, PLACES, UNKNOWN

_WORD = re.compile(r"[A-Za-z]+|[.,:?]")


def words_of(text: str) -> list[str]:
    """The words and marks of a text, in order."""
    return _WORD.findall(text)


def _texts() -> Iterator[str]:
    yield from (*PLAIN.values(), BLACK_SENTENCE, UNKNOWN, *NUMBERS, *PLACES, *CLAUSES.values())
    yield from ("Yes.", "No.", "Darker.", "Brighter.")
    yield from (f"{colour} {colour.capitalize()}" for colour in COLOURS)
    for way in ATTRIBUTES["direction"]:
        yield f"{way} {way.capitalize()}"
    for side in ATTRIBUTES["side"]:
        yield event_sentence("enter", None, side)
        yield f"From the {side}."
    for size in ATTRIBUTES["size"]:
        yield event_sentence("enter", "red", "left", None, size)
    for kind in ("pan", "zoom", "leave", "start", "stop", "meet"):
        yield event_sentence(kind, None, "left", "left")
        yield event_sentence(kind, "red", "left", "left")
    for count in range(6):
        yield scene_sentence(COLOURS[:count])
    for phrasings in (*SEEN.values(), *UNSEEN.values()):
        yield from (text.format(colour="red", clause="it") for text in phrasings)


WORDS: tuple[str, ...] = tuple(sorted({word for text in _texts() for word in words_of(text)}))
"""Sorted, at most 200; a word that begins a sentence counts by itself."""
