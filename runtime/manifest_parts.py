"""The parts of a bundle as its manifest lists them: roles, variants, tensors at their borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor at the border of a graph.

    Attributes:
        name: in the graph.
        dtype: its numpy name, for example `float32`; also `bfloat16`.
        shape: sizes; a text stands for a size that may differ from run to run, and the same text
            for the same size within one run.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Variant:
    """One compiled form of a part.

    Attributes:
        id: unique in its part, for example `cpu-int4`.
        provider: that runs it, for example `cpu`.
        file: the graph, in the bundle.
        proof: `passed`, or `pending-device`: not used before it is proven on the device.
        io_dtype: of its borders.
        inputs, outputs: what it takes and gives.
        kv_dtype: of the cache; None for a part without one.
        scheme: how it is quantized, as data; None for weights as they were.
    """

    id: str
    provider: str
    file: str
    proof: str
    io_dtype: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kv_dtype: str | None = None
    scheme: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing)

    @property
    def is_proven(self) -> bool:
        """Its proof was passed, so it may be used."""
        return self.proof == "passed"


@dataclass(frozen=True, slots=True)
class Part:
    """One stage of the model: its role (vision, gate, connector, decoder, …) and its variants."""

    role: str
    variants: tuple[Variant, ...]
    extra: Mapping[str, Any] = field(default_factory=_nothing)
