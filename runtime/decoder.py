"""From logits to words: which token comes next, when an answer ends, what of it can be shown.

Everything here is arithmetic on what it is handed; the model is behind `step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import EngineNotFinite, SettingsInvalid
from .prompt_layout import PromptLayout
from .values import Float32

FIRST_NUCLEUS = 256
"""Tokens that are sorted at first for `top_p`; eight times as many whenever these do not do."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token is chosen.

    Attributes:
        temperature: of the softmax that is drawn from; 0: always the best token.
        top_k: only this many best tokens are drawn from; 0: all.
        top_p: only the best tokens that together reach this probability, in (0, 1].
        repetition_penalty: a token said before has its logit divided by it where that is positive,
            multiplied where it is negative; 1: none.
        no_repeat_ngram: no run of so many tokens is said twice; 0: any may.
        max_tokens: an answer ends after so many; None: after as many as the layout allows.
        seed: of the draws; each answer begins with it anew.

    Raises:
        SettingsInvalid: a number is out of its range.

    Source: the repetition penalty is that of CTRL (arXiv 1909.05858), equation 1, as
        `transformers` has it; differs: it counts the answer alone, not the prompt.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    max_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.temperature) and math.isfinite(self.repetition_penalty)
        for name, is_right, expected in (
            ("temperature", finite and self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k >= 0, "0 or more tokens"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("repetition_penalty", finite and self.repetition_penalty > 0, "above 0"),
            ("no_repeat_ngram", self.no_repeat_ngram >= 0, "0 or more tokens"),
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "1 or more tokens"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not is_right:
                raise SettingsInvalid(f"{name} is {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer; `is_stop` where it ends the answer and is no part of its text."""

    token_id: int
    is_stop: bool = False


def answer_tokens(
    first_logits: Float32,
    step: Callable[[int], Float32],
    layout: PromptLayout,
    decoding: Decoding,
    cancelled: Callable[[], bool],
) -> Iterator[Token]:
    """An answer token by token, up to its stop token, its limit or a cancel.

    A silent token in the first place is the model's veto: nothing is said.

    Every token but the last has been handed to `step` when the next one comes; the last never is.
    So what is still to be written is one token (`StreamText.answered`), however the answer ends.

    Args:
        first_logits: (vocabulary,) after the prompt.
        step: appends one token, gives the logits after it; they may be a view that the next call
            overwrites.
        layout: its stop tokens end an answer, its silent tokens do in the first place; its limit
            holds where `decoding` names no lower one.
        cancelled: polled before each token.

    Raises:
        EngineNotFinite: the logits are not numbers.
    """
    limit = min(layout.max_answer_tokens, decoding.max_tokens or layout.max_answer_tokens)
    random = np.random.default_rng(decoding.seed)
    said: list[int] = []
    while len(said) < limit and not cancelled():
        logits = step(said[-1]) if said else first_logits
        token = next_token(logits, said, decoding, random)
        is_stop = token in layout.stop_ids or (not said and token in layout.silent_ids)
        yield Token(token, is_stop)
        if is_stop:
            return
        said.append(token)


def next_token(
    logits: Float32,
    said: Sequence[int],
    decoding: Decoding,
    random: np.random.Generator | None = None,
) -> int:
    """The token that comes next; of equal tokens the one with the lowest id counts as the best.

    Args:
        logits: (vocabulary,) float32; not changed.
        said: the answer so far, for the penalty and for n-grams.
        random: what is drawn with; needed where the temperature is above 0.

    Raises:
        EngineNotFinite: the best logit is NaN or infinite, which it is where any is NaN.

    Cost of 150,000 tokens on one core: 0.01 ms greedy, 0.1 ms with both controls, 1 ms with
        `top_k`, 2 to 3 ms from all tokens, more with `top_p` alone where many tokens are likely.
    """
    best = int(logits.argmax())
    if not math.isfinite(logits[best]):
        raise EngineNotFinite(
            f"the decoder's logits hold {logits[best]} at token {best}, expected finite numbers",
            hint="check the bundle with `edgestream verify`",
        )
    controlled = held_back(logits, said, decoding)
    if decoding.temperature == 0 or decoding.top_k == 1:
        return best if controlled is logits else int(controlled.argmax())
    if random is None:
        raise ValueError("a temperature above 0 needs a random generator")
    tokens, weights = candidates(controlled, decoding)
    drawn = random.random() * weights.sum()
    return int(tokens[min(np.searchsorted(weights.cumsum(), drawn, "right"), len(tokens) - 1)])


def candidates(
    logits: Float32, decoding: Decoding
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tokens that may be drawn, and their weights, which need not add up to 1.

    `top_k` first, then `top_p` of what is left, as `transformers` does; differs: of equal tokens
    at the edge those of the lowest ids are taken, so that k tokens are k.
    """
    tokens = _best(logits, decoding.top_k) if decoding.top_k else np.arange(len(logits))
    scaled = (logits[tokens] if decoding.top_k else logits).astype(np.float64)
    weights = np.exp((scaled - scaled.max()) / decoding.temperature)
    if decoding.top_p == 1:
        return tokens, weights
    wanted, count = decoding.top_p * weights.sum(), FIRST_NUCLEUS
    while True:
        order = _best(weights, count)
        order = order[np.argsort(-weights[order], kind="stable")]
        reached = np.flatnonzero(weights[order].cumsum() >= wanted)
        if len(reached) or count >= len(weights):
            kept = order[: reached[0] + 1] if len(reached) else order
            return tokens[kept], weights[kept]
        count *= 8


def _best(values: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Places of the `count` greatest, in rising order; of equal ones the first."""
    if count >= len(values):
        return np.arange(len(values))
    edge = np.partition(values, -count)[-count]
    above, equal = np.flatnonzero(values > edge), np.flatnonzero(values == edge)
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))


def held_back(logits: Float32, said: Sequence[int], decoding: Decoding) -> Float32:
    """Logits with what was said before held back; the same array where nothing is to be held."""
    blocked = _ends_of_ngrams(said, decoding.no_repeat_ngram)
    if not blocked and (decoding.repetition_penalty == 1 or not said):
        return logits
    logits = logits.copy()
    if decoding.repetition_penalty != 1:
        before = np.unique(np.asarray(said, np.int64))
        values, penalty = logits[before], np.float32(decoding.repetition_penalty)
        logits[before] = np.where(values < 0, values * penalty, values / penalty)
    if len(blocked) < len(logits):  # else no token would be left
        logits[list(blocked)] = -np.inf
    return logits


def _ends_of_ngrams(said: Sequence[int], length: int) -> set[int]:
    """Tokens that would end a run of `length` tokens that was said before."""
    if not 0 < length <= len(said):
        return set()
    begun = list(said[len(said) - length + 1 :])
    return {
        said[end]
        for end in range(length - 1, len(said))
        if list(said[end - length + 1 : end]) == begun
    }
