"""What the user chose of speaking, and what the model's layout says where they chose nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.memory.key_frame import MemoryView
from edgestream.runtime.speaking import SpeakingRules, context_of

from ..scripted_decoder import LAYOUT, ScriptedDecoder, encode, scripted_model

REFERENCE = Path(__file__).parents[2] / "assets" / "reference"


@pytest.mark.parametrize("context", ["auto", "recent", "continuous"])
@pytest.mark.parametrize(
    ("chosen", "of_the_model", "asked"),
    [("", "", ""), ("", "what?", "what?"), ("who?", "what?", "who?"), ("who?", "", "who?")],
)
def test_an_event_is_asked_about_as_the_user_says_or_else_the_model(
    context, chosen, of_the_model, asked
):
    manifest = open_bundle(REFERENCE, check="manifest").manifest
    made = context_of(
        SpeakingRules(context=context, describe_prompt=chosen),
        scripted_model(ScriptedDecoder({}), 512),
        manifest,
        replace(LAYOUT, describe=of_the_model),
        encode,
        MemoryView,
    )
    assert made.rules.describe_prompt == asked
