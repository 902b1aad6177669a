"""The dialogues of a LoRA run, cut into rows and put into batches: a matter of the recipe alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import DialogueInvalid
from .dialogue_stream import Said, streamed
from .dialogues import ASSISTANT, Dialogue
from .live_rows import Atom, LiveRow, RowWriter, Seen, atoms_of, stretches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .features import VideoFeatures


@dataclass(frozen=True, slots=True, eq=False)
class LiveStream:
    """A dialogue with the features of its video.

    Attributes:
        dialogue: as it was read.
        features: of the whole video.
        atoms: of `atoms_of`; frames are numbers of rows of the features.
        costs: tokens of each atom.
    """

    dialogue: Dialogue
    features: VideoFeatures
    atoms: tuple[Atom, ...]
    costs: tuple[int, ...]

    @property
    def may_begin(self) -> list[bool]:
        """Whether a stretch may begin before an atom; not before what the assistant says."""
        return [isinstance(one, Seen) or one.role != ASSISTANT for one in self.atoms]


@dataclass(frozen=True, slots=True)
class Piece:
    """Atoms begin … end - 1 of a stream, of which those from `learned` on are learned."""

    stream: int
    begin: int
    learned: int
    end: int


def live_stream(
    dialogue: Dialogue, features: VideoFeatures, writer: RowWriter, standby_s: float = 0.0
) -> LiveStream:
    """A dialogue along the frames that the device reads.

    Those without a change it does not read (`context.skip_still`): their embeds are those of the
    frame before. Where something is said the frame is read all the same.

    Raises:
        DialogueInvalid: the frames end before the dialogue does.
    """
    read = _frames_read(dialogue, features)
    times_s = features.times_s[read]
    steps = streamed(dialogue, times_s.tolist())
    atoms = tuple(
        replace(atom, frame=int(read[atom.frame])) if isinstance(atom, Seen) else atom
        for atom in atoms_of(steps, times_s.tolist(), standby_s)
    )
    return LiveStream(dialogue, features, atoms, tuple(writer.costs(atoms)))


def _frames_read(dialogue: Dialogue, features: VideoFeatures) -> np.ndarray:
    seen = [features.tokens, *([] if features.states is None else [features.states])]
    is_read = np.ones(len(features.times_s), np.bool_)
    for at in range(1, len(is_read)):
        is_read[at] = any(not np.array_equal(part[at], part[at - 1]) for part in seen)
    for turn in dialogue.turns:
        if turn.role == ASSISTANT:
            at = int(np.searchsorted(features.times_s, turn.time_s - 1e-3))
            is_read[min(at, len(is_read) - 1)] = True
    found: np.ndarray = np.flatnonzero(is_read)
    return found


def pieces_of(
    streams: Sequence[LiveStream], most_tokens: int, rng: np.random.Generator | None = None
) -> list[Piece]:
    """All stretches of some streams.

    Args:
        streams: in their order.
        most_tokens: of a stretch, about.
        rng: draws where the first cut is; None for always the same places.
    """
    found = []
    for number, stream in enumerate(streams):
        first = None if rng is None else int(rng.integers(most_tokens // 2, most_tokens + 1))
        if sum(stream.costs) <= most_tokens:
            first = None  # it needs no cut
        for begin, learned, end in stretches(stream.costs, stream.may_begin, most_tokens, first):
            found.append(Piece(number, begin, learned, end))
    return found


def batches_of(
    streams: Sequence[LiveStream], *, epochs: int, rows: int, most_tokens: int, seed: int
) -> list[tuple[Piece, ...]]:
    """The batches of a run, in order; the last one is filled up from the beginning.

    Args:
        streams: that are trained on.
        epochs: how often each is read, cut at other places each time.
        rows: of a batch.
        most_tokens: of a row, about.
        seed: of the order and the cuts.
    """
    order: list[Piece] = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, 5, epoch])
        pieces = pieces_of(streams, most_tokens, rng)
        order += [pieces[at] for at in rng.permutation(len(pieces))]
    short = -len(order) % rows
    while short > 0:
        order += order[:short]
        short = -len(order) % rows
    return [tuple(order[at : at + rows]) for at in range(0, len(order), rows)]


def row_of(piece: Piece, streams: Sequence[LiveStream], writer: RowWriter) -> LiveRow:
    """The row of a piece."""
    stream = streams[piece.stream]
    atoms = stream.atoms[piece.begin : piece.end]
    times_s = stream.features.times_s
    return writer.row(atoms, times_s.tolist(), piece.learned - piece.begin)


def shown_frames(
    rows: Sequence[LiveRow], features: Sequence[VideoFeatures], places: Tensor, device: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a batch of rows shows.

    Args:
        rows: of the batch.
        features: of the video of each row.
        places: (embeds, 4) of `PackedBatch`.
        device: of the model.

    Returns:
        places with frames counted among those that are returned; tokens (frames, n, dim) and states
        (frames, width) float32, the latter None without a gate.
    """
    pairs, which = torch.unique(places[:, [0, 2]].cpu(), dim=0, return_inverse=True)
    counted = torch.stack([places[:, 0], places[:, 1], which.to(places.device), places[:, 3]], 1)
    tokens, states = [], []
    for row in range(len(rows)):
        frames = pairs[pairs[:, 0] == row, 1].numpy()
        tokens.append(np.asarray(features[row].tokens[frames], np.float32))
        if (known := features[row].states) is not None:
            states.append(np.asarray(known[frames], np.float32))
    shown = torch.from_numpy(np.concatenate(tokens)).to(device)
    heard = torch.from_numpy(np.concatenate(states)).to(device) if states else None
    return counted, shown, heard


