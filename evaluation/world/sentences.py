"""The fixed grammar of what is told: from an event to its sentence, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .event_types import ATTRIBUTES, COLOURS, WAY_FROM_SIDE, WAY_TO_SIDE

PLAIN = {
    "cut": "The scene changes.",
    "fade_out": "The picture fades to black.",
    "fade_in": "The picture fades in.",
    "dark": "It gets darker.",
    "bright": "It gets brighter.",
    "shake": "The camera shakes.",
    "blur": "The picture gets blurry.",
}
BLACK_SENTENCE = "The picture is black."
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five")


@dataclass(frozen=True, slots=True)
class ReadSentence:
    """What a sentence says.

    Attributes:
        kind: of EVENT_TYPES; "scene" of a list of objects; "black" of a black picture.
        colour, side, direction, size: of ATTRIBUTES; None where it does not say.
        colours: that a "scene" lists.
    """

    kind: str
    colour: str | None = None
    side: str | None = None
    direction: str | None = None
    size: str | None = None
    colours: tuple[str, ...] = ()


def event_sentence(
    kind: str,
    colour: str | None = None,
    side: str | None = None,
    direction: str | None = None,
    size: str | None = None,
) -> str:
    """The one sentence for an event; a thing without a colour is *something*."""
    thing = f"The {colour} object" if colour else "Something"
    if kind in PLAIN:
        return PLAIN[kind]
    if kind == "pan":
        return f"The camera pans {direction}."
    if kind == "zoom":
        return f"The camera zooms {direction}."
    if kind == "enter":
        what = f"A {size} {colour} object" if colour else "Something"
        return f"{what} enters from the {side}."
    if kind == "leave":
        return f"{thing} leaves to the {side}."
    if kind == "start":
        return f"{thing} starts to move {direction}."
    if kind == "stop":
        return f"{thing} stops."
    if kind == "meet":
        return f"{thing} meets another object."
    raise ValueError(f"got event type {kind!r}, expected one of EVENT_TYPES")


def scene_sentence(colours: Sequence[str]) -> str:
    """What a scene shows: its objects from left to right."""
    if not colours:
        return "No objects."
    listed = " and ".join([", ".join(colours[:-1]), colours[-1]] if colours[1:] else colours)
    return f"{NUMBERS[len(colours)]} object{'s' * (len(colours) > 1)}: {listed}."


def _pattern() -> re.Pattern[str]:
    colour, size = ("|".join(ATTRIBUTES[name]) for name in ("colour", "size"))
    side, way = "|".join(ATTRIBUTES["side"]), "left|right|up|down"
    thing = rf"(?:The (?P<colour>{colour}) object|Something)"
    some = rf"(?:A (?P<size>{size}) (?P<colour>{colour}) object|Something)"
    forms = {
        **{kind: re.escape(text) for kind, text in PLAIN.items()},
        "pan": rf"The camera pans (?P<direction>{way})\.",
        "zoom": r"The camera zooms (?P<direction>in|out)\.",
        "enter": rf"{some} enters from the (?P<side>{side})\.",
        "leave": rf"{thing} leaves to the (?P<side>{side})\.",
        "start": rf"{thing} starts to move (?P<direction>{way})\.",
        "stop": rf"{thing} stops\.",
        "meet": rf"{thing} meets another object\.",
        "black": re.escape(BLACK_SENTENCE),
    }
    # A name may stand once in a pattern: that of its kind goes before it.
    alternatives = (
        f"(?P<{kind}>{form.replace('(?P<', f'(?P<{kind}_')})" for kind, form in forms.items()
    )
    return re.compile("|".join(alternatives))


_PATTERN = _pattern()
_SCENE = re.compile(rf"(?P<number>{'|'.join(NUMBERS)}) objects?(?:: (?P<list>[a-z, ]+))?\.")


def read_sentence(text: str) -> ReadSentence | None:
    """What one sentence of the grammar says; None of any other text.

    Args:
        text: one sentence; how it is spaced does not matter.
    """
    text = re.sub(r" ([.,:])", r"\1", " ".join(text.split()))
    match = _PATTERN.fullmatch(text)
    if match is None:
        return _read_scene(text)
    kind = next(name for name in match.groupdict() if match[name] and _is_kind(name))
    said = {
        name.removeprefix(kind + "_"): value
        for name, value in match.groupdict().items()
        if name.startswith(kind + "_") and value
    }
    side = said.get("side")
    direction = said.get("direction")
    if side and kind == "enter":
        direction = WAY_FROM_SIDE[side]
    elif side:
        direction = next(way for way, to_side in WAY_TO_SIDE.items() if to_side == side)
    return ReadSentence(kind, said.get("colour"), side, direction, said.get("size"))


def _is_kind(name: str) -> bool:
    return not name.endswith(tuple(f"_{attribute}" for attribute in ATTRIBUTES))


def _read_scene(text: str) -> ReadSentence | None:
    match = _SCENE.fullmatch(text)
    if match is None:
        return None
    colours = tuple(re.split(r", | and ", match["list"])) if match["list"] else ()
    if scene_sentence(colours) != text or not set(colours) <= set(COLOURS):
        return None
    return ReadSentence("scene", colours=colours)
