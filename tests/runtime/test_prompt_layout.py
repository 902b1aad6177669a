"""Prompt layouts: JSON round trip, what is refused, and ids derived again from a tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgestream.runtime.errors import PromptInvalid
from edgestream.runtime.prompt_json import layout_as_json, layout_from_json
from edgestream.runtime.prompt_layout import (
    KINDS,
    SLOTS,
    Ids,
    PromptLayout,
    Slot,
    Text,
    check_ids,
    check_layout,
    ids_of,
    single_id,
    with_text_ids,
)

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "runtime" / "schemas" / "prompt.json").read_text())


def byte_tokenizer() -> Tokenizer:
    """Two special tokens, the 256 bytes, and one merge: "]" with a line feed."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", *alphabet, "]Ċ"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("]", "Ċ")]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZER = byte_tokenizer()
COMMA, CLOSE = ids_of(TOKENIZER, ",")[0], ids_of(TOKENIZER, "]\n")[0]
LAYOUT = PromptLayout(
    segments={
        "system": (Text("Watch "), Text("the door.\n")),
        "frame_open": (Text("\n["),),
        "frame": (Slot("embeds"),),
        "frame_join": (Text(","),),
        "frame_close": (Text("]\n"),),
        "user": (Text("User: "), Slot("question"), Text("\n")),
        "assistant": (Text("Assistant:"),),
    },
    dialogue_turn=(Slot("question"), Text("\nAssistant: "), Slot("answer"), Ids((1,))),
    order=("system", "dialogue_turn*", "frame*", "user", "assistant"),
    bos_id=0,
    stop_ids=(1,),
    silent_ids=(COMMA,),
    speak_ids=(CLOSE,),
    time_text="{:.1f}s",
    max_answer_tokens=100,
    token_texts={"bos_id": ("<s>",), "stop_ids": ("</s>",), "silent_ids": (",",),
                 "speak_ids": ("]\n",)},
)  # fmt: skip
FILLED = with_text_ids(LAYOUT, TOKENIZER)

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ids = st.lists(st.integers(0, 300), min_size=1, max_size=3).map(tuple)
pieces = st.lists(
    texts.map(Text) | ids.map(Ids) | st.sampled_from(SLOTS).map(Slot), max_size=4
).map(tuple)


@st.composite
def layouts(draw) -> PromptLayout:
    segments = draw(st.dictionaries(st.sampled_from(KINDS), pieces, min_size=1))
    order = draw(st.lists(st.sampled_from(sorted(segments)), min_size=1, unique=True))
    stars = draw(st.lists(st.sampled_from(["", "*"]), min_size=len(order), max_size=len(order)))
    return PromptLayout(
        segments=segments,
        order=tuple(map("".join, zip(order, stars, strict=True))),
        stop_ids=draw(ids),
        max_answer_tokens=draw(st.integers(1, 500)),
        bos_id=draw(st.none() | st.integers(0, 300)),
        silent_ids=draw(ids | st.just(())),
        speak_ids=draw(ids | st.just(())),
        dialogue_turn=draw(pieces),
        time_text=draw(st.sampled_from([None, "{:.1f}s", "at {} s"])),
        question_on_branch=draw(st.booleans()),
        text_ids=draw(st.dictionaries(texts, ids, max_size=3)),
    )


@pytest.mark.medium
@given(layouts())
def test_json_gives_an_equal_layout_back(layout):
    data = json.loads(json.dumps(layout_as_json(layout)))
    jsonschema.validate(data, SCHEMA)
    assert layout_from_json(data) == layout


def test_the_layout_of_the_formats_page_can_be_read():
    page = (ROOT / "docs" / "FORMATS.md").read_text()
    example = page.split("```json prompt\n")[1].split("```")[0]
    layout = layout_from_json(json.loads(example))
    assert layout.segments["memory_entry"] == (Slot("time"), Slot("embeds"), Slot("said"))
    assert (layout.silent_ids, layout.speak_ids, layout.question_on_branch) == ((11,), (933,), True)


def test_adjacent_texts_are_joined_within_a_segment():
    found = dict(LAYOUT.literal_texts())
    assert found["prompt.segments.system[0]"] == "Watch the door.\n"
    assert found["prompt.segments.user[2]"] == "\n"
    assert FILLED.text_ids["Watch the door.\n"] == ids_of(TOKENIZER, "Watch the door.\n")


@pytest.mark.medium
@given(st.lists(texts, min_size=1, max_size=6))
def test_every_text_comes_back_from_its_ids(parts):
    layout = PromptLayout(
        segments={"system": tuple(map(Text, parts))}, order=("system",), stop_ids=(1,),
        max_answer_tokens=1, token_texts={"stop_ids": ("</s>",)},
    )  # fmt: skip
    filled = with_text_ids(layout, TOKENIZER)
    ((_, joined),) = layout.literal_texts()
    assert joined == "".join(parts)
    assert TOKENIZER.decode(list(filled.text_ids[joined]), skip_special_tokens=False) == joined


