"""The next token and the end of an answer: against naive rules and transformers' own."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.decoder import (
    Decoding,
    Token,
    answer_tokens,
    candidates,
    held_back,
    next_token,
)
from edgestream.runtime.errors import EngineNotFinite, SettingsInvalid
from edgestream.runtime.prompt_layout import PromptLayout, Slot

LAYOUT = PromptLayout({"frame": (Slot("embeds"),)}, ("frame*",), (0, 1), max_answer_tokens=8)
# Halves tie often, and are exact in float32.
LOGITS = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=24).map(
    lambda values: np.array(values, np.float32)
)
SAID = st.lists(st.integers(0, 7), max_size=12)


@given(LOGITS)
def test_greedy_is_the_best_and_of_equal_ones_the_first(logits):
    values = logits.tolist()
    best = values.index(max(values))
    assert next_token(logits, [], Decoding()) == best
    random = np.random.default_rng(0)
    assert next_token(logits, [], Decoding(temperature=2.0, top_k=1), random) == best
    nucleus = Decoding(temperature=0.5, top_p=1e-6)
    assert next_token(logits, [], nucleus, random) == best


def naive_candidates(logits, decoding):
    """Sorted by (logit, id), cut at k, then at the first place where the sum is enough."""
    ranked = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    ranked = ranked[: decoding.top_k or len(ranked)]
    scaled = [float(logits[token]) / decoding.temperature for token in ranked]
    weights = [np.exp(value - scaled[0]) for value in scaled]
    reached, wanted, kept = 0.0, decoding.top_p * sum(weights), []
    for token, weight in zip(ranked, weights, strict=True):
        if kept and reached >= wanted:
            break
        kept.append(token)
        reached += weight
    return kept


@given(
    LOGITS,
    st.integers(0, 30),
    st.just(1.0) | st.floats(0.05, 1.0),
    st.sampled_from([0.5, 1.0, 1.7]),
)
def test_top_k_and_top_p_keep_what_a_sorted_list_keeps(logits, top_k, top_p, temperature):
    decoding = Decoding(temperature, top_k, top_p)
    tokens, weights = candidates(logits, decoding)
    # Where the sum reaches top_p to the last bit, the order of summing decides.
    around = [min(top_p * (1 + by), 1.0) for by in (-1e-9, 0.0, 1e-9)]
    expected = [sorted(naive_candidates(logits, replace(decoding, top_p=one))) for one in around]
    assert sorted(tokens.tolist()) in expected
    shares = np.exp((logits[tokens].astype(np.float64) - logits.max()) / temperature)
    np.testing.assert_allclose(weights, shares, rtol=1e-12)


@pytest.mark.parametrize("top_p", [0.5, 0.999])
def test_a_nucleus_of_more_tokens_than_are_sorted_at_first(top_p):
    logits = np.random.default_rng(1).normal(size=5000).astype(np.float32) * 0.1
    decoding = Decoding(1.0, top_p=top_p)
    assert sorted(candidates(logits, decoding)[0]) == sorted(naive_candidates(logits, decoding))


@pytest.mark.medium
@pytest.mark.parametrize(
    "decoding", [Decoding(1.0), Decoding(2.0, top_k=12), Decoding(0.7, 0, 0.9)]
)
def test_draws_follow_the_softmax(decoding):
    logits = np.linspace(-2, 2, 20).astype(np.float32)
    random, count = np.random.default_rng(3), 20_000
    drawn = np.bincount([next_token(logits, [], decoding, random) for _ in range(count)],
                        minlength=20)  # fmt: skip
    tokens, weights = candidates(logits, decoding)
    assert drawn.sum() == drawn[tokens].sum()
    expected = count * weights / weights.sum()
    chi_square = float(((drawn[tokens] - expected) ** 2 / expected).sum())
    freedom = len(tokens) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.medium
@settings(deadline=None)
@given(LOGITS.filter(lambda logits: len(logits) >= 8), SAID, st.sampled_from([0.5, 1.0, 1.3, 2.0]))
def test_the_penalty_is_that_of_transformers(logits, said, penalty):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    expected = logits
    if said:
        processor = transformers.RepetitionPenaltyLogitsProcessor(penalty)
        expected = processor(torch.tensor([said]), torch.from_numpy(logits.copy())[None])[0].numpy()
    before, decoding = logits.copy(), Decoding(repetition_penalty=penalty)
    np.testing.assert_array_equal(held_back(logits, said, decoding), expected)
    assert next_token(logits, said, decoding) == int(expected.argmax())
    assert (logits == before).all(), "the caller's logits stay as they are"


@pytest.mark.medium
@settings(deadline=None)
@given(LOGITS.filter(lambda logits: len(logits) >= 9), SAID, st.integers(1, 4))
def test_blocked_ngrams_are_those_of_transformers(logits, said, length):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    expected = logits
    if said:
        processor = transformers.NoRepeatNGramLogitsProcessor(length)
        expected = processor(torch.tensor([said]), torch.from_numpy(logits.copy())[None])[0].numpy()
    decoding = Decoding(no_repeat_ngram=length)
    np.testing.assert_array_equal(held_back(logits, said, decoding), expected)
    assert next_token(logits, said, decoding) == int(expected.argmax())


def test_where_every_token_is_blocked_none_is():
    assert next_token(np.array([0.0, 1.0], np.float32), [0, 1], Decoding(no_repeat_ngram=1)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(1.0)])
def test_logits_that_are_no_numbers_are_refused(bad, decoding):
    logits = np.zeros(10, np.float32)
    logits[7] = bad
    with pytest.raises(EngineNotFinite, match="at token 7, expected finite"):
        next_token(logits, [], decoding, np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0},
        {"top_p": 1.1}, {"repetition_penalty": 0.0}, {"no_repeat_ngram": -1}, {"max_tokens": 0},
        {"seed": -1},
    ],
)  # fmt: skip
def test_a_number_out_of_its_range_is_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(SettingsInvalid, match=f"{name} is {value}, expected"):
        Decoding(**wrong)


class Model:
    """Says these tokens one after the other and remembers what it was given."""

    def __init__(self, *tokens: int) -> None:
        self.tokens, self.given = tokens, []

    def first(self) -> np.ndarray:
        return self._logits(0)

    def step(self, token: int) -> np.ndarray:
        self.given.append(token)
        return self._logits(len(self.given))

    def _logits(self, place: int) -> np.ndarray:
        logits = np.zeros(10, np.float32)
        logits[self.tokens[place % len(self.tokens)]] = 5.0
        return logits


def never() -> bool:
    return False


def answer(model: Model, decoding: Decoding | None = None, cancelled=never) -> list[Token]:
    return list(answer_tokens(model.first(), model.step, LAYOUT, decoding or Decoding(), cancelled))


@pytest.mark.parametrize("stop", LAYOUT.stop_ids)
def test_a_stop_token_ends_the_answer_and_is_never_appended(stop):
    model = Model(4, 5, stop, 6)
    assert answer(model) == [Token(4), Token(5), Token(stop, True)]
    assert model.given == [4, 5]
    assert answer(Model(stop)) == [Token(stop, True)]


@pytest.mark.parametrize(("asked", "length"), [(None, 8), (3, 3), (50, 8)])
def test_an_answer_ends_at_the_lower_limit_with_one_token_to_be_appended(asked, length):
    model = Model(4, 5, 6)
    said = answer(model, Decoding(max_tokens=asked))
    assert len(said) == length and not any(token.is_stop for token in said)
    assert model.given == [token.token_id for token in said[:-1]]


def test_cancel_is_asked_before_each_token():
    asked, model = [], Model(4, 5, 6)

    def cancelled() -> bool:
        asked.append(len(model.given))
        return len(asked) > 3

    assert [token.token_id for token in answer(model, cancelled=cancelled)] == [4, 5, 6]
    assert asked == [0, 0, 1, 2] and model.given == [4, 5]
    assert answer(Model(4), cancelled=lambda: True) == []


def test_the_same_seed_says_the_same_and_another_something_else():
    def drawn(seed: int) -> list[Token]:
        flat = np.zeros(10, np.float32)
        flat[:2] = -50.0
        decoding = Decoding(1.0, seed=seed)
        return list(answer_tokens(flat, lambda token: flat, LAYOUT, decoding, never))

    assert drawn(1) == drawn(1) and len({tuple(drawn(seed)) for seed in range(5)}) == 5


def test_the_answer_alone_is_what_repetition_counts():
    model = Model(4)
    said = [token.token_id for token in answer(model, Decoding(no_repeat_ngram=1))]
    assert len(set(said)) == len(said) and said[0] == 4


def test_a_greedy_token_of_a_large_vocabulary_costs_well_under_a_millisecond():
    logits = np.random.default_rng(0).normal(size=150_000).astype(np.float32)
    decodings = (Decoding(), Decoding(repetition_penalty=1.2, no_repeat_ngram=3))
    said = list(range(100))
    for decoding in decodings:
        costs_s = []
        for _ in range(50):
            began = time.perf_counter()
            next_token(logits, said, decoding)
            costs_s.append(time.perf_counter() - began)
        assert np.median(costs_s) < 1e-3


def test_a_silent_token_in_the_first_place_is_a_veto_and_later_a_word():
    layout = replace(LAYOUT, silent_ids=(5,))
    steps = []

    def run(*tokens):
        left = [np.eye(8, dtype=np.float32)[token] for token in tokens]

        def step(token):
            steps.append(token)
            return left.pop(0)

        return list(answer_tokens(left.pop(0), step, layout, Decoding(), lambda: False))

    assert run(5, 3, 1) == [Token(5, is_stop=True)] and not steps
    assert run(3, 5, 1) == [Token(3), Token(5), Token(1, is_stop=True)]
