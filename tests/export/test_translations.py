"""PyTorch's translations are read once in a process, and a graph does not show it."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch

from edgestream.export import translations
from edgestream.export.onnx_from_torch import without_traces
from edgestream.export.quiet import quiet
from edgestream.export.translations import READER, translations_read_once

PLACE = "torch.onnx._internal.exporter._registration"


@pytest.fixture
def apis():
    return importlib.import_module(PLACE).onnxscript_apis


def traced(part) -> bytes:
    with quiet():
        made = torch.onnx.export(part, (torch.zeros(2, 4),), dynamo=True, opset_version=23,
                                 verbose=False)  # fmt: skip
    return without_traces(made.model_proto).SerializeToString()


@pytest.mark.medium
def test_they_are_read_once_and_the_graph_is_the_same(apis, monkeypatch):
    part = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU(), torch.nn.LayerNorm(4)).eval()
    plain, reads, read = traced(part), [], getattr(apis, READER)

    def counted():
        reads.append(1)
        return read()

    monkeypatch.setattr(apis, READER, counted)
    for _ in range(2):
        with translations_read_once():
            assert getattr(apis, READER) is not counted
            assert traced(part) == plain
    assert reads == [1] and getattr(apis, READER) is counted


def test_where_pytorch_has_no_such_place_nothing_happens(monkeypatch):
    found, other = importlib.import_module(PLACE), SimpleNamespace()
    monkeypatch.setattr(found, "onnxscript_apis", other)
    with translations_read_once():
        assert not vars(other)
    monkeypatch.setitem(sys.modules, PLACE, None)
    with translations_read_once():
        pass


def test_it_is_put_back_after_a_failure(apis):
    before = getattr(apis, READER)
    with pytest.raises(ZeroDivisionError), translations.translations_read_once():
        1 // 0  # noqa: B018
    assert getattr(apis, READER) is before
