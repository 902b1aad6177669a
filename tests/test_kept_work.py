"""What a test process keeps is what would be made anew, to the last byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from . import kept_work


@pytest.fixture
def tools():
    """(torch, what writes a graph), with the work kept."""
    torch = pytest.importorskip("torch", reason="graphs are traced by PyTorch")
    from edgestream.export import onnx_from_torch

    kept_work.keep_work()
    return torch, onnx_from_torch


def written(tools, part, folder: Path, rows: int = 2, name: str = "x") -> bytes:
    torch, module = tools
    path = folder / "graph.onnx"
    module.onnx_from_torch(part, [torch.zeros(rows, 4)], [name], ["y"], path)
    return path.read_bytes()


@pytest.mark.medium
def test_a_graph_is_traced_again_where_anything_of_it_is_another(tools, tmp_path):
    torch, _ = tools

    class Scaled(torch.nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.inner, self.by = torch.nn.Linear(4, 3), by

        def forward(self, x):
            return self.by * self.inner(x)

    class Shifted(Scaled):
        def forward(self, x):
            return self.by + self.inner(x)

    torch.manual_seed(0)
    first = Scaled(2.0)
    other, shifted = Scaled(2.0), Shifted(2.0)
    for one in (other, shifted):
        one.load_state_dict(first.state_dict())
    graph = written(tools, first, tmp_path)
    assert written(tools, other, tmp_path) == graph
    found = {graph, written(tools, shifted, tmp_path), written(tools, first, tmp_path, rows=3),
             written(tools, first, tmp_path, name="z")}  # fmt: skip
    other.by = 3.0
    found.add(written(tools, other, tmp_path))
    with torch.no_grad():
        first.inner.bias[0] += 1
    found.add(written(tools, first, tmp_path))
    assert len(found) == 6


@pytest.mark.medium
def test_a_graph_of_memory_is_the_one_that_is_traced(tools, tmp_path, monkeypatch):
    torch, module = tools
    torch.manual_seed(1)
    part = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())
    kept = [written(tools, part, tmp_path) for _ in range(2)]
    monkeypatch.setattr(module, "_n_bytes", lambda part: kept_work.LARGEST + 1)
    traced = module._program(part, [torch.zeros(2, 4)], ["x"], ["y"]).model_proto
    assert kept == [module.without_traces(traced).SerializeToString()] * 2


def test_pictures_of_memory_are_the_painted_ones_and_nobody_changes_them():
    from edgestream.calibration import rendered
    from edgestream.runtime.scripted import render
    from edgestream.runtime.scripted_stories import SCRIPTS

    kept_work.keep_work()
    given = (SCRIPTS["sample"], 0.1, 3, (24, 32))
    for _ in range(2):
        got, expected = list(rendered.render(*given)), list(render(*given))
        assert [time_s for time_s, _ in got] == [time_s for time_s, _ in expected]
        for (_, one), (_, other) in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            one[...] = 0
