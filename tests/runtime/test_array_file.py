"""Files of arrays: an array in pieces is written as the whole one would be, byte for byte."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.array_file import ArrayPieces, read_arrays, write_arrays

shapes = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), max_size=5)


def written(array):
    file = io.BytesIO()
    write_arrays(file, {"first": np.arange(3), "numbers": array})
    return file.getvalue()


@pytest.mark.medium
@given(shapes, st.sampled_from([np.float16, np.float32, np.uint8, np.int64]))
def test_pieces_give_the_bytes_of_the_whole(shapes, dtype):
    pieces = [np.arange(np.prod(shape)).reshape(shape).astype(dtype) for shape in shapes]
    turned = tuple(np.asfortranarray(piece) for piece in pieces)
    whole = np.concatenate([np.empty(0, dtype), *(piece.ravel() for piece in pieces)])
    array = ArrayPieces(turned, np.dtype(dtype))
    assert array.size == whole.size
    np.testing.assert_array_equal(np.asarray(array), whole, strict=True)
    assert written(array) == written(whole)


def test_what_was_written_in_pieces_is_read_as_one_array(tmp_path):
    pieces = (np.ones((2, 3), np.float16), np.zeros(4, np.float16))
    write_arrays(tmp_path / "a.npz", {"a": ArrayPieces(pieces, np.dtype(np.float16))})
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["a"], [1.0] * 6 + [0.0] * 4)
