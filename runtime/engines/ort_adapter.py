"""Adapter files of ONNX Runtime, read into arrays that a call of its engine binds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendMissing, BundleFileRefused
from ..manifest import AdapterFacts


def read_adapter(path: Path, facts: AdapterFacts) -> dict[str, NDArray[Any]]:
    """Input of the decoder's graph → float32 array, read-only; of rank 0 where it changes nothing.

    Args:
        path: of the file.
        facts: what the manifest says of it.

    Raises:
        BundleFileRefused: it is no such file, or holds other than float32 pairs of A and B.
        BackendMissing: the installed ONNX Runtime reads no adapters.
    """
    try:
        from onnxruntime import AdapterFormat  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendMissing(
            f"the installed ONNX Runtime reads no adapters: {error}",
            hint="pip install 'edgestream[cpu]' with onnxruntime 1.20 or newer",
        ) from error
    try:
        values = AdapterFormat.read_adapter(str(path)).get_parameters()
        found = {str(name): np.array(value.numpy()) for name, value in values.items()}
    except Exception as error:  # the library raises RuntimeError and kinds of its own
        raise _refused(path, f"cannot be read: {' '.join(str(error).split())[:200]}") from error
    for name, array in found.items():
        if array.dtype != np.float32 or array.ndim != 2 or not np.isfinite(array).all():
            raise _refused(path, f"has {name} of {array.dtype.name} {list(array.shape)}")
        array.flags.writeable = False
    if len(found) != facts.tensors:
        raise _refused(path, f"holds {len(found)} tensors, expected {facts.tensors}")
    return found


def _refused(path: Path, why: str) -> BundleFileRefused:
    return BundleFileRefused(
        f"the adapter {path.parent.name}/{path.name} {why}", hint="export the bundle again"
    )
