"""Static int8 for TensorRT: symmetric pairs before products alone, and a bundle of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.engine_from_onnx import engine_of
from edgestream.export.exact_backends import PairwiseBackend
from edgestream.export.graphs import Schemes
from edgestream.export.int8_static import static_from_float
from edgestream.export.int8_vision import stored_int8
from edgestream.export.proof_data import proof_data
from edgestream.export.prove import Proof
from edgestream.export.prove_trt import prove_trt
from edgestream.export.trt_int8 import MOST, symmetric_graph
from edgestream.export.trt_parts import half_graph
from edgestream.export.trt_variants import TrtGraph
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import SCHEMES
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engines.trt_phases import phases_of
from edgestream.runtime.golden_check import check_golden

from ..checkpoints import random_live_checkpoint

HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
RTX, SCHEME = "tensorrt-rtx", "int8-static-minmax"
WIDE = 16


def float_graph(folder: Path, seed: int) -> Path:
    """y = relu(x) · w + b, and z = relu(x) · v + relu(x); the border y0 is a product itself."""
    random = np.random.default_rng(seed)
    matrices = {name: random.standard_normal((WIDE, WIDE)).astype(np.float32) for name in "wvu"}
    constants = {**matrices, "b": random.standard_normal(WIDE).astype(np.float32)}
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], "rectify"),
        helper.make_node("MatMul", ["positive", "w"], ["xw"], "first"),
        helper.make_node("Add", ["xw", "b"], ["y"], "bias"),
        helper.make_node("MatMul", ["positive", "v"], ["xv"], "second"),
        helper.make_node("Add", ["xv", "positive"], ["z"], "beside"),
        helper.make_node("MatMul", ["x", "u"], ["y0"], "third"),
    ]
    shape = [4, WIDE]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one in ("y", "z", "y0")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.save(model, str(folder / "float.onnx"))
    return folder / "float.onnx"


def quantized(folder: Path, seed: int, reach: float, shift: float):
    """The CPU's graph and TensorRT's of it, and what both were calibrated with."""
    random = np.random.default_rng(seed)
    examples = [
        {"x": (random.standard_normal((4, WIDE)) * reach + shift).astype(np.float32)}
        for _ in range(4)
    ]
    static_from_float(float_graph(folder, seed), folder / "cpu.onnx", "minmax", examples)
    cpu = onnx.load(str(folder / "cpu.onnx"))
    return cpu, symmetric_graph(onnx.load(str(folder / "cpu.onnx"))), examples


def tensors(model) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def rounded(x: np.ndarray, scale: float) -> np.ndarray:
    return np.clip(np.rint(x / scale), -128, 127) * scale


@pytest.mark.medium
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.01, 1.0, 300.0]), st.floats(-2, 2))
def test_pairs_are_symmetric_and_stand_before_products_alone(tmp_path_factory, seed, reach, shift):
    folder = tmp_path_factory.mktemp("graph")
    cpu, trt, examples = quantized(folder, seed, reach, shift * reach)
    onnx.checker.check_model(trt)
    before, behind = tensors(cpu), tensors(trt)
    pairs = [node for node in trt.graph.node if node.op_type == "QuantizeLinear"]
    assert {node.input[0] for node in pairs} == {"positive", "x"}
    for node in pairs:
        scale, zero = (behind[name] for name in node.input[1:3])
        old, low = (before[name].astype(np.float64) for name in node.input[1:3])
        assert (zero.dtype, int(zero)) == (np.int8, 0)
        assert scale * MOST == pytest.approx(max(low, 255 - low) * old, rel=1e-6)
    for name, (codes, scales) in stored_int8(cpu).items():
        assert np.array_equal(stored_int8(trt)[name][0], codes)
        assert np.array_equal(stored_int8(trt)[name][1], scales)
    onnx.save(trt, str(folder / "trt.onnx"))
    x = examples[0]["x"]
    with PairwiseBackend("cpu").open(folder / "trt.onnx") as engine:
        found = engine.run({"x": x})
    weights = {name: codes * scales for name, (codes, scales) in stored_int8(trt).items()}
    of_x, of_positive = (
        float(behind[next(node.input[1] for node in pairs if node.input[0] == name)])
        for name in ("x", "positive")
    )
    read, positive = rounded(x, of_x), rounded(np.maximum(x, 0), of_positive)
    expected = {
        "y": positive @ weights["w"] + behind["b"],
        "z": positive @ weights["v"] + np.maximum(x, 0),  # the sum reads what was not rounded
        "y0": read @ weights["u"],
    }
    for name, one in expected.items():
        assert np.allclose(found[name], one, rtol=1e-4, atol=1e-4 * np.abs(one).max()), name


def test_in_float16_the_codes_stay_what_they_are(tmp_path):
    _, trt, _ = quantized(tmp_path, 0, 1.0, 0.0)
    codes = {name: one[0].copy() for name, one in stored_int8(trt).items()}
    half_graph(trt, tmp_path / "half.onnx")
    half = onnx.load(str(tmp_path / "half.onnx"))
    assert {name: one[0].tobytes() for name, one in stored_int8(half).items()} == {
        name: one.tobytes() for name, one in codes.items()
    }
    scales = {tensors(half)[node.input[1]].dtype for node in half.graph.node
              if node.op_type in ("QuantizeLinear", "DequantizeLinear")}  # fmt: skip
    assert scales == {np.dtype(np.float16)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(checkpoint, bundle, report)."""
    place = tmp_path_factory.mktemp("trt-int8")
    folder = random_live_checkpoint(place / "checkpoint", has_gate=True)
    choice = ExportChoice(Schemes.named(SCHEME, "int4-32"), name="tiny", capacity=160, target=RTX)
    found = export_bundle(folder, place / "bundle", choice, lambda *words: None)
    return folder, open_bundle(place / "bundle"), found.report


