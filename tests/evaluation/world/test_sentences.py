"""The grammar: what is told can be read back, and nothing else is read."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world import (
    ATTRIBUTES,
    EVENT_TYPES,
    event_sentence,
    read_sentence,
    scene_sentence,
)

WAYS = ("left", "right", "up", "down")


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_sentence_is_read_as_what_it_says(kind: str) -> None:
    texts = set()
    for colour, side, size in product(
        (None, *ATTRIBUTES["colour"]), ATTRIBUTES["side"], ATTRIBUTES["size"]
    ):
        for way in (*WAYS, "in", "out"):
            if (way in ("in", "out")) != (kind == "zoom"):
                continue
            text = event_sentence(kind, colour, side, way, size)
            read = read_sentence(text)
            assert read is not None and read.kind == kind
            said = (read.colour, read.side, read.direction, read.size)
            for name, value, wanted in zip(
                ATTRIBUTES, said, (colour, side, way, size), strict=True
            ):
                if name != "direction" or kind in ("pan", "zoom", "start"):
                    assert value in (None, wanted), (text, name)
            texts.add(text)
            spaced = text.replace(".", " .").replace(" ", "  ")
            assert read_sentence(spaced) == read, "spaces do not matter"
    assert len(texts) == {"pan": 4, "zoom": 2, "enter": 68, "leave": 36, "start": 36}.get(
        kind, 9 if kind in ("stop", "meet") else 1
    )


def test_the_way_follows_from_the_side() -> None:
    entered, left = (
        read_sentence("Something enters from the top."),
        read_sentence("The red object leaves to the top."),
    )
    assert entered and (entered.side, entered.direction) == ("top", "down")
    assert left and (left.side, left.direction, left.colour) == ("top", "up", "red")


@given(st.lists(st.sampled_from(ATTRIBUTES["colour"]), max_size=5, unique=True))
def test_scenes_are_read(colours: list[str]) -> None:
    read = read_sentence(scene_sentence(colours))
    assert read is not None and read.kind == "scene" and list(read.colours) == colours


def test_scenes_read_as_people_write_them() -> None:
    assert scene_sentence(["red"]) == "One object: red."
    assert scene_sentence(["red", "blue"]) == "Two objects: red and blue."
    assert scene_sentence(["red", "blue", "green"]) == "Three objects: red, blue and green."
    black = read_sentence("The picture is black.")
    assert black is not None and black.kind == "black"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The scene changes",
        "The camera pans in.",
        "The pink object stops.",
        "Two objects: red.",
        "The scene changes. It gets darker.",
        "A red object enters from the left.",
    ],
)
def test_what_is_not_of_the_grammar_is_not_read(text: str) -> None:
    assert read_sentence(text) is None


@given(st.text("acdeghijlmnoprstTS .", max_size=20))
def test_any_text_is_read_or_not(text: str) -> None:
    read = read_sentence(text)
    assert read is None or read.kind in (*EVENT_TYPES, "scene", "black")


def test_an_unknown_type_has_no_sentence() -> None:
    with pytest.raises(ValueError, match="EVENT_TYPES"):
        event_sentence("dance")
