"""The tensors that a graph's files hold, mapped and not read: of any size in no memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..quant.schemes import Scheme
from ..quant.stored import operator_of
from ..runtime.errors import EngineError
from .decoder_onnx import DecoderWeight


class StoredTensors:
    """Read-only views of a graph's initializers.

    Args:
        path: of the graph; its external data lies beside it.
    """

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path), load_external_data=False)
        self._folder = path.parent
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def array(self, name: str) -> NDArray[Any]:
        """One tensor; it costs the pages that are looked at.

        Raises:
            EngineError: the graph holds none of this name.
        """
        if name not in self._tensors:
            raise EngineError(f"the graph holds no tensor {name}")
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        facts = {entry.key: entry.value for entry in tensor.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        file, offset = self._folder / facts["location"], int(facts.get("offset", 0))
        return np.memmap(file, dtype, "r", offset, tuple(tensor.dims))

    def matrix_rows(
        self, weight: DecoderWeight, scheme: Scheme, rows: slice = slice(None)
    ) -> tuple[NDArray[Any], ...]:
        """What the graph holds for rows (out) of one matrix of a decoder.

        Returns:
            float32: (weights (rows, in),). Quantized: packed codes (rows, blocks, bytes) uint8,
            scales (rows, blocks) float32; of NF4, whose blocks know no rows, all there are.

        Raises:
            EngineError: the graph has no such tensor.
        """
        if scheme.is_exact:
            return (self.array(weight.name)[:, rows].T,)
        codes, scales, _ = operator_of(scheme).suffixes
        return self.array(f"{weight.name}{codes}")[rows], self.array(f"{weight.name}{scales}")[rows]
