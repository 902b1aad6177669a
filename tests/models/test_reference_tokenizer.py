"""The word tokenizer: what is made of its words comes back letter by letter."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.models.reference_tokenizer import SPECIAL, UNKNOWN, is_lossless, word_tokenizer

from ..reference_checkpoints import QUESTIONS, SENTENCES, small_tokenizer

WORDS = sorted({word for text in SENTENCES for word in re.findall(r"\w+", text)})
TOKENIZER = small_tokenizer()


@pytest.mark.medium
@given(st.lists(st.sampled_from([*SENTENCES, *QUESTIONS, "Yes.", "No.", "12", "3."]), min_size=1))
def test_sentences_side_by_side_come_back(sentences):
    assert is_lossless(TOKENIZER, " ".join(sentences))


@given(
    st.lists(
        st.tuples(st.sampled_from([*WORDS, "7", "40", "3600"]), st.sampled_from(["", *".:?"])),
        min_size=1,
        max_size=20,
    )
)
def test_any_row_of_known_words_comes_back(words):
    assert is_lossless(TOKENIZER, " ".join(word + mark for word, mark in words))


def test_one_token_a_word_and_none_for_spaces():
    assert len(TOKENIZER.encode("Two objects: red and blue.").ids) == 7
    assert TOKENIZER.encode("The").ids == TOKENIZER.encode("The camera").ids[:1]
    assert TOKENIZER.encode("1207").tokens == ["▁1", "2", "0", "7"]


@pytest.mark.parametrize("text", ["can't tell", "half-way there", "(red, or blue)", '"red" it is'])
def test_marks_inside_words_and_before_them_come_back(text):
    assert is_lossless(word_tokenizer(text.split()), text)


def test_a_mark_that_was_given_alone_stands_behind_words_too():
    tokenizer = word_tokenizer(["Two", "objects", ":", ".", "-"])
    assert is_lossless(tokenizer, "Two objects: Two - objects.")


def test_another_word_is_unknown_and_the_rest_stays():
    tokens = TOKENIZER.encode("The camera sneezes.").tokens
    assert tokens == ["▁The", "▁camera", UNKNOWN, "."]


def test_the_order_of_the_words_does_not_matter():
    words = [*SENTENCES, *QUESTIONS]
    random.Random(0).shuffle(words)
    assert word_tokenizer(words).to_str() == word_tokenizer(sorted(words)).to_str()


def test_special_tokens_come_first_and_once():
    ids = [TOKENIZER.token_to_id(text) for text in SPECIAL]
    assert ids == list(range(len(SPECIAL)))
    assert len(TOKENIZER.get_vocab()) == TOKENIZER.get_vocab_size()
    assert all(len(TOKENIZER.encode(text).ids) == 1 for text in SPECIAL)
