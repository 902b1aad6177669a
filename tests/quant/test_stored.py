"""One function for every scheme of a matrix: stored, read back, compared, cut into rows."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.quant.schemes import SCHEMES
from edgestream.quant.stored import (
    Stored,
    differing,
    gain_db,
    joined,
    operator_of,
    quantized_matrix,
    restored_matrix,
    rows_of,
)

IN_BLOCKS = {name: scheme for name, scheme in SCHEMES.items() if scheme.block}
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((12, 192)).astype(np.float32)
READ = RANDOM.standard_normal((300, 192)) @ RANDOM.standard_normal((192, 192))
HESSIAN = READ.T @ READ / 300


@pytest.mark.parametrize("scheme", IN_BLOCKS.values(), ids=IN_BLOCKS)
def test_what_is_stored_is_near_and_equal_to_itself(scheme):
    stored = quantized_matrix(WEIGHTS, scheme, HESSIAN)
    restored = restored_matrix(stored, scheme, WEIGHTS.shape)
    assert np.abs(restored - WEIGHTS).max() < 2 and restored.dtype == np.float32
    assert differing(stored, WEIGHTS, scheme, HESSIAN) == 0


@pytest.mark.parametrize("scheme", IN_BLOCKS.values(), ids=IN_BLOCKS)
@pytest.mark.parametrize("which", [0, 1])
def test_one_changed_number_is_counted(scheme, which):
    stored = quantized_matrix(WEIGHTS, scheme, HESSIAN)
    arrays = [array.copy() for array in stored]
    for at in (0, arrays[which].size - 1):
        arrays[which].flat[at] += 1
        assert differing(Stored(*arrays), WEIGHTS, scheme, HESSIAN) > 0
        arrays[which].flat[at] -= 1


@pytest.mark.parametrize("scheme", IN_BLOCKS.values(), ids=IN_BLOCKS)
def test_packed_matrices_are_their_rows_one_after_another(scheme):
    parts = [quantized_matrix(part, scheme, HESSIAN) for part in (WEIGHTS[:4], WEIGHTS[4:])]
    whole = quantized_matrix(WEIGHTS, scheme, HESSIAN)
    for one, other in zip(joined(parts), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(rows_of(whole, 4, 12, 12), parts[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_data_aware_scheme_gains_and_needs_its_data():
    scheme = SCHEMES["int4-64-gptq"]
    restored = restored_matrix(quantized_matrix(WEIGHTS, scheme, HESSIAN), scheme, WEIGHTS.shape)
    assert gain_db(WEIGHTS, restored, scheme, HESSIAN) > 0.5
    assert gain_db(WEIGHTS, WEIGHTS, scheme, HESSIAN) == float("inf")
    with pytest.raises(ValueError, match="needs what the layer reads"):
        quantized_matrix(WEIGHTS, scheme)
    with pytest.raises(ValueError, match="needs what the layer reads"):
        differing(quantized_matrix(WEIGHTS, scheme, HESSIAN), WEIGHTS, scheme)


@pytest.mark.parametrize("name", ["fp32", "int8", "int8-static-minmax"])
def test_schemes_without_blocks_have_no_operator_here(name):
    with pytest.raises(ValueError, match="blocks"):
        operator_of(SCHEMES[name])
    with pytest.raises(ValueError, match="blocks"):
        quantized_matrix(WEIGHTS, SCHEMES[name])
