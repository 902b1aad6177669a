"""Engines ahead of time: whole, the same bytes again, and refusals that name the node."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgestream.export.engine_from_onnx import check_builder, engine_of, node_of_type
from edgestream.export.engine_worker import compiled_apart
from edgestream.runtime.engines.trt_phases import Phase
from edgestream.runtime.errors import BackendMissing, EngineUnusable, UsageError

HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
with_rtx = pytest.mark.skipif(not HAS_RTX, reason="needs tensorrt-rtx: pip install .[rtx]")
RTX = "tensorrt-rtx"


def phase_of(folder, nodes, tensors=(), sizes=None, dtype=TensorProto.FLOAT16) -> Phase:
    """A graph of x (1, tokens, 64) → y, z."""
    shape = [1, "tokens", 64]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(one, dtype, shape) for one in "yz"],
        list(tensors),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 24), helper.make_opsetid("other", 1)],
        ir_version=11,
    )  # fmt: skip
    onnx.save(model, str(folder / "graph.onnx"))
    sizes = {"tokens": (1, 4, 16)} if sizes is None else sizes
    return Phase("any", folder / "graph.onnx", (), sizes)


def int4_parts():
    """Nodes and tensors of y = x · W in int4 blocks, z = y."""
    codes = np.random.default_rng(0).integers(0, 255, 64 * 64 // 2, np.uint8)
    weights = TensorProto(name="w", data_type=TensorProto.INT4, dims=(64, 64),
                          raw_data=codes.tobytes())  # fmt: skip
    scales = numpy_helper.from_array(np.full((2, 64), 0.01, np.float16), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], "restore", axis=0, block_size=32),
        helper.make_node("MatMul", ["x", "d"], ["y"], "multiply"),
        helper.make_node("Sigmoid", ["y"], ["z"], "press"),
    ]
    return nodes, [weights, scales]


@with_rtx
@pytest.mark.slow
def test_an_engine_has_the_same_bytes_wherever_its_graph_lies(tmp_path):
    places = tmp_path / "here", tmp_path / "in a folder of a longer name" / "below"
    made = []
    for place in places:
        place.mkdir(parents=True)
        made.append(engine_of(RTX, phase_of(place, *int4_parts()), "sm89"))
    assert made[0] == made[1] and len(made[0]) > 1000


@with_rtx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Strange", ["x"], ["y"], "odd one", domain="other")], "odd one"),
        ([helper.make_node("Unique", ["x"], ["y"], "sorter", axis=1)], "sorter"),
    ],
    ids=["unknown", "unsupported"],
)
def test_a_node_that_nothing_compiles_is_named(nodes, words, tmp_path):
    nodes = [*nodes, helper.make_node("Identity", ["y"], ["z"], "end")]
    with pytest.raises(EngineUnusable, match=rf"graph.onnx cannot be compiled: node {words} \("):
        compiled_apart(RTX, phase_of(tmp_path, nodes), "sm89")


@with_rtx
@pytest.mark.slow
def test_a_type_that_the_target_lacks_is_told_with_its_node(tmp_path):
    phase = phase_of(tmp_path, *int4_parts())
    with pytest.raises(
        EngineUnusable,
        match=r"sm75.*datatypes: int4.*; for sm75, the first such node is restore \(Dequantize",
    ):
        engine_of(RTX, phase, "sm75")


@with_rtx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "words"), [({"tokens": (4, 2, 16)}, r"\[1, 4, 64\]"), ({}, "'tokens' of x")]
)
def test_a_profile_without_sense_is_told_with_its_input(sizes, words, tmp_path):
    with pytest.raises(EngineUnusable, match=words):
        compiled_apart(RTX, phase_of(tmp_path, *int4_parts(), sizes=sizes), "sm89")


@with_rtx
@pytest.mark.slow
def test_a_target_that_is_unknown_is_told(tmp_path):
    with pytest.raises(EngineUnusable, match="has no target sm90"):
        engine_of(RTX, phase_of(tmp_path, *int4_parts()), "sm90")


def stand_in(folder, monkeypatch, text):
    """A module of the name `tensorrt_rtx` in other processes of this test."""
    (folder / "tensorrt_rtx.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{':'.join(sys.path)}")


@pytest.mark.medium
def test_a_compiler_that_crashes_takes_nobody_along(tmp_path, monkeypatch):
    modules = tmp_path / "modules"
    modules.mkdir()
    stand_in(modules, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(
        EngineUnusable, match=r"graph\.onnx cannot be compiled: .* ended with code -9"
    ):
        compiled_apart(RTX, phase_of(tmp_path, *int4_parts()), "sm89")


@pytest.mark.medium
def test_what_the_other_process_refuses_is_our_error(tmp_path, monkeypatch):
    modules = tmp_path / "modules"
    modules.mkdir()
    stand_in(modules, monkeypatch, "raise ImportError('this is a stub')\n")
    with pytest.raises(EngineUnusable, match="cannot be imported: this is a stub") as told:
        compiled_apart(RTX, phase_of(tmp_path, *int4_parts()), "sm89")
    assert "rtx" in (told.value.hint or "")


@pytest.mark.medium
def test_a_file_beside_the_graph_is_no_module(tmp_path, monkeypatch):
    """The other process stands in the folder of the bundle, which may be anybody's."""
    trace = tmp_path / "ran"
    for name in ("tensorrt_rtx", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({json.dumps(str(trace))}, 'w')\n")
    if HAS_RTX:
        compiled_apart(RTX, phase_of(tmp_path, *int4_parts()), "sm89")
    else:
        with pytest.raises(EngineUnusable, match="cannot be imported"):
            compiled_apart(RTX, phase_of(tmp_path, *int4_parts()), "sm89")
    assert not trace.exists()


def test_targets_without_engines_and_missing_modules_are_refused():
    with pytest.raises(UsageError, match="--engines with --target cuda, which has none"):
        check_builder("cuda")
    if not HAS_RTX:
        with pytest.raises(BackendMissing, match="tensorrt_rtx cannot be imported"):
            check_builder(RTX)


def test_the_node_is_looked_for_only_where_a_type_is_meant(tmp_path):
    model = onnx.load(str(phase_of(tmp_path, *int4_parts()).graph))
    words = "model contains HW-specific datatypes: int4"
    assert node_of_type(model, words) == "restore (DequantizeLinear)"
    assert node_of_type(model, "model contains HW-specific datatypes: fp8") is None
    assert node_of_type(model, "int4 is nice") is None
