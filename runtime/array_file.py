"""Named arrays in one `.npz` file whose bytes depend on the arrays alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# `numpy.savez` writes the time of day into each member. This is the earliest time a zip can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o644 << 16
_UNIX = 3


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPieces:
    """An array of one axis, in pieces: a file is written from them without a copy of it all.

    Attributes:
        pieces: of any shapes, read row by row, one after the other.
        dtype: of each of them.
    """

    pieces: tuple[NDArray[Any], ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return sum(piece.size for piece in self.pieces)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, (size,), in memory of its own."""
        flat = [piece.ravel() for piece in self.pieces]
        joined = np.concatenate(flat) if flat else np.empty(0, self.dtype)
        return joined.astype(self.dtype if dtype is None else dtype, copy=False)


Saved: TypeAlias = "NDArray[Any] | ArrayPieces"
"""What a file holds under one name."""


def write_arrays(file: Path | IO[bytes], arrays: Mapping[str, Saved]) -> None:
    """Write arrays under their names, in the order given; `numpy.load` reads them.

    Nothing is compressed: the bytes do not depend on a version of zlib.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            member.create_system, member.external_attr = _UNIX, _PLAIN_FILE
            with archive.open(member, "w", force_zip64=True) as out:
                if isinstance(array, ArrayPieces):
                    _write_pieces(out, array)
                    continue
                np.lib.format.write_array(out, np.asarray(array, order="C"), allow_pickle=False)


def _write_pieces(out: IO[bytes], array: ArrayPieces) -> None:
    """The bytes that `write_array` gives for the whole array."""
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (array.size,)}
    np.lib.format.write_array_header_1_0(out, header)
    for piece in array.pieces:
        out.write(np.ascontiguousarray(piece, array.dtype).data)


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file, by name.

    Raises:
        ValueError: it is no such file, is damaged, or holds Python objects.
        OSError: it cannot be read.
    """
    try:
        with open(file, "rb") as held:  # numpy leaves a file open that it fails to read
            archive = np.load(held, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, expected named ones")
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, KeyError, io.UnsupportedOperation) as error:
        raise ValueError(f"it is no file of arrays: {error}") from error
