"""The list of cameras that were added while the service ran, kept for its next start."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from ...runtime.errors import OutputUnwritable, StateInvalid
from .state_files import write_private

FILE_NAME = "cameras.json"


class CameraList:
    """Name → address, in a file that its owner alone may read: addresses hold passwords.

    State: the entries, and the file; without a folder the list lasts as long as the process.

    Args:
        folder: of the service's state; None for no file.

    Raises:
        StateInvalid: the file is no such list.
        OutputUnwritable: it cannot be read.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._lock = threading.Lock()
        self._entries = {} if self._path is None else _read(self._path)

    def entries(self) -> dict[str, str]:
        """Name → address, in the order in which they were added."""
        with self._lock:
            return dict(self._entries)

    def put(self, name: str, address: str) -> None:
        """Add one.

        Raises:
            OutputUnwritable: it cannot be written; nothing changed.
        """
        with self._lock:
            self._write({**self._entries, name: address})

    def remove(self, name: str) -> None:
        """Take one out; nothing where it is not in the list.

        Raises:
            OutputUnwritable: as `put`.
        """
        with self._lock:
            if name in self._entries:
                self._write({key: one for key, one in self._entries.items() if key != name})

    def _write(self, entries: dict[str, str]) -> None:
        if self._path is not None:
            write_private(self._path, json.dumps({"cameras": entries}, indent=1) + "\n")
        self._entries = entries


def _read(path: Path) -> dict[str, str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        cameras = value["cameras"]
        if not all(isinstance(one, str) for pair in cameras.items() for one in pair):
            raise TypeError("an address is no text")
        return dict(cameras)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OutputUnwritable(f"the list of cameras {path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateInvalid(
            f"{path} is no list of cameras: {type(error).__name__}: {error}",
            hint=f"remove {path} and add the cameras again",
        ) from error
