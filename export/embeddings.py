"""The table of token embeddings as a bundle keeps it: half precision, looked up row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration.parity import Check, noise_check
from ..models.decoder_weights import EMBEDDINGS
from ..models.family import Checkpoint
from ..quant.numerics import PORTION, SignalToNoise
from ..runtime.values import Float32

FLOOR_DB = 60.0
"""Least signal to noise of the stored table: float16 keeps 70 dB and more of ordinary weights."""
LARGEST_FLOAT16 = 65504.0


class StoredEmbeddings:
    """The table that a bundle gets: float16; float32 where a value is too large for that.

    Half precision halves the largest file of a small model; the rows are widened when they are
    read. Of a table in files no more than a portion is in memory.

    Args:
        checkpoint: full precision.

    Attributes:
        dtype: of the stored table.
        shape: (vocabulary, hidden).

    Cost: one pass over the table.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, shape = checkpoint, checkpoint.decoder_weights().shape
        self.shape = (shape.vocabulary, shape.hidden)
        self.dtype: np.dtype[Any] = np.dtype(np.float16)
        if any(np.abs(rows).max() > LARGEST_FLOAT16 for rows in self._portions()):
            self.dtype = np.dtype(np.float32)

    @property
    def n_bytes(self) -> int:
        """Of the stored table."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def write(self, path: Path) -> None:
        """The file, row after row."""
        with path.open("wb") as file:
            for rows in self._portions():
                file.write(np.ascontiguousarray(rows, self.dtype).data)

    def rows(self, ids: Sequence[int]) -> Float32:
        """Rows as the device reads them, (ids, hidden) float32."""
        found = self._checkpoint.token_rows(ids).astype(self.dtype)
        return found.astype(np.float32)

    def check(self) -> Check:
        """What storing it costs, against its floor."""
        noise = SignalToNoise()
        for rows in self._portions():
            noise.add(rows, rows.astype(self.dtype).astype(np.float32))
        return noise_check("embeddings", f"table as {self.dtype}", noise.db, FLOOR_DB)

    def _portions(self) -> Iterator[Float32]:
        """The table some rows at a time, (rows, hidden) float32."""
        weights, own = self._checkpoint.decoder_weights(), self._checkpoint.own_rows
        vocabulary, hidden = self.shape
        step = max(1, PORTION // hidden)
        for start in range(0, vocabulary, step):
            end = min(start + step, vocabulary)
            rows = weights.tensor(EMBEDDINGS, slice(start, end))
            inside = {token - start: row for token, row in own.items() if start <= token < end}
            if inside:
                rows = rows.copy()
            for at, row in inside.items():
                rows[at] = row
            yield rows
