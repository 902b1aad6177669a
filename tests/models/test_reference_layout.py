"""The layout of the reference assistant against token ids put together by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.models.reference_layout import (
    EMBEDS_ID,
    Place,
    answer_ids,
    encoder_of,
    question_ids,
    reference_layout,
    rendered_prompt,
)
from edgestream.runtime.errors import PromptInvalid, PromptTooLong
from edgestream.runtime.prompt import MemoryEntry, PromptParts
from edgestream.runtime.prompt_json import layout_as_json, layout_from_json
from edgestream.runtime.prompt_plan import planned_prompt
from edgestream.runtime.recent import DialogueTurn

from ..reference_checkpoints import QUESTIONS, SENTENCES, small_tokenizer
from ..small_tokenizer import TEXT, trained_tokenizer

TOKENIZER = small_tokenizer()
LAYOUT, ENCODE = reference_layout(TOKENIZER), encoder_of(TOKENIZER)
PAN, DARK, ASKED = SENTENCES[0], SENTENCES[3], QUESTIONS[0]
MEMORY = [(12.4, PAN), (127.0, ""), (128.6, DARK)]
TALK = [DialogueTurn(3.0, ASKED, "No.")]


def by_hand(*pieces) -> tuple[int, ...]:
    """Ids of words and special tokens, looked up one by one; a number is so many embeds."""
    ids: list[int] = []
    for piece in pieces:
        if isinstance(piece, int):
            ids += [EMBEDS_ID] * piece
        else:
            found = TOKENIZER.token_to_id(piece)
            assert found is not None, piece
            ids.append(found)
    return tuple(ids)


def words(text: str) -> list[str]:
    return ["▁" + word for word in text.replace(".", "").replace("?", "").split()] + [text[-1]]


WHOLE = by_hand(
    *("<s>", "<memory>", "▁1", "2", 3, *words(PAN), "</s>"),
    *("<memory>", "▁1", "2", "7", 3, "</s>", "<memory>", "▁1", "2", "9", 3, *words(DARK), "</s>"),
    *("<user>", *words(ASKED), "<assistant>", "▁No", ".", "</s>"),
    *("<frame>", 3, "<frame>", 3),
)


def rendered(question, **changes):
    parts = {"memory": MEMORY, "frames": 2, "dialogue": TALK, "tokens_per_frame": 3, **changes}
    return rendered_prompt(LAYOUT, ENCODE, question=question, **parts)


def test_a_prompt_has_the_ids_put_together_by_hand():
    asked = by_hand("<user>", *words(ASKED), "<assistant>")
    assert rendered(ASKED).ids == (*WHOLE, *asked)
    assert rendered(None).ids == (*WHOLE, *by_hand("<assistant>"))


def test_the_device_writes_the_same_prompt():
    """Embeds are numbers there; everything else is what training read."""
    random = np.random.default_rng(0)
    rows = [random.standard_normal((3, 8)).astype(np.float32) for _ in range(5)]
    memory = [
        MemoryEntry(time_s, row, said) for (time_s, said), row in zip(MEMORY, rows[:3], strict=True)
    ]
    parts = PromptParts(ASKED, [(129.0, rows[3]), (130.0, rows[4])], TALK, memory, time_s=130.0)
    layout = layout_from_json(layout_as_json(LAYOUT))  # as a bundle brings it
    plan = planned_prompt(layout, ENCODE, parts, 464)
    training = rendered(ASKED)
    ids, shown = [], []
    for segment in plan.segments:
        shown += [] if segment.embeds is None else [(len(ids), segment.embeds)]
        ids += segment.ids or [EMBEDS_ID] * segment.positions
    assert tuple(ids) == training.ids
    given = {True: rows[:3], False: rows[3:]}
    for place, (at, embeds) in zip(training.places, shown, strict=True):
        assert place.at == at and given[place.is_memory][place.index] is embeds


@pytest.mark.parametrize("question", [*QUESTIONS, None])
def test_a_question_branches_off_the_prefix_that_all_share(question):
    prefix = rendered(None).ids[: -len(question_ids(LAYOUT, ENCODE, None))]
    assert prefix == WHOLE
    assert rendered(question).ids == (*prefix, *question_ids(LAYOUT, ENCODE, question))


def test_places_say_which_frame_goes_where():
    places = rendered(ASKED).places
    assert [(one.index, one.is_memory) for one in places] == [
        (0, True), (1, True), (2, True), (0, False), (1, False),
    ]  # fmt: skip
    assert all(rendered(ASKED).ids[one.at : one.at + 3] == (EMBEDS_ID,) * 3 for one in places)


def test_what_does_not_fit_is_left_out_oldest_first_and_places_follow():
    whole = rendered(None)
    less = rendered(None, budget_tokens=len(whole.ids) - 22)
    assert less.dropped.dialogue == 1 and less.dropped.memory == 2 and less.dropped.frames == 0
    assert less.places[0] == Place(at=5, index=2, is_memory=True)
    with pytest.raises(PromptTooLong):
        rendered(ASKED, budget_tokens=3)


def test_text_alone_has_no_places_that_hold_anything():
    told = rendered(ASKED, tokens_per_frame=0, frames=0)
    assert EMBEDS_ID not in told.ids and all(one.is_memory for one in told.places)
    assert told.ids == tuple(token for token in rendered(ASKED, frames=0).ids if token != EMBEDS_ID)


def test_an_answer_ends_and_silence_is_one():
    assert answer_ids(LAYOUT, ENCODE, DARK) == by_hand(*words(DARK), "</s>")
    assert answer_ids(LAYOUT, ENCODE, "") == by_hand("<silent>", "</s>")
    assert LAYOUT.silent_ids == by_hand("<silent>") and LAYOUT.stop_ids == by_hand("</s>")


def test_a_tokenizer_without_these_tokens_is_refused():
    with pytest.raises(PromptInvalid):
        reference_layout(trained_tokenizer(TEXT))
