"""The adapters of a bundle: small changes of its language model, one of which is chosen per answer.

The decoder's weights are in memory once. What an adapter adds comes in beside them, as inputs of
the graph, so that another one is chosen without writing or copying a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .bundle import Bundle
from .engine import NOTHING, Arrays
from .errors import AdapterUnknown
from .manifest import AdapterFacts

BASE = "base"
"""The name by which the model without an adapter is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """What may be chosen, and what each adds.

    Attributes:
        tensors: name → inputs of the decoder's graph, float32.
    """

    tensors: Mapping[str, Arrays] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.tensors)

    @property
    def names(self) -> tuple[str, ...]:
        """What may be asked for; `base` is always there."""
        return (BASE, *self.tensors)

    def of(self, name: str | None) -> Arrays:
        """What an adapter adds; nothing for None.

        Raises:
            AdapterUnknown: the bundle has none of this name.
        """
        return NOTHING if name is None else self.tensors[self.checked(name) or name]

    def checked(self, name: str | None) -> str | None:
        """A name as it is kept: None for the base.

        Raises:
            AdapterUnknown: the bundle has none of this name.
        """
        if name in (None, BASE):
            return None
        if name not in self.tensors:
            raise AdapterUnknown(
                f"got the adapter {name!r}, expected one of {', '.join(self.names)}",
                hint="`edgestream inspect` lists those of a bundle; `export --adapters` adds some",
            )
        return name

    @property
    def n_bytes(self) -> int:
        """Of all of them."""
        return sum(array.nbytes for one in self.tensors.values() for array in one.values())


def adapters_of(bundle: Bundle) -> Adapters:
    """All adapters of a bundle, read.

    Raises:
        BundleFileRefused: a file of one cannot be read, or holds other tensors than the manifest
            says.
        BackendMissing: ONNX Runtime is not installed.

    Cost: their size in memory.
    """
    return Adapters({one.name: _read(bundle, one) for one in bundle.manifest.adapters or ()})


def _read(bundle: Bundle, facts: AdapterFacts) -> Mapping[str, Any]:
    from .engines.ort_adapter import read_adapter

    return read_adapter(bundle.path(facts.file), facts)
