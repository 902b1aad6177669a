"""The file beside an ONNX graph that holds its tensors, written piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SMALL_BYTES = 1024
"""A tensor up to here stays inside the graph."""
ALIGNED_BYTES = 64
"""Where tensors begin: a cache line, which vector instructions like."""


class ExternalData:
    """Appends tensors to a file, and keeps what the graph must say of them.

    Args:
        path: of the file; made anew.

    Attributes:
        tensors: of the graph, in the order in which they were added.
    """

    def __init__(self, path: Path) -> None:
        self.tensors: list[TensorProto] = []
        self._name, self._file = path.name, path.open("wb")

    def __enter__(self) -> ExternalData:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[Any]) -> None:
        """A whole tensor; a small one stays in the graph."""
        if array.nbytes <= SMALL_BYTES:
            self.tensors.append(numpy_helper.from_array(array, name))
        else:
            self.add_pieces(name, array.dtype, array.shape, [array])

    def add_pieces(
        self,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        pieces: Iterable[NDArray[Any]],
    ) -> None:
        """A tensor whose bytes come in pieces, in their order.

        Args:
            name: of the tensor.
            dtype: of all pieces.
            shape: of the whole.
            pieces: together as many numbers as the shape has.

        Raises:
            ValueError: they are more, fewer or of another type.
        """
        self._file.write(bytes(-self._file.tell() % ALIGNED_BYTES))
        start = self._file.tell()
        for piece in pieces:
            if piece.dtype != dtype:
                raise ValueError(f"{name}: got {piece.dtype}, expected {dtype}")
            self._file.write(np.ascontiguousarray(piece).data)
        length = self._file.tell() - start
        if length != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"{name}: got {length} bytes for {dtype} {shape}")
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(dtype),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        facts = {"location": self._name, "offset": start, "length": length}
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
