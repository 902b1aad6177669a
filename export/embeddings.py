"""The table of token embeddings as a bundle keeps it: half precision, looked up row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.family import Checkpoint

FLOOR_DB = 60.0
"""Least signal to noise of the stored table: float16 keeps 70 dB and more of ordinary weights."""
LARGEST_FLOAT16 = 65504.0


def stored_embeddings(checkpoint: Checkpoint) -> NDArray[Any]:
    """(vocabulary, hidden), float16; float32 where a value is too large for that.

    Half precision halves the largest file of a small model; the rows are widened when they are
    read.
    """
    table = np.ascontiguousarray(checkpoint.embeddings.numpy(), np.float32)
    if np.abs(table).max() > LARGEST_FLOAT16:
        return table
    return table.astype(np.float16)
