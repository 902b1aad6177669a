"""Dialogues as a gate learns from them: when to speak, and what was asked for at every frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.cognition_gate import FRAME_READS, QUERY, SPOKEN
from ..models.family import Checkpoint
from ..runtime.last_spoke import spoken_along
from ..runtime.values import Float32
from .dialogue_stream import Said, Watch, streamed
from .dialogues import USER, Dialogue

if TYPE_CHECKING:
    from .features import VideoFeatures

BURN_IN_FRAMES = 16
"""Frames before a row that fill the gate's state and teach nothing: 4 s at four frames a second."""


@dataclass(frozen=True, slots=True, eq=False)
class GateStream:
    """A dialogue along the frames of its video.

    Attributes:
        features: of the whole video.
        first: number of the first frame that is watched; T frames from there on are.
        speaks: (T,) bool: the assistant speaks after this frame, unasked.
        learned: (T,) bool: whether to speak after this frame teaches something.
        asked: (T,) int: row of `queries` that holds at this frame.
        queries: (K, query_dim) float32; row 0 is no query, all zeros.
        texts: of the queries; the first one is empty.
    """

    features: VideoFeatures
    first: int
    speaks: NDArray[np.bool_]
    learned: NDArray[np.bool_]
    asked: NDArray[np.int64]
    queries: Float32
    texts: tuple[str, ...]

    @property
    def times_s(self) -> NDArray[np.float64]:
        """(T,) seconds."""
        return self.features.times_s[self.first : self.first + len(self.speaks)]

    @property
    def spoken(self) -> Float32:
        """(T,) what a gate reads of when it last spoke, had it spoken at the moments of these."""
        return spoken_along(self.times_s, self.speaks)


@dataclass(frozen=True, slots=True)
class GateRow:
    """Frames begin … end - 1 of a stream, of which those from `learned` on are learned."""

    stream: int
    begin: int
    learned: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class GateBatch:
    """Rows side by side; shorter ones have frames at their end that teach nothing.

    Attributes:
        seen: what the gate reads of a frame, by name, (B, T, …) float32.
        dt_s: (B, T) float32, seconds.
        query: (B, T, query_dim) float32; None where the gate reads none.
        speaks, learned: (B, T) float32, 0 or 1.
        taught: (B, T) probabilities of a larger gate; None where nobody has told them.
        spoken: (B, T) float32: when it last spoke, had it spoken as the dialogue has it; None where
            the gate does not read that.
    """

    seen: Mapping[str, Tensor]
    dt_s: Tensor
    query: Tensor | None
    speaks: Tensor
    learned: Tensor
    taught: Tensor | None = None
    spoken: Tensor | None = None

    def to(self, device: str) -> GateBatch:
        """The same on a device."""
        seen = {name: part.to(device) for name, part in self.seen.items()}
        query, taught, spoken = (None if part is None else part.to(device)
                                 for part in (self.query, self.taught, self.spoken))  # fmt: skip
        speaks, learned = self.speaks.to(device), self.learned.to(device)
        return GateBatch(seen, self.dt_s.to(device), query, speaks, learned, taught, spoken)


def query_reader(checkpoint: Checkpoint) -> Callable[[str], Float32]:
    """What turns a text into a query: the mean of the embedding rows of its tokens."""

    def read(text: str) -> Float32:
        ids = checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        mean: Float32 = checkpoint.token_rows(ids).mean(0).astype(np.float32)
        return mean

    return read


def gate_stream(
    dialogue: Dialogue, features: VideoFeatures, read: Callable[[str], Float32], query_dim: int
) -> GateStream:
    """A dialogue, frame by frame.

    What the user says and nobody answers at once is a request: it holds from the next frame on,
    until the next one. What is answered at once is a question, which has nothing to do with a gate.

    Raises:
        DialogueInvalid: the frames end before the dialogue does.
    """
    steps = streamed(dialogue, features.times_s.tolist())
    watched = [step for step in steps if isinstance(step, Watch)]
    first = watched[0].first if watched else 0
    count = sum(step.count for step in watched)
    speaks, learned = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    asked = np.zeros(count, np.int64)
    texts, at, now = [""], 0, 0
    for number, step in enumerate(steps):
        if isinstance(step, Watch):
            learned[at : at + step.learned] = True
            asked[at : at + step.count] = now
            at += step.count
            speaks[at - 1] = step.speaks
        elif step.role == USER and not _is_answered(steps, number):
            texts.append(step.text)
            now = len(texts) - 1
    queries = np.stack([np.zeros(query_dim, np.float32), *(read(text) for text in texts[1:])])
    return GateStream(features, first, speaks, learned, asked, queries, tuple(texts))


