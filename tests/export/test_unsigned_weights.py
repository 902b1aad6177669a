"""Int8 weights kept as uint8: the same numbers, and products whole on every processor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, numpy_helper

from edgestream.export.int8_static import static_from_float
from edgestream.export.int8_vision import int8_from_float, stored_int8
from edgestream.export.unsigned_weights import keep_signed, keep_unsigned, to_signed, to_unsigned
from edgestream.runtime.engines.ort import OrtBackend

from ..quant.engine_weights import graph_of

IN, OUT = 64, 8


@given(hnp.arrays(np.int8, st.integers(0, 50)))
def test_codes_are_moved_by_128_and_back(codes):
    np.testing.assert_array_equal(to_unsigned(codes), codes.astype(np.int64) + 128)
    np.testing.assert_array_equal(to_signed(to_unsigned(codes)), codes)


def one_product(folder, weights):
    """y = x @ weights, float32."""
    onnx.save(graph_of("MatMul", weights), str(folder / "float.onnx"))
    return folder / "float.onnx"


def dynamic(source, target, x):
    int8_from_float(source, target)


def static(source, target, x):
    static_from_float(source, target, "minmax", [{"x": x}])


@pytest.mark.parametrize("quantized", [dynamic, static])
def test_large_weights_met_by_large_activations_are_multiplied_whole(quantized, tmp_path):
    """In pairs of uint8 and int8, an x86 without VNNI cuts their sum: y would be half as large."""
    x = np.ones((3, IN), np.float32)
    x[:, 0] = 0.0
    source = one_product(tmp_path, np.ones((IN, OUT), np.float32))
    quantized(source, tmp_path / "int8.onnx", x)
    with OrtBackend().open(tmp_path / "int8.onnx") as engine:
        y = engine.run({"x": x})["y"]
    np.testing.assert_allclose(y, np.full_like(y, IN - 1), rtol=0.01)


@pytest.mark.parametrize("quantized", [dynamic, static])
def test_turned_back_a_graph_is_what_it_was(quantized, tmp_path):
    x = np.random.default_rng(0).standard_normal((5, IN)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal((IN, OUT)).astype(np.float32)
    quantized(one_product(tmp_path, weights), tmp_path / "int8.onnx", x)
    model = onnx.load(str(tmp_path / "int8.onnx"))
    kept = {one.name: one.data_type for one in model.graph.initializer}
    assert kept["w_quantized"] == kept["w_zero_point"] == TensorProto.UINT8
    before = model.SerializeToString(deterministic=True)
    codes, scales = stored_int8(model)["w"]
    signed = keep_signed(model)
    kept = {one.name: numpy_helper.to_array(one) for one in signed.graph.initializer}
    assert kept["w_quantized"].dtype == np.int8 and not kept["w_zero_point"].any()
    np.testing.assert_array_equal(kept["w_quantized"], codes)
    np.testing.assert_allclose(codes * scales, weights, atol=float(scales.max()) / 1.99)
    assert keep_unsigned(signed).SerializeToString(deterministic=True) == before