@pytest.mark.slow
def test_a_bundle_has_int8_for_tensorrt_with_its_proof_and_golden_calls(made):
    _, bundle, report = made
    for role in ("vision", "connector"):
        trt = bundle.manifest.part(role).variants[1]
        assert (trt.id, trt.proof) == (f"{RTX}-{SCHEME}", "pending-device")
        assert trt.scheme["weights"] == trt.scheme["activations"] == "int8"
        assert trt.scheme["ranges"] == "minmax"
        names = [check.name for check in report.checks
                 if check.part == role and check.name.endswith("else float32")]  # fmt: skip
        assert names == [f"{what} cosine per token, for TensorRT in int8, else float32"
                         for what in ("mean", "smallest")]  # fmt: skip
    results = list(check_golden(bundle, lambda provider: PairwiseBackend("cpu")))
    assert len(results) == 10 and all(one.passed for one in results)
    assert not [path for path in bundle.folder.iterdir() if "float32" in path.name]


@pytest.mark.slow
def test_a_wrong_range_is_found(made, tmp_path):
    folder, bundle, _ = made
    checkpoint = load_checkpoint(folder)
    data = proof_data(checkpoint, calibration_for(checkpoint, None))
    cpu, trt = bundle.manifest.part("vision").variants
    model = onnx.load(str(bundle.path(trt.file)))
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    scale = next(one for one in model.graph.initializer if one.name == first.input[1])
    scale.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(scale) / np.float16(8), scale.name)
    )
    onnx.save(model, str(tmp_path / trt.file))
    graph = TrtGraph("vision", trt.id, tmp_path / trt.file, SCHEMES[SCHEME], provider=RTX,
                     source=bundle.path(cpu.file))  # fmt: skip
    checks = prove_trt(checkpoint, [graph], data, Proof()).checks
    assert {one.name.rsplit(" ", 1)[1]: one.passed for one in checks} == {
        "float32": True, "float16": False
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RTX, reason="needs tensorrt-rtx: pip install .[rtx]")
def test_its_engines_are_compiled_and_again_the_same(made):
    _, bundle, _ = made
    for role in ("vision", "connector"):
        trt = bundle.manifest.part(role).variants[1]
        (phase,) = phases_of(bundle.path(trt.file), trt)
        first, again = (engine_of(RTX, phase, "sm89") for _ in range(2))
        assert first == again and len(first) > 1000