def _is_answered(steps: Sequence[Watch | Said], number: int) -> bool:
    following = steps[number + 1] if number + 1 < len(steps) else None
    return isinstance(following, Said) and following.role != USER


def rows_of(
    streams: Sequence[GateStream], most_frames: int, rng: np.random.Generator | None = None
) -> list[GateRow]:
    """All frames of some streams, in rows.

    Args:
        streams: in their order.
        most_frames: of a row, without its burn-in.
        rng: draws where the first cut is; None for always the same places.
    """
    found = []
    for number, stream in enumerate(streams):
        count, cut = len(stream.speaks), most_frames
        if rng is not None and count > most_frames:
            cut = int(rng.integers(most_frames // 2, most_frames + 1))
        learned = 0
        while learned < count:
            end = min(count, cut)
            found.append(GateRow(number, max(0, learned - BURN_IN_FRAMES), learned, end))
            learned, cut = end, end + most_frames
    return found


def batches_of(
    streams: Sequence[GateStream], *, epochs: int, rows: int, most_frames: int, seed: int
) -> list[tuple[GateRow, ...]]:
    """The batches of a stage, in order; the last one is filled up from the beginning."""
    order: list[GateRow] = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, 11, epoch])
        found = rows_of(streams, most_frames, rng)
        order += [found[at] for at in rng.permutation(len(found))]
    while short := -len(order) % rows:
        order += order[:short]
    return [tuple(order[at : at + rows]) for at in range(0, len(order), rows)]


def batch_of(
    rows: Sequence[GateRow],
    streams: Sequence[GateStream],
    reads: Sequence[str],
    first_dt_s: float,
    dropped: Sequence[bool] | None = None,
) -> GateBatch:
    """Some rows of streams, ready to be read.

    Args:
        rows: at least one.
        streams: that they are of.
        reads: of the gate.
        first_dt_s: before a first frame, seconds.
        dropped: of each row, whether its query is left out; None for none of them.
    """
    longest = max(row.end - row.begin for row in rows)
    names = [name for name in FRAME_READS if name in reads]
    told_too = ("dt_s", "query", "spoken", "speaks", "learned")
    parts: dict[str, list[Tensor]] = {name: [] for name in (*names, *told_too)}
    for at, row in enumerate(rows):
        stream = streams[row.stream]
        here = slice(row.begin, row.end)
        for name in names:
            there = getattr(stream.features, name)[
                stream.first + row.begin : stream.first + row.end
            ]
            parts[name].append(_padded(np.asarray(there, np.float32), longest))
        before = np.concatenate([[stream.times_s[0] - first_dt_s], stream.times_s])
        parts["dt_s"].append(_padded(np.diff(before)[here].astype(np.float32), longest))
        asked = stream.queries[stream.asked[here]]
        is_dropped = dropped is not None and dropped[at]
        parts["query"].append(_padded(asked * np.float32(not is_dropped), longest))
        parts["spoken"].append(_padded(stream.spoken[here], longest))
        parts["speaks"].append(_padded(stream.speaks[here].astype(np.float32), longest))
        learned = stream.learned[here].astype(np.float32)
        learned[: row.learned - row.begin] = 0.0
        parts["learned"].append(_padded(learned, longest))
    told = {name: torch.stack(part) for name, part in parts.items()}
    query, spoken = (told[name] if name in reads else None for name in (QUERY, SPOKEN))
    return GateBatch({name: told[name] for name in names}, told["dt_s"], query, told["speaks"],
                     told["learned"], spoken=spoken)  # fmt: skip


def _padded(rows: Float32, longest: int) -> Tensor:
    spare = np.zeros((longest - len(rows), *rows.shape[1:]), np.float32)
    return torch.from_numpy(np.concatenate([rows, spare]))
