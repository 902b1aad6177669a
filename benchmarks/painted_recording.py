"""Streams of painted shapes without end, as the decoder of the trained checkpoint reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from edgestream.runtime.bundle import Bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.preprocess import model_pixels
from edgestream.runtime.token_rows import TokenRows
from edgestream.runtime.values import Float32
from edgestream.tests.checkpoints import SYSTEM
from edgestream.tests.painted_streams import COLOURS, SHAPES, StreamWriter, painted

KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
PICTURES_OF_A_KIND = 3
PICTURES_SEED = 99
"""None of these pictures was trained on."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that belong together; -1 - p stands for a token of picture p."""

    kind: Literal["prefix", "frame", "text"]
    ids: tuple[int, ...]


class PaintedStream:
    """Episodes one after another: two things, what is said about them, two questions.

    Args:
        writer: of the episodes.
        pictures: (pictures, tokens, hidden) float32 embeds.
        rows: of the tokens.
        prefix_ids: how many tokens begin a stream.
        seed: of this stream.
    """

    def __init__(
        self,
        writer: StreamWriter,
        pictures: Float32,
        rows: TokenRows,
        prefix_ids: int,
        seed: int,
    ) -> None:
        self._writer, self._pictures, self._rows = writer, pictures, rows
        self._prefix_ids, self._random = prefix_ids, np.random.default_rng(seed)

    def episodes(self) -> Iterator[list[Stretch]]:
        """Each ends with the second question and its answer; only the first has the prefix."""
        is_first = True
        while True:
            sequence = self._writer.sequence(self._random)
            ids, is_target = sequence.ids, sequence.is_target
            end = len(ids)
            while is_target[end - 1]:
                end -= 1
            question = end
            while not is_target[question - 1]:
                question -= 1
            told = list(_stretches(ids[self._prefix_ids : question]))
            if is_first:
                told.insert(0, Stretch("prefix", ids[: self._prefix_ids]))
            yield [*told, Stretch("text", ids[question:end]), Stretch("text", ids[end:])]
            is_first = False

    def embeds(self, stretch: Stretch) -> Float32:
        """(tokens, hidden) float32."""
        if stretch.kind == "frame":
            found: Float32 = self._pictures[-1 - stretch.ids[0]]
            return found
        return self._rows(stretch.ids)


def _stretches(ids: Sequence[int]) -> Iterator[Stretch]:
    # Two frames never touch: a comma stands between.
    for token, run in groupby(ids, key=lambda token: min(token, 0)):
        yield Stretch("frame" if token < 0 else "text", tuple(run))


def painted_stream(bundle: Bundle, seed: int) -> PaintedStream:
    """A stream for the decoder of this bundle; another seed, another stream."""
    writer, pictures, rows, prefix_ids = _material(bundle)
    return PaintedStream(writer, pictures, rows, prefix_ids, seed)


@cache
def _material(bundle: Bundle) -> tuple[StreamWriter, Float32, TokenRows, int]:
    random = np.random.default_rng(PICTURES_SEED)
    names, frame_input = KINDS * PICTURES_OF_A_KIND, bundle.manifest.input
    engines = {}
    for role in ("vision", "connector"):
        variant = bundle.variant(role)
        engines[role] = backend_for("cpu").open(bundle.path(variant.file), variant)
    pictures = []
    for name in names:
        pixels = model_pixels(painted(*name, random), frame_input)
        tokens = engines["vision"].run({"pixels": pixels})["tokens"]
        pictures.append(engines["connector"].run({"tokens": tokens})["embeds"][0])
    tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
    prefix_ids = 1 + len(tokenizer.encode(SYSTEM + "\n", add_special_tokens=False).ids)
    writer = StreamWriter(tokenizer, names)
    return writer, np.stack(pictures), bundle.token_rows(), prefix_ids
