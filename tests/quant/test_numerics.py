"""The laws of the reference numerics: naive ≡ fast, error bounds, idempotence, refusals."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.quant import numerics
from edgestream.quant.numerics import (
    Blocks,
    Channels,
    dequantize_blocks,
    dequantize_int8_per_channel,
    fake_quantized,
    quantize_int4_blocks,
    quantize_int8_blocks,
    quantize_int8_per_channel,
    snr_db,
)
from edgestream.quant.schemes import SCHEMES as ALL_SCHEMES
from edgestream.runtime.errors import WeightsInvalid

from . import naive_numerics

# NF4 has tests of its own; calibrated schemes have the scales of those here.
SCHEMES = {
    name: scheme
    for name, scheme in ALL_SCHEMES.items()
    if scheme.weights != "nf4" and not scheme.is_calibrated
}

QUANTIZE = {4: quantize_int4_blocks, 8: quantize_int8_blocks}


def same(left: np.ndarray, right: np.ndarray) -> None:
    """Equal to the last bit, the sign of a zero included."""
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    assert left.tobytes() == right.tobytes()


@st.composite
def matrices(draw, smallest=1e-8, largest=1e8):
    """(out, in) float32 of many scales, with zeros, ties and opposite peaks."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 70)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = random.standard_normal(shape) * draw(st.sampled_from([smallest, 1.0, largest]))
    kind = draw(st.sampled_from(["plain", "zeros", "ties", "mirror", "row scales"]))
    if kind == "zeros":
        weights *= random.random(shape) < 0.2
        weights[random.random(shape) < 0.2] = -0.0
    elif kind == "ties":  # whole and half steps of a scale that is a power of two
        weights = random.integers(-16, 17, shape) / 2.0 * 2.0 ** random.integers(-8, 8)
    elif kind == "mirror":
        weights = random.choice([-1.0, 1.0, 0.5], shape) * largest
    elif kind == "row scales":
        weights *= 10.0 ** random.integers(-6, 6, (shape[0], 1))
    return np.clip(weights, -3.4e38, 3.4e38).astype(np.float32)


blocks_of = st.sampled_from([16, 32, 64, 3])
bits_of = st.sampled_from([4, 8])


@pytest.mark.medium
@given(matrices(), blocks_of, bits_of)
def test_blocks_are_what_the_loops_give(weights, block, bits):
    fast = QUANTIZE[bits](weights, block)
    codes, scales = naive_numerics.blocks(weights, block, bits)
    same(fast.codes, codes)
    same(fast.scales, scales)
    assert fast.zero_point == {4: 8, 8: 128}[bits]


@given(matrices())
def test_channels_are_what_the_loops_give(weights):
    fast = quantize_int8_per_channel(weights)
    codes, scales = naive_numerics.int8_per_channel(weights)
    same(fast.codes, codes)
    same(fast.scales, scales)


@given(matrices(smallest=1e-44, largest=3e38), blocks_of, bits_of)
@settings(max_examples=50)
def test_the_ends_of_float32_are_what_the_loops_give(weights, block, bits):
    """Denormal scales and the largest numbers, without a warning."""
    same(QUANTIZE[bits](weights, block).codes, naive_numerics.blocks(weights, block, bits)[0])
    same(quantize_int8_per_channel(weights).codes, naive_numerics.int8_per_channel(weights)[0])


@given(matrices(), blocks_of, bits_of)
def test_the_error_of_a_block_is_half_a_scale_or_the_cut(weights, block, bits):
    stored = QUANTIZE[bits](weights, block)
    scale = np.repeat(np.abs(stored.scales), block, axis=1)[:, : weights.shape[1]]
    error = np.abs(dequantize_blocks(stored, block).astype(np.float64) - weights)
    is_cut = (stored.codes == 2**bits - 1) & (error > scale / 2)
    # Three float32 roundings of a number up to 2 ** bits move a tie by this much of a scale.
    slack = 2.0**bits * 3 * 2.0**-24
    assert (error <= scale * (0.5 + slack))[~is_cut].all()
    assert (error <= scale * (1 + slack)).all()


