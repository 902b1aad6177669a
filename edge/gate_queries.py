"""What the gate of a bundle looks for: the same on every camera, or on each its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..runtime.errors import SettingsInvalid
from ..runtime.gate_query import check_query, shown

if TYPE_CHECKING:
    from ..runtime.manifest import Manifest
    from .settings_tables import Settings
    from .settings_watching import GateSettings


def with_query_of(settings: Settings, camera: str) -> Settings:
    """The settings of one camera: `gate.query` is what `gate.queries` has under its name."""
    gate = settings.gate
    if camera not in gate.queries:
        return settings
    own = gate.model_copy(update={"query": gate.queries[camera]})
    return settings.model_copy(update={"gate": own})


def check_queries(gate: GateSettings, manifest: Manifest) -> None:
    """Refuse to look for something with a gate that does not read it.

    Args:
        gate: what the user chose, `auto` resolved.
        manifest: of the bundle.

    Raises:
        SettingsInvalid: names the setting.
    """
    for key, text in _asked(gate):
        check_query(text, manifest, key)
        if gate.kind != "learned":
            raise SettingsInvalid(
                f"{key} is {shown(text)}, which the gate learned reads; got gate.kind {gate.kind}",
                hint=f"leave {key} out, or take --gate learned",
            )


def check_no_queries(gate: GateSettings) -> None:
    """Refuse to look for something without a model.

    Raises:
        SettingsInvalid: names the setting.
    """
    for key, text in _asked(gate):
        raise SettingsInvalid(
            f"{key} is {shown(text)}, which the gate of a model reads; got no model",
            hint=f"name one with --bundle, or leave {key} out",
        )


def queries_without_camera(cameras: Sequence[str], gate: GateSettings) -> str:
    """A sentence about queries of cameras that are not there; else empty."""
    names = ", ".join(sorted(set(gate.queries) - set(cameras)))
    known = ", ".join(cameras) or "none"
    return names and f"gate.queries names {names}, expected one of the cameras: {known}"


def _asked(gate: GateSettings) -> Iterator[tuple[str, str]]:
    """(key, text) of each setting that has one."""
    named = {f"gate.queries.{camera}": text for camera, text in gate.queries.items()}
    yield from ((key, text) for key, text in {**named, "gate.query": gate.query}.items() if text)
