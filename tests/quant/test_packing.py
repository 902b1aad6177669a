"""The layout of MatMulNBits: round trips, the order of halves, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.quant.packing import codes_from_packed, packed_blocks


@st.composite
def codes(draw):
    """(codes, block, bits)."""
    bits = draw(st.sampled_from([4, 8]))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 100)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (
        random.integers(0, 1 << bits, shape).astype(np.uint8),
        draw(st.sampled_from([16, 32, 64])),
        bits,
    )


@given(codes())
def test_packed_codes_come_back(given):
    matrix, block, bits = given
    packed = packed_blocks(matrix, block, bits)
    blocks = -(-matrix.shape[1] // block)
    assert packed.shape == (len(matrix), blocks, block * bits // 8) and packed.dtype == np.uint8
    np.testing.assert_array_equal(codes_from_packed(packed, matrix.shape[1], bits), matrix)


@pytest.mark.medium
@given(codes())
def test_packing_is_what_the_loops_give(given):
    matrix, block, bits = given
    packed = packed_blocks(matrix, block, bits)
    per_byte = 8 // bits
    expected = np.zeros_like(packed)
    for (row, column), code in np.ndenumerate(matrix):
        place = column % block
        expected[row, column // block, place // per_byte] += int(code) << place % per_byte * bits
    np.testing.assert_array_equal(packed, expected)


def test_the_first_code_is_the_low_half():
    packed = packed_blocks(np.array([[1, 2, 3]]), 4)
    assert packed.tolist() == [[[0x21, 0x03]]]
    assert packed_blocks(np.array([[1, 2, 255]]), 4, bits=8).tolist() == [[[1, 2, 255, 0]]]


def test_what_is_no_code_is_refused():
    for bad in (16, -1):
        with pytest.raises(ValueError, match=rf"codes of 4 bits go to .*{bad}"):
            packed_blocks(np.array([[0, bad]]), 32)
    with pytest.raises(ValueError, match=r"codes of 8 bits go to 0 \.\. 256"):
        packed_blocks(np.array([[0, 256]]), 32, bits=8)


@pytest.mark.parametrize(
    ("shape", "block"), [((4,), 32), ((2, 2, 2), 32), ((2, 8), 3), ((2, 8), 0)]
)
def test_what_is_no_matrix_of_codes_is_refused(shape, block):
    with pytest.raises(ValueError, match="packing needs codes"):
        packed_blocks(np.zeros(shape, np.uint8), block)


def test_what_is_no_packed_matrix_is_refused():
    packed = packed_blocks(np.zeros((2, 100), np.uint8), 32)
    for in_dim in (129, 96, 0):  # 97 .. 128 can be meant
        with pytest.raises(ValueError, match=f"128 packed codes a row, for a row of {in_dim}"):
            codes_from_packed(packed, in_dim)
    for wrong in (packed[0], packed.astype(np.int8)):
        with pytest.raises(ValueError, match="uint8"):
            codes_from_packed(wrong, 100)
