"""What many tests would make anew, though it is the same each time: traced graphs, painted clips.

A test process keeps them, by everything that they are made of; what a test changes of a module, its
weights or its inputs makes another one. `tests/test_kept_work.py` holds it to that.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MOST_KEPT = 64
LARGEST = 50_000_000
"""Bytes of weights of a module whose graph is kept."""
_MARK = "_work_is_kept"


def keep_work() -> None:
    """Keep what the modules make that are loaded by now; to be called before each test."""
    for name, keep in (
        ("edgestream.export.onnx_from_torch", _keep_graphs),
        ("edgestream.calibration.rendered", _keep_pictures),
    ):
        module = sys.modules.get(name)
        if module is not None and not hasattr(module, _MARK):
            setattr(module, _MARK, True)
            keep(module)


class _Program:
    """As much of an `ONNXProgram` as we use."""

    def __init__(self, made: Any) -> None:
        self._graph, self.save = made.model_proto, made.save

    @property
    def model_proto(self) -> Any:
        """A copy: whoever gets it may change it."""
        made = type(self._graph)()
        made.CopyFrom(self._graph)
        return made


def _keep_graphs(module: ModuleType) -> None:
    trace, kept = module._program, {}

    def program(part: Any, inputs: Sequence[Any], *names: Sequence[str]) -> Any:
        if module._n_bytes(part) > min(LARGEST, module.LARGEST_INSIDE):
            return trace(part, inputs, *names)
        key = made_of(part, inputs, names)
        if key not in kept:
            made = trace(part, inputs, *names)
            if len(kept) >= MOST_KEPT:
                kept.pop(next(iter(kept)))
            kept[key] = _Program(made)
        return kept[key]

    module._program = program  # type: ignore[attr-defined]


def made_of(part: Any, inputs: Sequence[Any], names: Sequence[Sequence[str]]) -> str:
    """A hash of all that a graph depends on: code, sizes, weights, shapes of inputs, names."""
    digest = hashlib.sha256(repr((part, names)).encode())
    for name, inner in part.named_modules():
        code = type(inner).forward.__code__
        digest.update(f"{name} {type(inner).__qualname__}".encode())
        digest.update(code.co_code + repr(code.co_consts).encode())
        for key, value in sorted(vars(inner).items()):
            if not key.startswith("_") and key != "training":
                digest.update(_bytes(key, value))
    for name, one in (*part.named_parameters(), *part.named_buffers()):
        digest.update(_bytes(name, one))
    for one in inputs:
        digest.update(f"{one.dtype} {tuple(one.shape)}".encode())
    return digest.hexdigest()


def _bytes(name: str, value: Any) -> bytes:
    """Of a value of a module: a tensor's own, else what `repr` says of it."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"{name} {value!r}".encode()
    flat = value.detach().cpu().contiguous().flatten()
    held = f"{name} {value.dtype} {tuple(value.shape)}".encode()
    return held + (flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")


def _keep_pictures(module: ModuleType) -> None:
    render, kept = module.render, {}

    def rendered(script: Any, fps: float, seed: int, size_px: tuple[int, int]) -> Any:
        key = (script.name, fps, seed, size_px)
        if key not in kept:
            kept[key] = [(time_s, pixels) for time_s, pixels in render(script, fps, seed, size_px)]
        return [(time_s, pixels.copy()) for time_s, pixels in kept[key]]

    module.render = rendered  # type: ignore[attr-defined]
