"""What the runtime is told of privacy, as the user's settings say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..runtime.errors import ZoneInvalid
from ..runtime.records import Record, warning
from ..runtime.sources import Source
from ..runtime.zones import MaskedSource, Zone, parsed_zones

if TYPE_CHECKING:
    from .settings_privacy import PrivacySettings

EVERY_CAMERA = "*"


def zones_of(camera: str, privacy: PrivacySettings) -> tuple[Zone, ...]:
    """The zones of a camera: those under its name, else those of every camera.

    Raises:
        ZoneInvalid: a zone of any camera is none; a slip shall not wait for the camera to be used.
    """
    known = {name: _parsed(name, text) for name, text in privacy.zones.items()}
    return known.get(camera, known.get(EVERY_CAMERA, ()))


def _parsed(camera: str, text: str) -> tuple[Zone, ...]:
    try:
        return parsed_zones(text)
    except ZoneInvalid as fault:
        raise ZoneInvalid(f"privacy.zones.{camera}: {fault.message}", hint=fault.hint) from fault


def with_zones(source: Source, privacy: PrivacySettings) -> Source:
    """The source with the zones of its camera hidden.

    Raises:
        ZoneInvalid: a zone of any camera is none.
    """
    zones = zones_of(source.name, privacy)
    return MaskedSource(source, zones) if zones else source


def unused_zones(camera: str, privacy: PrivacySettings) -> list[Record]:
    """A warning where zones are set and none of them is for this camera."""
    if not privacy.zones or camera in privacy.zones or EVERY_CAMERA in privacy.zones:
        return []
    names = ", ".join(sorted(privacy.zones))
    return [
        warning(
            "zones-unused",
            f"privacy.zones names {names}, but this camera is called {camera}: nothing is hidden",
        )
    ]


def zones_without_camera(cameras: Sequence[str], privacy: PrivacySettings) -> str:
    """A sentence about zones of cameras that are not there: a slip hides nothing; else empty."""
    names = ", ".join(sorted(set(privacy.zones) - {*cameras, EVERY_CAMERA}))
    known = ", ".join(cameras) or "none"
    return names and f"privacy.zones names {names}, expected one of the cameras: {known}"
