"""GPTQ: less error in what a layer says than rounding, and a proof that finds any changed code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.quant.gptq import misfits, quantize_int4_gptq, weighted_error
from edgestream.quant.numerics import Blocks, dequantize_blocks, quantize_int4_blocks
from edgestream.runtime.errors import WeightsInvalid

OUT, IN, BLOCK = 24, 160, 32


def read_by_a_layer(seed: int, columns: int = IN) -> np.ndarray:
    """(samples, columns): inputs that go together and are of different sizes."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((400, columns)) @ random.standard_normal((columns, columns))
    return mixed * np.exp(random.standard_normal(columns))


def hessian_of(inputs: np.ndarray) -> np.ndarray:
    return inputs.T @ inputs / len(inputs)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).standard_normal((OUT, IN)).astype(np.float32)


@pytest.fixture(scope="module")
def hessian():
    return hessian_of(read_by_a_layer(1))


@pytest.mark.medium
@given(st.integers(0, 2**32 - 1), st.sampled_from([(4, 64, 32), (9, 100, 64), (16, 96, 128)]))
def test_it_loses_less_of_the_outputs_than_rounding_does(seed, shape):
    rows, columns, block = shape
    weights = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    inputs = read_by_a_layer(seed, columns)
    hessian = hessian_of(inputs)
    chosen = quantize_int4_gptq(weights, block, hessian)
    ours = dequantize_blocks(chosen, block)
    rounded = dequantize_blocks(quantize_int4_blocks(weights, block), block)
    assert weighted_error(weights, ours, hessian) < weighted_error(weights, rounded, hessian)
    said = np.square(inputs @ (ours - weights).T).sum() / len(inputs)
    assert weighted_error(weights, ours, hessian) == pytest.approx(said, rel=1e-6)


def test_inputs_that_do_not_go_together_leave_the_nearest_codes(weights):
    """Nothing can take up an error; the scales are those of rounding in any case."""
    nearest = quantize_int4_blocks(weights, BLOCK)
    chosen = quantize_int4_gptq(weights, BLOCK, np.diag(np.arange(1.0, IN + 1)))
    np.testing.assert_array_equal(chosen.codes, nearest.codes)
    np.testing.assert_array_equal(chosen.scales, nearest.scales)
    correlated = quantize_int4_gptq(weights, BLOCK, hessian_of(read_by_a_layer(2)))
    np.testing.assert_array_equal(correlated.scales, nearest.scales)
    assert (correlated.codes != nearest.codes).any()


def test_rows_do_not_depend_on_each_other(weights, hessian):
    whole = quantize_int4_gptq(weights, BLOCK, hessian)
    parts = [quantize_int4_gptq(part, BLOCK, hessian) for part in (weights[:7], weights[7:])]
    np.testing.assert_array_equal(whole.codes, np.concatenate([part.codes for part in parts]))


def test_the_size_of_the_inputs_does_not_matter(weights, hessian):
    one, other = (quantize_int4_gptq(weights, BLOCK, hessian * size) for size in (1, 2.0**20))
    np.testing.assert_array_equal(one.codes, other.codes)


def test_inputs_that_are_never_anything_but_zero_are_rounded(weights):
    inputs = read_by_a_layer(3)
    inputs[:, [5, 90]] = 0
    chosen = quantize_int4_gptq(weights, BLOCK, hessian_of(inputs))
    nearest = quantize_int4_blocks(weights, BLOCK)
    np.testing.assert_array_equal(chosen.codes[:, [5, 90]], nearest.codes[:, [5, 90]])


def test_a_row_of_zeros_stays_zero(hessian):
    weights = np.zeros((2, IN), np.float32)
    chosen = quantize_int4_gptq(weights, BLOCK, hessian)
    assert not dequantize_blocks(chosen, BLOCK).any()


def test_stored_codes_fit_also_with_inputs_of_another_processor(weights, hessian):
    chosen = quantize_int4_gptq(weights, BLOCK, hessian)
    assert misfits(weights, BLOCK, hessian, chosen) == 0
    noise = 1 + 1e-6 * np.random.default_rng(4).standard_normal(hessian.shape)
    assert misfits(weights, BLOCK, hessian * (noise + noise.T) / 2, chosen) == 0


@pytest.mark.medium
@given(st.integers(0, OUT - 1), st.integers(0, IN - 1), st.sampled_from([-3, -1, 1, 3]))
def test_any_changed_code_is_found(row, column, step):
    weights = np.random.default_rng(0).standard_normal((OUT, IN)).astype(np.float32)
    hessian = hessian_of(read_by_a_layer(1))
    chosen = quantize_int4_gptq(weights, BLOCK, hessian)
    codes = chosen.codes.copy()
    codes[row, column] = (int(codes[row, column]) + step) % 16
    assert misfits(weights, BLOCK, hessian, Blocks(codes, chosen.scales, 8)) > 0


def test_rounded_codes_are_not_taken_for_chosen_ones(weights, hessian):
    nearest = quantize_int4_blocks(weights, BLOCK)
    assert misfits(weights, BLOCK, hessian, nearest) > OUT


def test_what_was_never_read_or_is_no_number_is_refused(weights, hessian):
    with pytest.raises(ValueError, match=r"q_proj: got a Hessian \(3, 3\)"):
        quantize_int4_gptq(weights, BLOCK, np.eye(3), "q_proj")
    broken = hessian.copy()
    broken[4, 4] = np.nan
    with pytest.raises(WeightsInvalid, match="reads in calibration is not finite"):
        quantize_int4_gptq(weights, BLOCK, broken)
