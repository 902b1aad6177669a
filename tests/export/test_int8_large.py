"""Int8 matrix by matrix, of graphs whose weights lie beside: the same as onnxruntime's own."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgestream.calibration.parity import cosines
from edgestream.export import graphs, reprove
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.int8_large import int8_from_large
from edgestream.export.int8_vision import int8_from_float, stored_int8
from edgestream.export.onnx_from_torch import constant_matmuls, onnx_from_torch
from edgestream.export.reprove import reproven
from edgestream.export.traced_weights import traced_weights
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engines.ort import OrtBackend

from ..checkpoints import random_live_checkpoint


class Mixed(nn.Module):
    """Matrices as a tower has them: with a bias, without one, used twice.

    As rows the last one becomes a Gemm, which onnxruntime's quantizer does not take.
    """

    def __init__(self, *, as_rows: bool = False) -> None:
        super().__init__()
        self.as_rows = as_rows
        self.first = nn.Linear(48, 64)
        self.again = nn.Linear(64, 64, bias=False)
        self.last = nn.Linear(64, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = self.again(torch.relu(self.again(x)))
        return self.last(x[0] if self.as_rows else x)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(module, folder): the same module by onnxruntime's quantizer and matrix by matrix."""
    torch.manual_seed(0)
    module, folder = Mixed().eval().requires_grad_(False), tmp_path_factory.mktemp("large")
    example = [torch.zeros(1, 7, 48)]
    onnx_from_torch(module, example, ["x"], ["y"], folder / "small.float.onnx")
    int8_from_float(folder / "small.float.onnx", folder / "small.onnx")
    onnx_from_torch(module, example, ["x"], ["y"], folder / "large.float.onnx", 0)
    int8_from_large(folder / "large.float.onnx", folder / "large.onnx")
    return module, folder


@pytest.mark.medium
def test_weights_lie_beside_the_graph_and_no_path_of_this_machine_does(both):
    _, folder = both
    graph = (folder / "large.float.onnx").read_bytes()
    assert b"site-packages" not in graph and b".py" not in graph
    model = onnx.load(str(folder / "large.float.onnx"), load_external_data=False)
    matrices = [one for one in model.graph.initializer if len(one.dims) == 2]
    assert matrices and all(one.external_data for one in matrices)


def test_codes_and_scales_are_those_of_onnxruntimes_quantizer(both):
    module, folder = both
    theirs, ours = (stored_int8(onnx.load(str(folder / f"{n}.onnx"))) for n in ("small", "large"))
    assert len(theirs) == 4, "what is used twice is folded twice"

    def by_shape(stored):
        return sorted((codes.shape, codes.tobytes(), scales.tobytes())
                      for codes, scales in stored.values())  # fmt: skip

    assert by_shape(theirs) == by_shape(ours)
    graph = onnx.load(str(folder / "large.float.onnx"), load_external_data=False)
    assert set(constant_matmuls(graph)) == ours.keys()
    found = {one.parameter for one in traced_weights(graph, ours, module, folder)}
    assert found == {"first.weight", "again.weight", "last.weight"}


def test_the_engine_says_the_same_of_both(both):
    module, folder = both
    x = np.random.default_rng(0).standard_normal((1, 7, 48)).astype(np.float32)
    said = {}
    for name in ("small", "large", "small.float", "large.float"):
        with OrtBackend("cpu").open(folder / f"{name}.onnx") as engine:
            said[name] = engine.run({"x": x})["y"]
    np.testing.assert_allclose(said["large"], said["small"], atol=1e-6)
    np.testing.assert_allclose(said["large.float"], module(torch.from_numpy(x)), atol=1e-5)
    assert np.abs(said["large"] - said["large.float"]).max() > 1e-5, "it is int8"


@pytest.mark.medium
def test_a_gemm_is_quantized_as_a_matrix_is(tmp_path):
    torch.manual_seed(0)
    module = Mixed(as_rows=True).eval().requires_grad_(False)
    onnx_from_torch(module, [torch.zeros(1, 7, 48)], ["x"], ["y"], tmp_path / "float.onnx", 0)
    assert len(int8_from_large(tmp_path / "float.onnx", tmp_path / "int8.onnx")) == 4
    x = torch.randn(1, 7, 48)
    with OrtBackend("cpu").open(tmp_path / "int8.onnx") as engine:
        found = engine.run({"x": x.numpy()})["y"]
    expected = module(x).numpy()
    assert cosines(expected, found).min() > 0.999 and np.abs(found - expected).max() > 1e-5


@pytest.mark.slow
def test_an_export_of_large_parts_passes_its_proof(tmp_path, monkeypatch):
    traced = partial(onnx_from_torch, largest_inside=1 << 10)
    monkeypatch.setattr(graphs, "onnx_from_torch", traced)
    monkeypatch.setattr(reprove, "onnx_from_torch", traced)
    folder = random_live_checkpoint(tmp_path / "checkpoint")
    choice = ExportChoice(schemes=Schemes.named("int8", "fp32"), name="large")
    made = export_bundle(folder, tmp_path / "bundle", choice, lambda stage, part: None)
    assert made.report.passed
    names = {file.name for file in (tmp_path / "bundle").iterdir()}
    assert names >= {"vision.onnx", "vision.onnx.data"} and not any("float" in n for n in names)
    assert reproven(open_bundle(tmp_path / "bundle"), folder).passed
