"""Phrasings of questions that training never shows; only evaluation asks with them.

Every word of them occurs in a phrasing for training or in a sentence of the world.
"""

from __future__ import annotations

from collections.abc import Mapping

UNSEEN: Mapping[str, tuple[str, ...]] = {
    "count": (
        "Tell me the number of objects.",
        "Count the objects in the picture.",
        "How many objects can you see in the scene?",
    ),
    "moving": ("Do you see any object move?", "Is there something moving?", "Do any objects move?"),
    "lit": ("Is it dark in the scene?", "Does the scene look dark now?", "Do you see it dark?"),
    "where": (
        "Where in the scene do you see the {colour} object?",
        "Which part of the picture has the {colour} object?",
        "Where does the picture show the {colour} object?",
    ),
    "largest": (
        "The largest object has which colour?",
        "Tell me the colour of the biggest object.",
        "Which colour does the biggest object have?",
    ),
    "present": (
        "Can you see any {colour} object in the picture?",
        "Does the scene have a {colour} object?",
        "Do you see any {colour} object now?",
    ),
    "last_event": (
        "Tell me the last event.",
        "What was the last thing you did see?",
        "Which thing happened last?",
    ),
    "last_pan": (
        "Tell me the direction of the last pan.",
        "The last pan was in which direction?",
        "Which way was it that the camera did pan last?",
    ),
    "last_zoom": (
        "Tell me the direction of the last zoom.",
        "Was it in or out when the camera did zoom last?",
        "The last zoom was which way?",
    ),
    "last_enter": (
        "Tell me from which side something entered last.",
        "The last object entered from which side?",
        "From where has something entered last?",
    ),
    "last_light": (
        "Tell me the last change of the light.",
        "Was it darker or brighter when the light changed last?",
        "What happened to the light last?",
    ),
    "first_event": (
        "Tell me the first event.",
        "What was the first thing you did see happen?",
        "Which thing happened first?",
    ),
    "first_pan": (
        "Tell me the direction of the first pan.",
        "The first pan was in which direction?",
        "Which way was it that the camera did pan first?",
    ),
    "first_colour": (
        "Tell me which colour the first object that entered had.",
        "The object that entered first had which colour?",
        "Which colour was the object that entered first?",
    ),
    "n_cuts": (
        "Tell me how often the scene changed.",
        "How many scene changes were there?",
        "What was the number of scene changes?",
    ),
    "n_enters": (
        "Tell me how many things entered.",
        "What is the number of things that entered?",
        "How many times did you see something enter?",
    ),
    "ever": (
        "Tell me, did {clause} at any time?",
        "Did you see {clause} at any time?",
        "Have you seen {clause}?",
    ),
    "seen_colour": (
        "Tell me, was there a {colour} object?",
        "At any time, was there a {colour} object?",
        "Has a {colour} object been visible?",
    ),
    "opening": (
        "Tell me how many objects were there at the beginning.",
        "At the beginning, how many objects did you see?",
        "Count the objects at the beginning.",
    ),
}
"""Held out, by topic."""
