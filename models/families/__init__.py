"""The families of models that can be exported: the one visible dictionary, name → family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ...runtime.errors import FamilyUnknown
from ..checkpoint import read_config
from ..family import Checkpoint, Family
from .live import Live
from .reference import Reference

FAMILIES: Mapping[str, Family] = MappingProxyType({"live": Live(), "reference": Reference()})


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in this folder, loaded by the family that its config.json names.

    Raises:
        FamilyUnknown: there is no such family; the message lists those there are.
        BundleError: as the family's `load`.
    """
    family = read_config(folder).text("edgestream_family")
    if family not in FAMILIES:
        raise FamilyUnknown(
            f"{folder / 'config.json'} has edgestream_family {family!r}, expected one of "
            f"{', '.join(FAMILIES)}",
            hint="a checkpoint of another architecture needs a family in models/families/",
        )
    return FAMILIES[family].load(folder)
