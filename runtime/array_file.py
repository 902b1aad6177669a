"""Named arrays in one `.npz` file whose bytes depend on the arrays alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# `numpy.savez` writes the time of day into each member. This is the earliest time a zip can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o644 << 16
_UNIX = 3


def write_arrays(file: Path | IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays under their names, in the order given; `numpy.load` reads them.

    Nothing is compressed: the bytes do not depend on a version of zlib.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            member.create_system, member.external_attr = _UNIX, _PLAIN_FILE
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.asarray(array, order="C"), allow_pickle=False)


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