@given(matrices())
def test_the_error_of_a_channel_is_half_a_scale(weights):
    stored = quantize_int8_per_channel(weights)
    error = np.abs(dequantize_int8_per_channel(stored).astype(np.float64) - weights)
    assert (error <= stored.scales[:, None] * (0.5 + 127 * 3 * 2.0**-24)).all()


@given(matrices(), blocks_of, bits_of)
def test_blocks_quantized_twice_are_the_same(weights, block, bits):
    """The peak is code 0 and comes back exactly (a division by 8 or 128 loses nothing), and no
    other weight grows beyond it: so the second scale is the first, bit for bit."""
    once = QUANTIZE[bits](weights, block)
    twice = QUANTIZE[bits](dequantize_blocks(once, block), block)
    same(twice.codes, once.codes)
    np.testing.assert_array_equal(twice.scales, once.scales)


@given(matrices())
def test_channels_quantized_twice_have_the_same_codes(weights):
    """127 · scale is rounded, so the second scale may be one unit in the last place away."""
    once = quantize_int8_per_channel(weights)
    twice = quantize_int8_per_channel(dequantize_int8_per_channel(once))
    same(twice.codes, once.codes)
    np.testing.assert_array_max_ulp(twice.scales, once.scales, 1)


@pytest.mark.medium
@given(matrices(), st.integers(0, 1))
def test_the_axis_is_the_one_with_the_scales(weights, axis):
    across = quantize_int8_per_channel(weights, axis)
    along = quantize_int8_per_channel(weights.T, 1 - axis)
    same(across.codes.T.copy(), along.codes)
    same(across.scales, along.scales)
    assert len(across.scales) == weights.shape[axis] and across.codes.shape == weights.shape
    same(
        dequantize_int8_per_channel(across, axis),
        dequantize_int8_per_channel(along, 1 - axis).T.copy(),
    )


def test_channels_of_a_convolution():
    weights = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)
    stored = quantize_int8_per_channel(weights)
    flat = quantize_int8_per_channel(weights.reshape(6, -1))
    same(stored.codes.reshape(6, -1), flat.codes)
    assert dequantize_int8_per_channel(stored).shape == weights.shape


def test_portions_of_rows_change_nothing(monkeypatch):
    weights = np.random.default_rng(1).standard_normal((37, 96)).astype(np.float32)
    whole = {name: fake_quantized(weights, scheme) for name, scheme in SCHEMES.items()}
    level = snr_db(weights, whole["int4-64"])
    monkeypatch.setattr(numerics, "PORTION", 5 * 96)
    for name, scheme in SCHEMES.items():
        same(fake_quantized(weights, scheme), whole[name])
    assert snr_db(weights, whole["int4-64"]) == pytest.approx(level)


