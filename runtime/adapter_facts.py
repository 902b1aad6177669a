"""What a manifest says of an adapter that may be chosen per answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .json_fields import Fields

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """One adapter of a bundle.

    Attributes:
        name: what it is chosen by; never `base`.
        file: in the bundle, as ONNX Runtime reads adapters.
        tensors: inputs of the decoder's graph that it fills: all that the graph has.
        rank: the largest of its ranks.
        base_sha256: of the checkpoint that it belongs to: the bundle's own.
        sha256: of the file that it was made from.
    """

    name: str
    file: str
    tensors: int
    rank: int
    base_sha256: str
    sha256: str
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def is_adapter_name(name: str) -> bool:
    """Letters, digits, dot, hyphen and underscore, 64 at most; `base` is the model without one."""
    return bool(_NAME.fullmatch(name)) and name != "base"


def adapter_from_json(fields: Fields) -> AdapterFacts:
    """One entry of `adapters` of a manifest."""
    name = fields.text("name")
    if not is_adapter_name(name):
        raise fields.refused("name", name, "a name of letters, digits, dots and hyphens, not base")
    return AdapterFacts(
        name=name,
        file=fields.text("file"),
        tensors=fields.whole("tensors"),
        rank=fields.whole("rank"),
        base_sha256=fields.matching("base_sha256", _SHA256, "64 hex digits"),
        sha256=fields.matching("sha256", _SHA256, "64 hex digits"),
        extra=fields.rest(),
    )
