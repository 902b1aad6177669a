"""NF4 is what onnxruntime and bitsandbytes write and multiply with, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.quant.nf4 import LEVELS, Nf4, dequantize_nf4, quantize_nf4
from edgestream.quant.numerics import snr_db
from edgestream.quant.schemes import SCHEMES

SHAPES = [(16, 128), (7, 64), (5, 192)]


def weights_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    weights = random.standard_normal(shape) * 2.0 ** random.integers(-9, 9, (shape[0], 1))
    weights[random.random(shape) < 0.1] = 0.0
    weights[0] = 0.0
    weights[1] = -0.0
    return weights.astype(np.float32)


@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bytes_are_those_of_onnxruntime(shape, block):
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    weights = weights_of(shape)
    quantizer = MatMulBnb4Quantizer(None, MatMulBnb4Quantizer.NF4, block)
    packed, peaks = quantizer.bnb4_block_quant(np.ascontiguousarray(weights.T))
    ours = quantize_nf4(weights, block)
    np.testing.assert_array_equal(ours.packed, packed)
    np.testing.assert_array_equal(ours.peaks, peaks)


@pytest.mark.slow
@pytest.mark.parametrize("block", [64, 128])
def test_bytes_and_weights_are_those_of_bitsandbytes(block):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    import torch

    weights = weights_of((16, 256), seed=1)
    packed, state = bitsandbytes.functional.quantize_4bit(
        torch.from_numpy(weights), blocksize=block, quant_type="nf4", compress_statistics=False
    )
    ours = quantize_nf4(weights, block)
    np.testing.assert_array_equal(ours.packed, packed.numpy().reshape(-1))
    np.testing.assert_array_equal(ours.peaks, state.absmax.numpy())
    theirs = bitsandbytes.functional.dequantize_4bit(packed, state).numpy()
    np.testing.assert_array_equal(dequantize_nf4(ours, block, weights.shape), theirs)


def test_a_level_becomes_itself_and_halfway_the_lower_one():
    row = np.concatenate([LEVELS, LEVELS, LEVELS, LEVELS])[None] * np.float32(3)
    there = dequantize_nf4(quantize_nf4(row, 64), 64, (1, 64))
    np.testing.assert_array_equal(there, row)


def test_gaussian_weights_keep_their_floor():
    weights = np.random.default_rng(2).standard_normal((576, 1536)).astype(np.float32)
    level = snr_db(weights, dequantize_nf4(quantize_nf4(weights, 64), 64, weights.shape))
    assert level > SCHEMES["nf4-64"].floor_db


def test_rows_that_fill_no_whole_blocks_are_refused():
    with pytest.raises(ValueError, match="whole blocks of 64"):
        quantize_nf4(np.ones((4, 96), np.float32), 64)


def test_codes_beyond_what_is_there_are_levels_of_the_largest():
    packed = np.array([0xF0], np.uint8)
    found = dequantize_nf4(Nf4(packed, np.array([2.0], np.float32)), 2, (1, 2))
    assert found.tolist() == [[2.0, -2.0]]
