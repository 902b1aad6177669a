"""Which key frames a question is about: one score for each, by a router that is named.

A router reads the question's token embeddings and the key frames of a view, nothing else. Token
embeddings of text and embeds of pictures are rarely trained to be alike, so the similarity of one
token to one frame says little; how it differs from frame to frame says more, and is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .engine import Engine
from .errors import EngineNotFinite, InputMismatch, SettingsInvalid
from .memory.key_frame import MemoryView
from .values import Float32

BLOCK_BYTES = 1 << 20
"""Key frames are read in blocks of so many bytes, so that a question takes little memory."""
ATTENTION_TEMPERATURE = 0.1
"""Of the softmax in `cross-attn`, in cosines. With cosines divided by the square root of the
dimension, as in the origin, every token gets nearly the same mass. Set on planted evidence."""


@dataclass(frozen=True, slots=True, eq=False)
class QuestionRows:
    """A question as routers read it.

    Attributes:
        rows: (tokens, dim) float32, finite: embeddings of the question's own words, without the
            words of the prompt around them.
        indexer: the bundle's `indexer` part, opened; None where it has none. It takes `question`
            (tokens, dim) and `embeds` (frames, frame_tokens, dim), and gives `scores` (frames,),
            all float32.
    """

    rows: Float32
    indexer: Engine | None = None

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or not self.rows.size:
            raise ValueError(f"QuestionRows.rows must be (tokens, dim), got {self.rows.shape}")
        if not np.isfinite(self.rows).all():
            raise ValueError("QuestionRows.rows hold a number that is not finite")


Router: TypeAlias = Callable[[QuestionRows, MemoryView], Float32]


def scores(router: str, question: QuestionRows, view: MemoryView) -> Float32:
    """How much each key frame of a view has to do with a question.

    Args:
        router: its name in ROUTERS.
        question: dim is that of the embeds.
        view: its key frames hold equally many tokens each.

    Returns:
        (key frames,) float32, finite, in the order of the view; more is better. Scores of two
        routers, or of two questions, are not to be compared.

    Raises:
        SettingsInvalid: no router has this name, or it needs a part that the bundle has not.
        InputMismatch: question and key frames, or key frames among themselves, differ in shape.
        EngineError: the indexer failed, or gave other scores than it should.

    Cost: O(question tokens · frame tokens · dim) for each key frame, read up to twice; a few MB of
        memory, and a copy of all embeds for the indexer.
    """
    if router not in ROUTERS:
        raise SettingsInvalid(
            f"got the router {router!r}, expected one of {', '.join(ROUTERS)}",
            hint="set memory.router",
        )
    if not view.key_frames:
        return np.zeros(0, np.float32)
    return ROUTERS[router](question, view)


def recency(view: MemoryView) -> Float32:
    """Minus the seconds between a key frame and the newest one; no question is read."""
    times_s = np.array([frame.time_s for frame in view.key_frames])
    return np.asarray(times_s - times_s.max(), np.float32)


def cos_sim_coarse(question: QuestionRows, view: MemoryView) -> Float32:
    """Cosine of the question's mean row and the frame's mean token, in [-1, 1]."""
    mean = unit_rows(question.rows.mean(axis=0, dtype=np.float64).astype(np.float32))
    return _joined(unit_rows(keys.mean(axis=1)) @ mean for keys in _blocks(question, view))


def cos_sim_fine(question: QuestionRows, view: MemoryView) -> Float32:
    """The one word of the question that tells this frame best from the others, in [-2, 2].

    Of each cosine of a word and a frame token, the mean over all frames of the same word at the
    same token is taken off: a word that fits every frame (`the`), and a background that fits every
    word, say nothing. The largest that is left is the score. So one telling word among many that
    tell nothing decides, and a view of equal frames scores zero.

    Source: late interaction of key-frame-router VLM; differs: the origin takes the mean over words
    of the best cosine, in which one telling word of n is worth 1 / n.
    """
    total = sum(block.sum(axis=1, dtype=np.float64) for block in _cosines(question, view))
    mean = np.asarray(total / len(view.key_frames), np.float32)[:, None]
    return _joined((block - mean).max(axis=(0, 2)) for block in _cosines(question, view))


def cross_attention(question: QuestionRows, view: MemoryView) -> Float32:
    """Share of the question's attention that falls on a frame; all shares add up to 1.

    Each word spreads its attention over the tokens of all frames together.

    Source: `cross-attn` of key-frame-router VLM; differs: the origin takes the softmax within each
    frame, so that every frame gets exactly 1, and divides cosines by the square root of dim.
    """
    # A cosine is at most 1, so that less 1 is what the largest of a softmax may be taken off for.
    sharp = np.float32(1 / ATTENTION_TEMPERATURE)
    masses = [np.exp((block - 1) * sharp).sum(axis=2) for block in _cosines(question, view)]
    mass = np.concatenate(masses, axis=1)
    share: Float32 = (mass / mass.sum(axis=1, keepdims=True)).mean(axis=0)
    return share


def indexer(question: QuestionRows, view: MemoryView) -> Float32:
    """What the bundle's trained indexer says."""
    keys = stacked_embeds(question, view)
    if question.indexer is None:
        raise indexer_missing()
    outputs = question.indexer.run({"question": question.rows, "embeds": keys})
    found = outputs.get("scores")
    if found is None or found.shape != (len(keys),):
        got = sorted(outputs) if found is None else f"scores {found.shape}"
        raise InputMismatch(f"the indexer gave {got}, expected scores ({len(keys)},)")
    if not np.isfinite(found).all():
        raise EngineNotFinite("the indexer gave a score that is not a finite number")
    return np.asarray(found, np.float32)


