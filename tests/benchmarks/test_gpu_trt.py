"""Engines of the watch path, compiled by TensorRT-RTX where it is installed; no GPU is needed."""

from __future__ import annotations

import sys

import pytest
import torch
from gpu_graphs import watch_graph
from gpu_models import random_model
from gpu_shapes import TINY
from gpu_trt import built_engine, imported, kept_engine

from edgestream.runtime.errors import BackendMissing, EngineUnusable


def test_a_module_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendMissing, match=r"^TensorRT cannot be imported: "):
        imported("tensorrt")


@pytest.fixture(scope="module")
def trt():
    return pytest.importorskip("tensorrt_rtx", reason="engines need TensorRT-RTX")


@pytest.mark.slow
def test_the_watch_path_compiles_in_half_precision(trt, tmp_path):
    with torch.inference_mode():
        model = random_model(TINY["streammind_7b"], torch.device("cpu"), torch.float16)
        graph = watch_graph(model, tmp_path)
    engine = kept_engine(trt, graph, (8, 9))
    assert engine.stat().st_size > 1e6 and "sm89" in engine.name
    made_s = engine.stat().st_mtime_ns
    assert kept_engine(trt, graph, (8, 9)).stat().st_mtime_ns == made_s, "built once"
    with pytest.raises(EngineUnusable, match=r"knows no GPU of compute capability 9\.0"):
        built_engine(trt, graph, (9, 0))
    graph.write_bytes(b"no graph")
    with pytest.raises(EngineUnusable, match=r"watch\.onnx cannot be parsed"):
        built_engine(trt, graph, (8, 9))
    assert [one.name for one in tmp_path.glob("*.engine")] == [engine.name]
