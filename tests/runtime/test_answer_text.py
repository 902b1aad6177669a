"""The text of a growing answer: it only grows, ends whole, never shows half a character."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from edgestream.runtime.answer_text import HALF, KEPT_TOKENS, WINDOW_TOKENS, AnswerText

from ..small_tokenizer import TEXT, trained_tokenizer

TOKENIZER = trained_tokenizer(TEXT + "größer 你好 😀 naïve " * 3)
STOP = TOKENIZER.token_to_id("</s>")
WORDS = st.text(st.characters(codec="utf-8"), max_size=60) | st.lists(
    st.sampled_from(["The ", "dog", " é", "你好", "😀", "👩‍👩‍👧", "\n", "  ", "…", "\ufffd"]),
    max_size=60,
).map("".join)


def decode(ids: Sequence[int]) -> str:
    return TOKENIZER.decode(list(ids), skip_special_tokens=True)


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def shown(ids: Sequence[int], decoder=decode) -> tuple[list[str], AnswerText]:
    """Every text that was shown, each checked to be longer than the one before."""
    text, seen = AnswerText(decoder, (STOP,)), [""]
    for token in ids:
        longer = text.step(token)
        if longer is not None:
            assert longer.startswith(seen[-1]) and len(longer) > len(seen[-1])
            seen.append(longer)
        assert text.text == seen[-1]
    return seen, text


@pytest.mark.medium
@settings(deadline=None)
@given(WORDS)
def test_any_text_grows_to_itself_without_half_a_character(words):
    ids = ids_of(words)
    seen, text = shown([*ids, STOP])
    assert all(words.startswith(part) for part in seen)
    assert text.finish() == decode(ids) == words
    # Only a real replacement character at the very end has to wait until it is the end.
    assert seen[-1] == words.rstrip(HALF)


@pytest.mark.medium
@settings(deadline=None)
@given(st.lists(st.integers(0, TOKENIZER.get_vocab_size() - 1).filter(lambda n: n != STOP)))
def test_any_tokens_end_as_they_decode_together(ids):
    seen, text = shown(ids)
    assert text.finish() == decode(ids) and text.finish().startswith(seen[-1])


def test_half_a_character_waits():
    first, *others = ids_of("漢")
    assert others, "this character is made of several tokens"
    text = AnswerText(decode, (STOP,))
    assert text.step(first) is None and text.text == ""
    assert [text.step(token) for token in others] == [*[None] * (len(others) - 1), "漢"]


def test_an_answer_cut_in_half_a_character_says_so_only_at_the_end():
    ids = ids_of("a 漢")[:-1]
    seen, text = shown(ids)
    assert seen[-1] == "a " and text.finish() == "a " + HALF


def test_stop_tokens_are_no_text():
    seen, text = shown([*ids_of("Yes."), STOP])
    assert seen[-1] == "Yes." == text.finish()
    raw = AnswerText(lambda ids: TOKENIZER.decode(list(ids), skip_special_tokens=False), (STOP,))
    assert raw.step(STOP) is None and raw.finish() == ""


@pytest.mark.parametrize("words", ["The dog runs. ", "你好😀漢", "漢"])
def test_decoding_stays_cheap_however_long_the_answer_is(words):
    lengths: list[int] = []

    def counted(ids: Sequence[int]) -> str:
        lengths.append(len(ids))
        return decode(ids)

    ids = ids_of(words * 400)[:2000]
    _, text = shown(ids, counted)
    assert text.finish() == decode(ids)
    assert max(lengths) <= WINDOW_TOKENS + KEPT_TOKENS and sum(lengths) <= 40 * len(ids)


def test_garbage_is_settled_too():
    broken = [TOKENIZER.token_to_id("Ã")] * 500  # the first byte of a character, again and again
    longest = 0

    def counted(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids)

    _, text = shown(broken, counted)
    assert text.finish() == decode(broken) and longest <= WINDOW_TOKENS + KEPT_TOKENS


@settings(deadline=None)
@given(st.lists(st.sampled_from(["▁The", "▁dog", "s", "▁", "!", "▁é"]), max_size=120))
def test_a_tokenizer_that_drops_the_first_space_grows_as_well(tokens):
    vocabulary = {token: n for n, token in enumerate(["?", "▁The", "▁dog", "s", "▁", "!", "▁é"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.decoder = decoders.Metaspace()

    def spaced(ids: Sequence[int]) -> str:
        return tokenizer.decode(list(ids))

    ids = [vocabulary[token] for token in tokens]
    text = AnswerText(spaced, ())
    for token in ids:
        text.step(token)
    assert text.finish() == spaced(ids)