def indexer_missing() -> SettingsInvalid:
    """What is said where the router needs a part that the bundle has not."""
    return SettingsInvalid(
        "got the router 'indexer' with a bundle that has no indexer part",
        hint="set memory.router to cos_sim_fine, or use a bundle with a trained indexer",
    )


ROUTERS: Mapping[str, Router] = {
    "recency": lambda question, view: recency(view),
    "cos_sim_coarse": cos_sim_coarse,
    "cos_sim_fine": cos_sim_fine,
    "cross-attn": cross_attention,
    "indexer": indexer,
}
"""Name in the settings → router."""


def unit_rows(rows: Float32) -> Float32:
    """(…, dim) float32 rows of length 1; a row of zeros stays zero. No overflow on the way."""
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    length = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    unit: Float32 = np.divide(rows, length, out=rows, where=length > 0)
    return unit


def stacked_embeds(question: QuestionRows, view: MemoryView) -> Float32:
    """(frames, tokens, dim) float32: a copy of all embeds; InputMismatch where they differ."""
    return np.concatenate(list(_blocks(question, view)))


def _blocks(question: QuestionRows, view: MemoryView) -> Iterator[Float32]:
    """The embeds of some key frames at a time, (frames, tokens, dim) float32."""
    shapes = {frame.embeds.shape for frame in view.key_frames}
    if len(shapes) > 1:
        raise InputMismatch(f"got key frames of {sorted(shapes)}, expected one (tokens, dim)")
    (shape,) = shapes
    if shape[1] != question.rows.shape[1]:
        raise InputMismatch(
            f"got a question (tokens, dim) of {question.rows.shape} for key frames of {shape}, "
            "expected the same dim"
        )
    # The cosines with all words are to fit as well as the embeds.
    widest = max(shape[1], len(question.rows))
    count = max(1, BLOCK_BYTES // (4 * shape[0] * widest))
    for first in range(0, len(view.key_frames), count):
        some = view.key_frames[first : first + count]
        yield np.stack([frame.embeds for frame in some], dtype=np.float32)


def _cosines(question: QuestionRows, view: MemoryView) -> Iterator[Float32]:
    """(question tokens, frames, frame tokens) float32, of some key frames at a time."""
    words = unit_rows(question.rows)
    for block in _blocks(question, view):
        flat = words @ unit_rows(block).reshape(-1, block.shape[-1]).T
        yield flat.reshape(len(words), *block.shape[:2])


def _joined(scores: Iterable[Float32]) -> Float32:
    """Scores of all key frames, float32."""
    return np.concatenate([np.asarray(some, np.float32) for some in scores])
