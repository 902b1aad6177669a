"""The families of models that can be exported: the one visible dictionary, name → family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ...runtime.errors import FamilyUnknown
from ..checkpoint import config_fields, refuse_code
from ..family import Checkpoint, Family, LoadOptions
from .live import Live
from .llava_onevision import LlavaOnevision
from .qwen2_5_vl import Qwen25Vl
from .qwen3_vl import Qwen3Vl
from .reference import Reference
from .smolvlm import SmolVlm
from .streammind import StreamMind
from .videollama3 import VideoLlama3

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "live": Live(),
        "llava_onevision": LlavaOnevision(),
        "qwen2_5_vl": Qwen25Vl(),
        "qwen3_vl": Qwen3Vl(),
        "reference": Reference(),
        "smolvlm": SmolVlm(),
        "streammind": StreamMind(),
        "videollama3": VideoLlama3(),
    }
)


def load_checkpoint(folder: Path, options: LoadOptions | None = None) -> Checkpoint:
    """The checkpoint in this folder, loaded by the family that its config.json names.

    `edgestream_family` names it in a folder of our own format, `model_type` in one of the Hub.

    Args:
        folder: of `models/hub.py`, or any other.
        options: what the user chose; None for nothing.

    Raises:
        FamilyUnknown: there is no such family; the message lists those there are.
        RemoteCodeNeeded: config.json names Python code that no family stands in for.
        BundleError, SettingsInvalid: as the family's `load`.
    """
    return family_of(folder).load(folder, options or LoadOptions())


def family_of(folder: Path) -> Family:
    """The family that config.json of a checkpoint folder names.

    Raises:
        CheckpointMissing, CheckpointInvalid: there is none, or it names nothing.
        FamilyUnknown, RemoteCodeNeeded: as `load_checkpoint`.
    """
    config = config_fields(folder)
    if "model_type" in config and "edgestream_family" not in config:
        kind = config.text("model_type")
        family = next((one for one in FAMILIES.values() if kind in one.model_types), None)
        if family is None or kind not in family.replaces_code:
            refuse_code(folder)
        if family is not None:
            return family
        known = [kind for one in FAMILIES.values() for kind in one.model_types]
        raise FamilyUnknown(
            f"{folder / 'config.json'} has model_type {kind!r}, expected one of {', '.join(known)}",
            hint="docs/add-a-family.md shows how a family for another architecture is written",
        )
    name = config.text("edgestream_family")
    if name not in FAMILIES:
        raise FamilyUnknown(
            f"{folder / 'config.json'} has edgestream_family {name!r}, expected one of "
            f"{', '.join(FAMILIES)}",
            hint="a checkpoint of another architecture needs a family in models/families/",
        )
    return FAMILIES[name]
