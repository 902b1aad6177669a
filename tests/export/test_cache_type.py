"""Caches of float16 and int8 on a trained decoder: what is said after evictions, and a control."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgestream.export.cache_type import cache_type_named, cache_type_of, set_cache_type
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.decoder_examples import decoder_cache_scales
from edgestream.export.decoder_onnx import write_decoder
from edgestream.export.graphs import Graph
from edgestream.export.proof_data import proof_data
from edgestream.export.prove_cache import cache_checks
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import SCHEMES
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import SchemeUnknown

FOLDER = Path(__file__).parents[2] / "assets" / "reference-checkpoint"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(FOLDER)


@pytest.fixture(scope="module")
def calibration(checkpoint):
    return calibration_for(checkpoint, None)


@pytest.fixture(scope="module")
def prompts(checkpoint, calibration):
    return proof_data(checkpoint, calibration).prompts


@pytest.fixture(scope="module")
def int8_graph(checkpoint, calibration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    examples = proof_data(checkpoint, calibration, is_for_fitting=True)
    scales = decoder_cache_scales(checkpoint, examples)
    tokenizer = FOLDER / "tokenizer.json"
    write_decoder(checkpoint.decoder, tokenizer, SCHEMES["fp32"], folder, "decoder",
                  cache="int8", cache_scales=scales)  # fmt: skip
    return Graph("decoder", "cpu-fp32-kv8", folder / "decoder.onnx", SCHEMES["fp32"])


def checked(checkpoint, graph, prompts) -> list[bool]:
    with OrtBackend("cpu").open(graph.path) as engine:
        return [check.passed for check in cache_checks(checkpoint, graph, engine, prompts)]


def test_an_int8_cache_says_the_same_after_evictions(checkpoint, int8_graph, prompts):
    assert int8_graph.cache_type() == "int8"
    assert checked(checkpoint, int8_graph, prompts) == [True, True]


def test_pairs_with_two_scales_are_found(checkpoint, int8_graph, prompts, tmp_path):
    """What turns as one pair must be measured with one scale: the proof sees it where it is not."""
    model = int8_graph.loaded()
    for tensor in model.graph.initializer:
        if tensor.name.startswith("cache.") and tensor.name.endswith("key_scale"):
            scale = numpy_helper.to_array(tensor).copy()
            scale[..., : scale.shape[-1] // 2] *= 2
            tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    path = tmp_path / "decoder.onnx"
    onnx.save(model, str(path))
    wrong = Graph("decoder", "wrong", path, SCHEMES["fp32"])
    assert not all(checked(checkpoint, wrong, prompts))


def test_a_graph_takes_one_type_after_another_and_forgets_the_last(int8_graph):
    model = int8_graph.loaded()
    n_tensors = len(model.graph.initializer)
    for dtype in ("float16", "float32"):
        set_cache_type(model, dtype)
        assert cache_type_of(model) == dtype
    layers = sum(node.op_type == "GroupQueryAttention" for node in model.graph.node)
    assert len(model.graph.initializer) == n_tensors - 2 * layers
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            assert not any("quant" in one.name for one in node.attribute)


@pytest.mark.parametrize("name", ["int4", "", "float32"])
def test_other_types_are_refused(name):
    with pytest.raises(SchemeUnknown, match=f"got --kv {name}, expected fp32"):
        cache_type_named(name)
