"""A vision encoder that another tool quantized: taken as it is, proven, run; or refused by name."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.given_graph import write_given
from edgestream.export.given_weights import put_in
from edgestream.export.graphs import Schemes
from edgestream.export.onnx_from_torch import constant_matmuls, onnx_from_torch
from edgestream.export.part_inputs import examples_of, traced_parts
from edgestream.export.proof_data import proof_data
from edgestream.export.qdq_graph import dequantized, read_qdq
from edgestream.export.quiet import quiet
from edgestream.export.reprove import reproven
from edgestream.export.traced_weights import traced_weights
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import given_scheme, scheme_from_json
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.errors import GraphRefused, ParityFailed
from edgestream.runtime.golden_check import check_golden
from edgestream.runtime.json_fields import plain

from ..checkpoints import random_live_checkpoint
from .test_build import silent

BLOCK = 16


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(checkpoint folder, traced vision, its float graph, the graph in int8, the graph in int4)."""
    work = tmp_path_factory.mktemp("given")
    folder = random_live_checkpoint(work / "tiny")
    checkpoint = load_checkpoint(folder)
    part = traced_parts(checkpoint)["vision"]
    source, int8, int4 = (work / f"{name}.onnx" for name in ("float", "int8", "int4"))
    onnx_from_torch(
        part.module, list(part.inputs.values()), list(part.inputs), part.outputs, source
    )
    data = proof_data(checkpoint, calibration_for(checkpoint, None), is_for_fitting=True)
    in_int8(source, int8, examples_of("vision", list(part.inputs), data))
    onnx.save(in_int4(onnx.load(str(source))), str(int4))
    return folder, part, source, int8, int4


def in_int8(source, target, examples):
    """As ModelOpt writes int8: symmetric, with Q/DQ pairs also behind weights that stay float."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    class Reader:
        left = iter(examples)

        def get_next(self):
            return next(self.left, None)

    model = onnx.load(str(source))
    weights = {*constant_matmuls(model)}
    with quiet():
        quantize_static(
            str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=[n.name for n in model.graph.node if {*n.input[1:2]} & weights],
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "MatMulConstBOnly": True,
                           "QuantizeBias": False, "AddQDQPairToWeight": True},
        )  # fmt: skip


def in_int4(model):
    """As ModelOpt writes int4: DequantizeLinear over blocks of what a MatMul sums.

    Of every second one, as with nodes_to_exclude: all of them ruin so small a model.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    products = [one for one in model.graph.node
                if one.op_type == "MatMul" and one.input[1] in tensors]  # fmt: skip
    for node in products[::2]:
        if len(tensors[node.input[1]].dims) == 2:
            tensor = tensors[node.input[1]]
            weight = numpy_helper.to_array(tensor)
            peaks = np.abs(weight.reshape(-1, BLOCK, weight.shape[1])).max(axis=1)
            scales = np.maximum(peaks / 7, 1e-8).astype(np.float32)
            codes = np.clip(np.rint(weight / np.repeat(scales, BLOCK, axis=0)), -8, 7)
            kind = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
            model.graph.initializer.remove(tensor)
            model.graph.initializer.extend(
                [numpy_helper.from_array(codes.astype(kind), f"{tensor.name}_i4"),
                 numpy_helper.from_array(scales, f"{tensor.name}_scale")]
            )  # fmt: skip
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", [f"{tensor.name}_i4", f"{tensor.name}_scale"],
                    [tensor.name], f"{tensor.name}_DequantizeLinear", axis=0, block_size=BLOCK,
                )
            )  # fmt: skip
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    return model


