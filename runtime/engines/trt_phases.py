"""Which graphs a TensorRT variant is compiled from, and for which sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine_cache import data_of
from ..errors import EngineUnusable
from ..file_names import path_is_plain
from ..manifest import Variant

Range = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Phase:
    """One engine of a variant.

    Attributes:
        name: for people, for example `decode`.
        graph: the ONNX file.
        data: files of its external data.
        sizes: name → (min, opt, max) of each size that is not fixed.
    """

    name: str
    graph: Path
    data: tuple[Path, ...]
    sizes: Mapping[str, Range]


def phases_of(graph: Path, variant: Variant) -> tuple[Phase, ...]:
    """The phases of a variant, in the order in which a run tries them.

    Args:
        graph: the variant's file; the others lie beside it.
        variant: its extra keys `phases`, `sizes` and `data` say the rest; docs/FORMATS.md, 1.

    Raises:
        EngineUnusable: they make no sense, or name a file that is not in the bundle.
    """
    extra = variant.extra
    listed = extra.get("phases") or [{"name": "all", "file": graph.name, **extra}]
    try:
        phases = tuple(_phase(graph.parent, entry) for entry in listed)
    except (KeyError, TypeError, ValueError) as error:
        raise _senseless(variant, f"a phase cannot be read: {error!r}") from error
    for phase in phases:
        for path in (phase.graph, *phase.data):
            if not path.is_file():
                raise _senseless(variant, f"there is no {path.name}")
    return phases


def most_of(variant: Variant, size: str) -> int | None:
    """The greatest value of a size over all phases; None where the variant does not bound it."""
    listed = variant.extra.get("phases") or [variant.extra]
    ranges = [entry["sizes"][size] for entry in listed if size in entry.get("sizes", {})]
    return max((int(one[2]) for one in ranges), default=None)


def _phase(folder: Path, entry: Mapping[str, Any]) -> Phase:
    graph = _inside(folder, entry["file"])
    data = tuple(_inside(folder, name) for name in entry.get("data") or ())
    sizes = {str(name): _range(size) for name, size in entry.get("sizes", {}).items()}
    return Phase(str(entry.get("name", "all")), graph, data or data_of(graph), sizes)


def _inside(folder: Path, name: str) -> Path:
    if not path_is_plain(name):
        raise ValueError(f"{name} is no file of the bundle")
    return folder / name


def _range(size: Any) -> Range:
    low, usual, high = (int(one) for one in size)
    if not 0 <= low <= usual <= high:
        raise ValueError(f"{low}, {usual}, {high} is no range")
    return low, usual, high


def _senseless(variant: Variant, why: str) -> EngineUnusable:
    return EngineUnusable(f"{variant.file}: {why}", hint="export the bundle again")
