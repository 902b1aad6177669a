"""Compiled engines of this device, kept outside the bundle and found by what they were made of."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OutputExists, OutputUnwritable
from .whole_folder import whole_folder

FORMAT = 1
ENGINE_FILE, FACTS_FILE = "engine", "engine.json"
MOST_BYTES = 16 << 30
"""Of all engines together: four of an 8B model in int4."""
_PIECE = 1 << 24


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What a compiled engine was made of, and for what: where one differs, so may its bits.

    Attributes:
        graph: name of the ONNX file without its ending, for people.
        graph_sha256: of the graph and its data; see `graph_sha256`.
        sizes: (name, (min, opt, max)) of every size that is not fixed, by name.
        module: that compiled it: `tensorrt` or `tensorrt_rtx`.
        version: of the module.
        target: architecture of the GPU, for example `sm86`.
    """

    graph: str
    graph_sha256: str
    sizes: tuple[tuple[str, tuple[int, int, int]], ...]
    module: str
    version: str
    target: str

    @property
    def name(self) -> str:
        """Name of its folder in a cache: readable, and other where anything above is."""
        told = json.dumps(asdict(self), sort_keys=True).encode()
        return f"{self.graph}-{self.target}-{hashlib.sha256(told).hexdigest()[:16]}"


def engine_key(
    graph: Path,
    data: Iterable[Path],
    sizes: Mapping[str, tuple[int, int, int]],
    module: Any,
    target: str,
) -> EngineKey:
    """The key of the engine that a module makes of a graph.

    Args:
        graph: an ONNX file.
        data: files of its external data.
        sizes: min, opt and max of every size that has a name.
        module: the imported `tensorrt` or `tensorrt_rtx`.
        target: architecture of the GPU, for example `sm86`.

    Raises:
        FileNotFoundError: a file is not there.

    Cost: reads all files once.
    """
    named = tuple(sorted((name, tuple(size)) for name, size in sizes.items()))
    sha256 = graph_sha256(graph, data)
    return EngineKey(
        graph.name.removesuffix(".onnx"),
        sha256,
        named,  # type: ignore[arg-type]  # each of them is of three
        module.__name__,
        module.__version__,
        target,
    )


def graph_sha256(graph: Path, data: Iterable[Path]) -> str:
    """SHA-256 of the lines that `sha256sum` prints of a graph and its data files, 64 hex digits."""
    lines = [f"{_sha256_of(path)}  {path.name}\n" for path in (graph, *sorted(data))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def data_of(graph: Path) -> tuple[Path, ...]:
    """The file of external data that lies beside a graph under its name with `.data` behind."""
    beside = graph.with_name(f"{graph.name}.data")
    return (beside,) if beside.is_file() else ()


def default_folder() -> Path:
    """Where engines are kept unless another place is named: the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "edgestream" / "engines"


class EngineCache:
    """A folder of engines, one folder each. Safe for several processes.

    Args:
        folder: made when the first engine is kept.
        most_bytes: of all engines together; the ones not used for longest go first.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def find(self, key: EngineKey) -> NDArray[np.uint8] | None:
        """The bytes of an engine, read as they are needed; None where it is not here.

        One whose bytes are not those that were written is removed, and not here.

        Cost: reads it once, for its hash.
        """
        place = self.folder / key.name
        try:
            facts = json.loads((place / FACTS_FILE).read_text("utf-8"))
            blob = np.memmap(place / ENGINE_FILE, np.uint8, mode="r")
            if facts["sha256"] != hashlib.sha256(blob.data).hexdigest():
                raise ValueError("other bytes")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self.remove(key)
            return None
        _touch(place)
        return blob

    def publish(self, key: EngineKey, blob: bytes) -> Path | None:
        """Keep an engine: whole, or not at all.

        Returns:
            Its folder; None where it alone is larger than all may be.

        Raises:
            OutputFull: the disk is full.
            OutputUnwritable: the folder cannot be made or written.
        """
        if len(blob) > self.most_bytes:
            return None
        place = self.folder / key.name
        _make(self.folder)
        facts = {
            "format": FORMAT,
            **asdict(key),
            "sizes": dict(key.sizes),
            "sha256": hashlib.sha256(blob).hexdigest(),
            "bytes": len(blob),
        }
        try:
            with whole_folder(place, replaces=FACTS_FILE) as staging:
                (staging / ENGINE_FILE).write_bytes(blob)
                (staging / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        except OutputExists:
            if not (place / FACTS_FILE).is_file():  # else another process was faster
                raise
        self._make_room(place)
        return place

    def remove(self, key: EngineKey) -> None:
        """Keep an engine no longer: it is damaged, or nothing here can use it."""
        _remove(self.folder / key.name)

    def entries(self) -> dict[Path, int]:
        """Folder of each engine → its bytes; the one not used for longest first."""
        found = []
        for place in self.folder.iterdir() if self.folder.is_dir() else ():
            try:
                if not place.name.startswith("."):
                    found.append(
                        (place.stat().st_mtime_ns, place, (place / ENGINE_FILE).stat().st_size)
                    )
            except OSError:  # another process has just removed it, or it is none of ours
                continue
        return {place: n_bytes for _, place, n_bytes in sorted(found)}

    def _make_room(self, newest: Path) -> None:
        """Remove what was not used for longest until the bound is kept; never the newest."""
        kept = self.entries()
        left = sum(kept.values())
        for place, n_bytes in kept.items():
            if left <= self.most_bytes:
                return
            if place != newest:
                _remove(place)
                left -= n_bytes


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritable(
            f"engines cannot be kept: {error.strerror}: {folder}",
            hint="name another folder with --set engine.engines_dir=DIR",
        ) from error


def _touch(place: Path) -> None:
    try:
        os.utime(place)
    except OSError:  # a cache that may only be read serves as well
        return


def _remove(place: Path) -> None:
    """Take the name away first, so that nobody finds half of it; open files stay readable."""
    aside = place.with_name(f".{place.name}.gone-{secrets.token_hex(4)}")
    try:
        os.rename(place, aside)
    except OSError:
        return
    shutil.rmtree(aside, ignore_errors=True)
