"""PyTorch's translations into ONNX, read once in a process instead of once for every graph.

For each graph torch.onnx.export parses the Python source of all its 500 translations, for one word
of each: two seconds of work, a third of the export of a small graph. They do not change meanwhile.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

READER = "get_torchlib_ops"


@contextmanager
def translations_read_once() -> Iterator[None]:
    """Within this block PyTorch is given what it read before.

    It reaches into PyTorch: where a version has no such place (tested: 2.13), nothing happens.
    """
    try:
        found = importlib.import_module("torch.onnx._internal.exporter._registration")
        apis = found.onnxscript_apis
        before = getattr(apis, READER)
    except (ImportError, AttributeError):
        yield
        return
    setattr(apis, READER, lambda: list(_read(before)))
    try:
        yield
    finally:
        setattr(apis, READER, before)


@cache
def _read(reader: Callable[[], Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(reader())