@st.composite
def quantized(draw):
    """(codes, scales, axis, block) as DequantizeLinear takes them."""
    shape = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    block = draw(st.sampled_from([None, 2, 3]))
    size = list(shape)
    size[axis] = -(-shape[axis] // (block or 1))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    codes = random.integers(-128, 128, shape, np.int8)
    if block is None:
        size = draw(st.sampled_from([[], [shape[axis]]]))
    kind = draw(st.sampled_from([np.float32, np.float16]))
    return codes, random.uniform(0.01, 2, size).astype(kind), axis, block


@pytest.mark.medium
@given(quantized())
def test_what_we_restore_is_what_the_engine_restores(given_arrays):
    codes, scales, axis, block = given_arrays
    kind = helper.np_dtype_to_tensor_dtype(scales.dtype)
    node = helper.make_node("DequantizeLinear", ["c", "s"], ["v"], axis=axis, block_size=block or 0)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("c", TensorProto.INT8, codes.shape),
         helper.make_tensor_value_info("s", kind, scales.shape)],
        [helper.make_tensor_value_info("v", kind, codes.shape)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (wanted,) = outputs_of(model, {"c": codes, "s": scales})
    found = dequantized(codes, scales, axis, block, "node")
    assert np.array_equal(found, wanted.astype(np.float32))


def outputs_of(model, inputs):
    """By an engine that rewrites nothing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, inputs)


@pytest.mark.medium
@pytest.mark.parametrize("which", ["int8", "int4"])
def test_a_graph_that_was_made_ready_gives_the_same_numbers(made, which):
    _, part, _, int8, int4 = made
    model = onnx.load(str(int8 if which == "int8" else int4))
    pixels = np.random.default_rng(0).standard_normal(part.inputs["pixels"].shape, np.float32)
    before = outputs_of(model, {"pixels": pixels})
    found = read_qdq(model)
    for one, other in zip(before, outputs_of(model, {"pixels": pixels}), strict=True):
        assert np.array_equal(one, other)
    types = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 2}
    assert (TensorProto.INT8 if which == "int8" else TensorProto.INT4) in types
    assert bool(found.activations) == (which == "int8")
    quantizes = [one for one in model.graph.node if one.op_type == "QuantizeLinear"]
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {constants[one.input[2]] for one in quantizes} <= {TensorProto.UINT8}
    assert not {one.input[0] for one in quantizes} & constants.keys()


@pytest.mark.parametrize("which", ["int8", "int4"])
def test_each_weight_is_found_where_it_came_from(made, which, tmp_path):
    _, part, source, int8, int4 = made
    given_file = int8 if which == "int8" else int4
    found = write_given(given_file, part, tmp_path / "vision.onnx")
    graph = onnx.load(str(source))
    names = constant_matmuls(graph)
    traced = {one.graph_name: one for one in traced_weights(graph, names, part.module)}
    places = {one.name.removesuffix("_i4"): one for one in found.weights}
    assert places.keys() <= traced.keys() and len(places) >= 5
    for name, one in places.items():
        assert (one.parameter, one.rows) == (traced[name].parameter, traced[name].rows)
        assert one.snr_db > 20
    reference = copy.deepcopy(part.module)
    put_in(found.weights, reference)
    parameters, originals = (dict(m.named_parameters()) for m in (reference, part.module))
    changed = {name for name, one in parameters.items() if not one.equal(originals[name])}
    assert changed == {one.parameter for one in found.weights}


@pytest.mark.slow
@pytest.mark.parametrize("which", ["int8", "int4"])
def test_the_bundle_says_what_was_found_and_runs(made, which, tmp_path, capsys):
    folder, _, _, int8, int4 = made
    out = tmp_path / "bundle"
    words = ["export", str(folder), "--out", str(out), "--llm", "fp32", "--json"]
    assert main([*words, "--vision", str(int8 if which == "int8" else int4)]) == 0
    parity = json.loads(capsys.readouterr().out)["parity"]
    assert parity["gates"]["agreement"]["vision"]["value"] > 0.99
    bundle = open_bundle(out)
    assert all(result.passed for result in check_golden(bundle, backend_for))
    variant, connector = bundle.variant("vision"), bundle.variant("connector")
    told = {"weights": "int8", "block": None, "activations": "int8"} if which == "int8" else {
        "weights": "int4", "block": BLOCK, "activations": "float32"}  # fmt: skip
    assert plain(variant.scheme) == {**told, "symmetric": True, "method": "given"}
    assert variant.id == f"cpu-{'int8' if which == 'int8' else 'int4-16'}-given"
    assert connector.id == "cpu-int8"
    assert scheme_from_json(variant.scheme) == given_scheme(**told)
    report = reproven(bundle, folder)
    names = {check.name for check in report.checks if check.part == "vision"}
    assert report.passed and "mean cosine to full precision" in names and len(names) >= 5 + 3


@pytest.mark.slow
def test_one_wrong_scale_is_found_by_the_name_of_its_parameter(made, tmp_path):
    folder, _, _, int8, _ = made
    model = onnx.load(str(int8))
    read_qdq(model)  # its QuantizeLinear would make up for it
    scale = next(t for t in model.graph.initializer if t.name.endswith("_scale") and t.dims)
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 1.2, scale.name))
    onnx.save(model, str(tmp_path / "wrong.onnx"))
    schemes = Schemes.named(str(tmp_path / "wrong.onnx"), "fp32")
    with pytest.raises(ParityFailed, match=r"vision: gate snr_db: \S+\.weight\["):
        export_bundle(folder, tmp_path / "bundle", ExportChoice(schemes, "tiny"), silent)
    assert not (tmp_path / "bundle").exists()


def changed(change):
    """Change a graph in place."""

    def act(file: Path) -> None:
        model = onnx.load(str(file))
        change(model)
        onnx.save(model, str(file))

    return act


def plugin(model):
    model.graph.node[3].domain = "trt.plugins"


def opset(version):
    def act(model):
        model.opset_import[0].version = version

    return act


def half_a_picture(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value //= 2


def renamed(model):
    model.graph.output[0].name = "features"


def swollen(model):
    for number in range(3):
        array = np.zeros((1000, 1000), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, f"more{number}"))


def fewer_scales(model):
    scale = next(one for one in model.graph.initializer if one.name.endswith("_scale") and one.dims)
    array = numpy_helper.to_array(scale)
    scale.CopyFrom(numpy_helper.from_array(array[:-1], scale.name))


def off_zero(model):
    node = next(one for one in model.graph.node if one.op_type == "DequantizeLinear"
                and len(one.input) > 2 and one.input[2].startswith("val"))  # fmt: skip
    zero = next(one for one in model.graph.initializer if one.name == node.input[2])
    zero.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(zero) + np.int8(1), zero.name))


def float8(model):
    zeros = {node.input[2] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for one in model.graph.initializer:
        if one.name in zeros:
            one.data_type = TensorProto.FLOAT8E4M3FN


def shuffled(model):
    random = np.random.default_rng(0)
    for one in model.graph.initializer:
        if len(one.dims) == 2:
            array = random.permuted(numpy_helper.to_array(one))
            one.CopyFrom(numpy_helper.from_array(array, one.name))


REFUSALS = {
    "no file": (lambda file: file.unlink(), "cannot be read"),
    "nothing": (lambda file: file.write_bytes(b""), "is empty, expected a graph of vision"),
    "no graph": (lambda file: file.write_text("weights"), "is no whole ONNX graph"),
    "plugins": (changed(plugin), "of the domain trt.plugins"),
    "an old opset": (changed(opset(11)), "got opset 11, expected 13 to 23"),
    "a new opset": (changed(opset(24)), "got opset 24"),
    "another size": (changed(half_a_picture), "got the inputs pixels float [1, 3, 32, 64]"),
    "other names": (changed(renamed), "got the outputs features float"),
    "too much": (changed(swollen), "MB of weights, expected at most"),
    "scales that do not fit": (changed(fewer_scales), "got scales"),
    "a zero point": (changed(off_zero), "symmetric"),
    "float8": (changed(float8), "codes of float8e4m3fn"),
    "another model": (changed(shuffled), "like none of this checkpoint's"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_graph_that_cannot_be_taken_is_one_sentence(made, tmp_path, damage, said):
    file = Path(shutil.copy(made[3], tmp_path / "quantized.onnx"))
    damage(file)
    with pytest.raises(GraphRefused) as refused:
        write_given(file, made[1], tmp_path / "vision.onnx")
    assert said in refused.value.message and str(file) in refused.value.message
    assert "\n" not in refused.value.message and refused.value.exit_code == 3
    assert not (tmp_path / "vision.onnx").exists()


def test_a_graph_without_pairs_is_refused(made, tmp_path):
    with pytest.raises(GraphRefused, match="without a weight in Q/DQ pairs"):
        write_given(made[2], made[1], tmp_path / "vision.onnx")


def test_a_search_takes_no_file(made, tmp_path, capsys):
    words = ["export", str(made[0]), "--out", str(tmp_path / "b"), "--vision", str(made[3])]
    assert main([*words, "--search"]) == 2
    assert "expected one of both" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
