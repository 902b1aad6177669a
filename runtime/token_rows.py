"""Rows of the table of token embeddings: mapped from the bundle, widened as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputMismatch
from .values import Float32


class TokenRows:
    """Token ids in, float32 embeds out.

    Args:
        table: (vocabulary, hidden) float32 or float16, for example `Bundle.embeddings()`.
        width: numbers of a row as the decoder reads it, at least hidden; None for hidden. What a
            decoder adds after its first layers stands behind the embedding; of text it is zero.

    Attributes:
        vocabulary: number of rows.
        hidden: numbers of an embedding.
        width: numbers of a row.
    """

    def __init__(self, table: NDArray[Any], width: int | None = None) -> None:
        # A view without the class of a mapped file: taking rows of that is several times slower.
        self._table = table.view(np.ndarray)
        self.vocabulary, self.hidden = table.shape
        self.width: int = self.hidden if width is None else width
        if self.width < self.hidden:
            raise ValueError(f"a row of {self.width} cannot hold an embedding of {self.hidden}")

    def __call__(self, ids: Sequence[int]) -> Float32:
        """(ids, width) float32.

        Raises:
            InputMismatch: an id has no row.
        """
        rows = np.empty((len(ids), self.width), np.float32)
        for row, token_id in zip(rows, ids, strict=True):
            self.into(token_id, row)
        return rows

    def into(self, token_id: int, row: Float32) -> None:
        """Write one row where it is wanted, (width,) float32; nothing is allocated.

        Raises:
            InputMismatch: the id has no row.
        """
        if not 0 <= token_id < self.vocabulary:
            raise InputMismatch(
                f"got the token id {token_id}, expected one of {self.vocabulary} rows of the "
                "embedding table"
            )
        row[: self.hidden] = self._table[token_id]
        row[self.hidden :] = 0.0