@pytest.mark.parametrize("name", ["int8", "int8-64", "int4-64"])
def test_memory_stays_near_the_result(name):
    weights = np.zeros((1 << 14, 1 << 10), np.float32)  # 64 MB, four portions
    tracemalloc.start()
    fake_quantized(weights, SCHEMES[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * weights.nbytes


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_fake_quantized_is_quantized_and_back(scheme):
    weights = np.random.default_rng(2).standard_normal((8, 150)).astype(np.float32)
    given = weights.copy()
    result = fake_quantized(weights, scheme)
    if scheme.weights == "float32":
        expected = weights
    elif scheme.block is None:
        expected = dequantize_int8_per_channel(Channels(*naive_numerics.int8_per_channel(weights)))
    else:
        bits = {"int4": 4, "int8": 8}[scheme.weights]
        codes, scales = naive_numerics.blocks(weights, scheme.block, bits)
        expected = dequantize_blocks(Blocks(codes, scales, 1 << (bits - 1)), scheme.block)
    same(result, expected)
    same(weights, given)
    assert result.flags.writeable and not np.shares_memory(result, weights)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_zeros_stay_zeros(scheme):
    weights = np.zeros((3, 100), np.float32)
    weights[1, 40] = 2.0
    result = fake_quantized(weights, scheme)
    assert not np.isnan(result).any()
    assert result[0].tolist() == [0.0] * 100 and result[1, 40] == 2.0


DISTRIBUTIONS = {
    "Gaussian": lambda random, shape: random.standard_normal(shape),
    "Student-t": lambda random, shape: random.standard_t(4, shape),
}
# Of a 576 × 1536 matrix, rounded down to a tenth: the least that each scheme must reach.
LEAST_DB = {
    "int8": {"Gaussian": 41.0, "Student-t": 32.0},
    "int8-32": {"Gaussian": 45.4, "Student-t": 42.5},
    "int8-64": {"Gaussian": 44.5, "Student-t": 40.7},
    "int8-128": {"Gaussian": 43.7, "Student-t": 39.0},
    "int4-32": {"Gaussian": 21.2, "Student-t": 18.6},
    "int4-64": {"Gaussian": 20.3, "Student-t": 16.9},
    "int4-128": {"Gaussian": 19.6, "Student-t": 15.3},
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("name", LEAST_DB)
def test_signal_to_noise(name, kind):
    scheme = SCHEMES[name]
    weights = DISTRIBUTIONS[kind](np.random.default_rng(3), (576, 1536)).astype(np.float32)
    level = snr_db(weights, fake_quantized(weights, scheme))
    assert level >= LEAST_DB[name][kind]
    if kind == "Gaussian":
        assert level >= scheme.floor_db
    if name.startswith("int8-"):  # their floors are set under the heavier tails
        assert level >= scheme.floor_db


def test_a_ruined_layer_is_under_the_floor():
    """One weight a thousand times too large in each block: the rest falls on a few codes."""
    weights = np.random.default_rng(4).standard_normal((64, 128)).astype(np.float32)
    spoilt = weights.copy()
    spoilt[:, ::64] = 1000
    near = fake_quantized(spoilt, SCHEMES["int4-64"])
    assert snr_db(np.delete(weights, [0, 64], 1), np.delete(near, [0, 64], 1)) < 1


@given(matrices(), st.floats(-60, 60))
def test_snr_is_that_of_known_noise(weights, level):
    weights = weights.astype(np.float64)
    if not weights.any():
        return
    noisy = weights * (1 + 10 ** (-level / 20))
    assert snr_db(weights, noisy) == pytest.approx(level, abs=1e-6)


def test_snr_at_its_ends():
    zeros, ones = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    assert snr_db(ones, ones) == snr_db(zeros, zeros) == math.inf
    assert snr_db(zeros, ones) == -math.inf
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(4,\)"):
        snr_db(ones, ones.reshape(-1))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_by_name(scheme, bad):
    weights = np.ones((4, 64), np.float32)
    weights[2, 5] = bad
    with pytest.raises(WeightsInvalid, match=r"layers\.3\.q_proj.* 1 of 256 .*\(2, 5\)"):
        fake_quantized(weights, scheme, "layers.3.q_proj")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones((2, 32), np.int32), "int32"),
        (np.ones((0, 32), np.float32), "no weights at all"),
        (np.full((2, 32), 1e300), "infinite"),
    ],
    ids=["integers", "empty", "beyond float32"],
)
def test_what_are_no_weights_is_refused_by_name(weights, said):
    with pytest.raises(WeightsInvalid, match=f"head.*{said}"):
        fake_quantized(weights, SCHEMES["int4-32"], "head")


def test_half_precision_is_converted_first():
    import ml_dtypes

    weights = np.random.default_rng(5).standard_normal((4, 64))
    for dtype in (np.float16, ml_dtypes.bfloat16):
        stored = weights.astype(dtype)
        for scheme in SCHEMES.values():
            same(fake_quantized(stored, scheme), fake_quantized(stored.astype(np.float32), scheme))
    same(
        quantize_int4_blocks(weights, 32).codes,
        quantize_int4_blocks(weights.astype(np.float32), 32).codes,
    )


@pytest.mark.parametrize("shape", [(64,), (2, 3, 64)])
def test_blocks_are_of_a_matrix(shape):
    with pytest.raises(ValueError, match="matrix"):
        quantize_int4_blocks(np.ones(shape, np.float32), 32)
    with pytest.raises(ValueError, match="block 0"):
        quantize_int8_blocks(np.ones((2, 2), np.float32), 0)