BROKEN = {
    "an unknown kind": ({"segments": {"sytem": []}}, "segments names 'sytem'"),
    "an unknown slot": (
        {"segments": {"user": [{"slot": "picture"}]}},
        "segments.user[0] names 'picture'",
    ),
    "a missing segment": (
        {"order": ["system", "memory_entry*"]},
        "order[1] is 'memory_entry*', but the layout has no such segment",
    ),
    "a kind twice": ({"order": ["frame*", "frame"]}, "expected each kind once"),
    "no order": ({"order": []}, "order is []"),
    "no stop ids": ({"stop_ids": []}, "stop_ids is empty"),
    "an id that is no number": ({"stop_ids": ["2"]}, "stop_ids: got ['2']"),
    "a negative id": ({"silent_ids": [-1]}, "silent_ids: got [-1]"),
    "no answer": ({"max_answer_tokens": 0}, "max_answer_tokens: got 0"),
    "an empty text": ({"segments": {"user": [{"text": ""}]}}, "segments.user[0].text: got ''"),
    "two things at once": (
        {"segments": {"user": [{"text": "a", "ids": [1]}]}},
        "segments.user[0] has ['text', 'ids']",
    ),
    "a time without a place": ({"time_text": "now"}, "time_text is 'now'"),
    "a time of another kind": ({"time_text": "{:d}s"}, "time_text is '{:d}s', no format"),
    "an unknown role": ({"token_texts": {"stop": ["</s>"]}}, "token_texts names 'stop'"),
    "something else": ({"segments": []}, "segments: got []"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_layout_that_makes_no_sense_is_refused_with_its_place(change, message):
    data = layout_as_json(FILLED) | change
    if change.get("segments"):
        data |= {"order": [*change["segments"]]}
    with pytest.raises(PromptInvalid) as caught:
        layout_from_json(data)
    assert f"prompt.{message}" in caught.value.message or message in caught.value.message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["segments", "order", "stop_ids", "max_answer_tokens"])
def test_what_must_be_there_is_named_when_it_is_not(name):
    data = layout_as_json(FILLED)
    del data[name]
    with pytest.raises(PromptInvalid, match=f"prompt.{name} is missing"):
        layout_from_json(data)


def test_a_layout_is_frozen_down_to_its_tables():
    with pytest.raises(TypeError):
        FILLED.text_ids[","] = (5,)  # type: ignore[index]


def test_a_filled_layout_passes_its_own_check():
    check_layout(FILLED, TOKENIZER)
    check_layout(layout_from_json(layout_as_json(FILLED)), TOKENIZER)


@pytest.mark.medium
@given(st.data())
def test_one_wrong_id_anywhere_is_refused(data):
    """The refusal that export must show: whichever id is changed, its place is named."""
    changed = json.loads(json.dumps(layout_as_json(FILLED)))
    places = [(changed, role) for role in ("stop_ids", "silent_ids", "speak_ids")]
    places += [(changed["text_ids"], text) for text in changed["text_ids"]]
    places += [(changed["dialogue_turn"][3], "ids"), (changed, "bos_id")]
    table, key = data.draw(st.sampled_from(places))
    is_list = isinstance(table[key], list)
    index = data.draw(st.integers(0, len(table[key]) - 1)) if is_list else 0
    right = table[key][index] if is_list else table[key]
    # An ids piece may name any of the layout's own tokens, so a wrong one is any other.
    own = {0, 1, COMMA, CLOSE} if key == "ids" else {right}
    wrong = data.draw(st.integers(0, 400).filter(lambda token: token not in own))
    table[key] = [*table[key][:index], wrong, *table[key][index + 1 :]] if is_list else wrong
    with pytest.raises(PromptInvalid, match=r"prompt\.") as caught:
        check_layout(layout_from_json(changed), TOKENIZER)
    assert str(wrong) in caught.value.message


def test_a_wrong_token_is_named_with_both_ids():
    wrong = replace(FILLED, silent_ids=(COMMA + 1,))
    with pytest.raises(PromptInvalid) as caught:
        check_layout(wrong, TOKENIZER)
    assert caught.value.message == (
        f"prompt.silent_ids has the id {COMMA + 1} ('-') for ',', but the tokenizer gives [{COMMA}]"
    )


def test_a_layout_that_was_never_filled_in_is_refused():
    with pytest.raises(PromptInvalid, match="with no ids"):
        check_layout(LAYOUT, TOKENIZER)
    with pytest.raises(PromptInvalid, match=r"token_texts names \[\]"):
        check_layout(replace(FILLED, token_texts={}), TOKENIZER)


def test_a_text_that_the_tokenizer_changes_is_refused():
    lowering = byte_tokenizer()
    lowering.normalizer = normalizers.Lowercase()
    with pytest.raises(PromptInvalid, match="read back as 'watch the door"):
        with_text_ids(LAYOUT, lowering)


def test_ids_beyond_the_vocabulary_are_refused_without_a_tokenizer():
    check_ids(FILLED, TOKENIZER.get_vocab_size())
    with pytest.raises(PromptInvalid, match=f"speak_ids has the id {CLOSE}, but the model has"):
        check_ids(FILLED, CLOSE)


def test_a_token_of_several_pieces_is_no_single_id():
    assert single_id(TOKENIZER, "]\n", "close") == CLOSE
    with pytest.raises(PromptInvalid, match=r"prompt\.join is ', '"):
        single_id(TOKENIZER, ", ", "prompt.join")


def test_a_token_to_speak_with_is_known_by_its_first_piece():
    split = byte_tokenizer()
    split.model = models.BPE(vocab=TOKENIZER.get_vocab(), merges=[])
    first = ids_of(split, "]\n")[0]
    check_layout(with_text_ids(replace(LAYOUT, speak_ids=(first,)), split), split)
    with pytest.raises(PromptInvalid, match="speak_ids"):
        check_layout(with_text_ids(replace(LAYOUT, speak_ids=(CLOSE,)), split), split)
