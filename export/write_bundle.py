"""Writing a bundle: whole or not at all, the manifest last, the same bytes for the same inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..runtime.array_file import write_arrays
from ..runtime.bundle import files_in, hash_line, sha256_of_file
from ..runtime.errors import ManifestInvalid
from ..runtime.file_names import HASH_FILE, MANIFEST_FILE, path_is_plain
from ..runtime.manifest import manifest_from_json
from ..runtime.whole_folder import whole_folder


class BundleWriter:
    """Files on their way into a bundle; made by `bundle_writer`.

    Attributes:
        folder: where they lie until the bundle is complete. Tools that write files themselves
            write into it; what lies in it at the end is the bundle.
        sha256: `bundle_sha256`; None before `finish`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sha256: str | None = None

    def path(self, name: str) -> Path:
        """Where to write a file of this name; its folder exists.

        Raises:
            ValueError: the name leads out of the bundle.
        """
        if not path_is_plain(name) or name in (MANIFEST_FILE, HASH_FILE):
            raise ValueError(f"{name!r} is no name for a file in a bundle")
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_bytes(self, name: str, content: bytes) -> None:
        """A file with this content."""
        self.path(name).write_bytes(content)

    def write_text(self, name: str, text: str) -> None:
        """A UTF-8 file with this text."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """A JSON file; keys sorted, so that equal values are equal bytes."""
        self.write_bytes(name, json_bytes(value))

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """A `.npz` file with these arrays."""
        write_arrays(self.path(name), arrays)

    def copy(self, name: str, source: Path) -> None:
        """A copy of a file's content."""
        shutil.copyfile(source, self.path(name))

    def finish(self, facts: Mapping[str, Any]) -> str:
        """Hash what was written and write the manifest, then its hash; returns `bundle_sha256`.

        Args:
            facts: the manifest as JSON without `files`, which is added here.

        Raises:
            ManifestInvalid: it is no manifest, or names a file that was not written.

        Cost: reads every file once.
        """
        value = {**facts, "files": self._files()}
        content = json_bytes(value)
        manifest_from_json(json.loads(content))
        (self.folder / MANIFEST_FILE).write_bytes(content)
        self.sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / HASH_FILE).write_bytes(hash_line(self.sha256))
        return self.sha256

    def _files(self) -> dict[str, dict[str, Any]]:
        files = {}
        for name in files_in(self.folder):
            path = self.folder / name
            if path.is_symlink() or not path.is_file():
                raise ManifestInvalid(f"{name} is no plain file, expected nothing else in a bundle")
            files[name] = {"sha256": sha256_of_file(path), "bytes": os.path.getsize(path)}
        return files


@contextmanager
def bundle_writer(target: Path, *, force: bool = False) -> Iterator[BundleWriter]:
    """A writer whose files become the bundle `target` when the block ends.

    The block must call `finish`. On an error, on Ctrl-C and after a kill there is no new bundle,
    and an older one under this name is what it was.

    Args:
        target: folder of the bundle; its parent must exist.
        force: replace an older bundle. Anything else that stands there is never replaced.

    Raises:
        OutputExists, OutputFull, OutputUnwritable: as `whole_folder` says.
    """
    with whole_folder(target, replaces=MANIFEST_FILE if force else None) as folder:
        writer = BundleWriter(folder)
        yield writer
        if writer.sha256 is None:
            raise RuntimeError("the bundle was not finished")


def json_bytes(value: Any) -> bytes:
    """JSON for files that people may read: sorted keys, two spaces, UTF-8, a newline at the end."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()