def check_words(dialogues: Sequence[Dialogue], tokenizer: Tokenizer) -> None:
    """Refuse a text with a word that the model's tokenizer does not have.

    Raises:
        DialogueInvalid: names file and line, the word, and what there is that is near.
    """
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown is None or tokenizer.token_to_id(unknown) is None:
        return
    unknown_id = tokenizer.token_to_id(unknown)
    for dialogue in dialogues:
        for turn in dialogue.turns:
            coded = tokenizer.encode(turn.text, add_special_tokens=False)
            if unknown_id in coded.ids:
                begin, end = coded.offsets[coded.ids.index(unknown_id)]
                raise DialogueInvalid(
                    f"{dialogue.place}: turns: the word {turn.text[begin:end].strip()!r} of "
                    f"{turn.text!r} is not in the vocabulary of this checkpoint",
                    hint="say it in its words (tokenizer.json), or train a larger model",
                )


def split_held_out(
    dialogues: Sequence[Dialogue], share: float, seed: int
) -> tuple[tuple[Dialogue, ...], tuple[Dialogue, ...]]:
    """(trained on, held out): whole videos, at least one of two; none where there is one alone."""
    videos = sorted({str(one.video) for one in dialogues})
    count = min(max(1, round(share * len(videos))), len(videos) - 1) if share > 0 else 0
    drawn = np.random.default_rng([seed, 7]).permutation(len(videos))[:count]
    held = {videos[at] for at in drawn}
    return (
        tuple(one for one in dialogues if str(one.video) not in held),
        tuple(one for one in dialogues if str(one.video) in held),
    )


def sentences_of(stream: LiveStream) -> Iterator[tuple[float, str]]:
    """(time in seconds, text) of what the assistant says unasked: when it is to speak."""
    before: Seen | None = None
    for number, atom in enumerate(stream.atoms):
        if isinstance(atom, Seen):
            before = atom
        elif atom.role == ASSISTANT and before is not None:
            last = stream.atoms[number - 1]
            if not isinstance(last, Said):
                yield float(stream.features.times_s[before.frame]), atom.text
