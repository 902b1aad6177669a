"""What was asked and answered, bounded in turns and bytes, and found again by what it was about."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import TypeAlias

import numpy as np

from ..errors import InputMismatch
from ..recent import DialogueTurn
from ..values import Float32

EncodeRows: TypeAlias = "Callable[[str], Float32]"
"""The token embeddings of a text, (tokens, dim) float32: always the same row for the same token."""

# Of a score, how much is recency: enough to choose between turns about the same, too little to
# outweigh a word that only one turn has. A guess, to be measured on real talk.
RECENCY_SHARE = 0.1
# Age at which recency has fallen to a half, seconds. A guess, to be measured.
RECENCY_HALF_LIFE_S = 600.0


class DialogueMemory:
    """The newest questions and answers, in the order of the time that they are about.

    `add` belongs to one thread; any thread may take a view at any time. State: the turns.

    Args:
        max_turns: kept at most; 0 keeps nothing.
        max_bytes: of their words in UTF-8, at most.
    """

    def __init__(self, *, max_turns: int = 256, max_bytes: int = 64_000) -> None:
        if max_turns < 0 or max_bytes < 1:
            raise ValueError(f"got max_turns={max_turns} and max_bytes={max_bytes}")
        self._max_turns, self._max_bytes = max_turns, max_bytes
        self.reset()

    @property
    def n_bytes(self) -> int:
        """Size of the words that are kept, in UTF-8, bytes."""
        return self._n_bytes

    def reset(self) -> None:
        """Forget everything."""
        self._turns: tuple[DialogueTurn, ...] = ()
        self._n_bytes = 0

    def restore(self, turns: Iterable[DialogueTurn]) -> None:
        """Continue from turns, for example from a view or from `DialogueLog.load`."""
        self.reset()
        for turn in turns:
            self.add(turn)

    def view(self) -> tuple[DialogueTurn, ...]:
        """What is kept now, in the order of time; it never changes."""
        return self._turns

    def forget_before(self, time_s: float) -> None:
        """Let go of the turns that are about the time before, seconds."""
        first = bisect_left(self._turns, time_s, key=lambda kept: kept.time_s)
        self._n_bytes -= sum(turn.n_bytes for turn in self._turns[:first])
        self._turns = self._turns[first:]

    def add(self, turn: DialogueTurn) -> None:
        """Keep a turn, and let the oldest go that have no room then.

        A turn that alone is larger than `max_bytes` is not kept, and nothing goes for it; one that
        says the same of the same moment is not kept twice.
        """
        if not math.isfinite(turn.time_s):
            raise ValueError(f"got a turn at {turn.time_s} s, expected a finite time")
        if turn.n_bytes > self._max_bytes or turn in self._turns:
            return
        place = bisect_right(self._turns, turn.time_s, key=lambda kept: kept.time_s)
        turns = (*self._turns[:place], turn, *self._turns[place:])
        n_bytes = self._n_bytes + turn.n_bytes
        first = 0
        while len(turns) - first > self._max_turns or n_bytes > self._max_bytes:
            n_bytes -= turns[first].n_bytes
            first += 1
        self._turns, self._n_bytes = turns[first:], n_bytes


def likeliest(
    turns: tuple[DialogueTurn, ...], question_rows: Float32, encode_rows: EncodeRows, most: int
) -> tuple[DialogueTurn, ...]:
    """The turns that a question is most likely about, in the order of time; see `scored`.

    Args:
        turns: in the order of time.
        question_rows: (tokens, dim) float32, of the question's tokens.
        encode_rows: gives the rows of a text, out of the same table.
        most: at most so many; of equally likely ones the newest.

    Raises:
        InputMismatch: the question's rows are no finite table of the turns' width.
    """
    scores = scored(turns, question_rows, encode_rows)
    best = sorted(range(len(turns)), key=lambda at: (scores[at], at), reverse=True)[:most]
    return tuple(turns[at] for at in sorted(best))


def scored(
    turns: tuple[DialogueTurn, ...], question_rows: Float32, encode_rows: EncodeRows
) -> list[float]:
    """How likely a question is about each turn.

    The cosine of the mean token embeddings, blended with recency. A token counts the less in a
    mean, the more turns have it, and nothing where all have it: "what is the" tells no turn from
    another, so the cosine of a turn that is alone is 0.

    Args:
        turns: in the order of time; recency is counted back from the last.
        question_rows, encode_rows: see `likeliest`.

    Returns:
        One score per turn, about -1 to 1, no unit.

    Cost: every turn is encoded twice, so that the rows of one turn are held at a time.
    Source: the weights are inverse document frequencies (Spärck Jones 1972).
    """
    _check(question_rows)
    if not turns:
        return []
    found_in: Counter[bytes] = Counter()
    for turn in turns:
        found_in.update(set(_tokens(encode_rows(_words(turn)))))
    question = _mean(question_rows, found_in, len(turns))
    scores = []
    for turn in turns:
        rows = encode_rows(_words(turn))
        if rows.shape[1] != question_rows.shape[1]:
            raise InputMismatch(
                f"the rows of the question are {question_rows.shape[1]} numbers wide, expected the "
                f"{rows.shape[1]} of the dialogue"
            )
        recency = 0.5 ** ((turns[-1].time_s - turn.time_s) / RECENCY_HALF_LIFE_S)
        cosine = float(question @ _mean(rows, found_in, len(turns)))
        scores.append((1 - RECENCY_SHARE) * cosine + RECENCY_SHARE * recency)
    return scores


def _check(question_rows: Float32) -> None:
    if question_rows.ndim != 2 or not np.isfinite(question_rows).all():
        raise InputMismatch(
            f"the question's token embeddings have the shape {question_rows.shape}, expected "
            "finite numbers of the shape (tokens, dim)"
        )


def _words(turn: DialogueTurn) -> str:
    return f"{turn.question} {turn.answer}"


def _tokens(rows: Float32) -> list[bytes]:
    """A name for the token of each row: the same bytes are the same token."""
    return [blake2b(row.tobytes(), digest_size=8).digest() for row in rows]


def _mean(rows: Float32, found_in: Counter[bytes], turns: int) -> Float32:
    """The weighted mean of rows, of unit length; zeros where there are none."""
    weights = [math.log(turns / max(1, found_in[token])) for token in _tokens(rows)]
    mean = np.asarray(weights, np.float32) @ rows
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
