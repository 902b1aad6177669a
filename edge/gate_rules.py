"""The gate that a user chose, with what they chose of its rules put over its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..runtime.errors import SettingsInvalid
from ..runtime.gate import Gate, gate_from_name
from ..runtime.gate_change import ChangeRules

if TYPE_CHECKING:
    from .settings_tables import Settings
    from .settings_watching import GateSettings


def check_gate(settings: Settings, *, has_language_model: bool) -> None:
    """Refuse a gate that needs what this run has not.

    Raises:
        SettingsInvalid: the gate is `token`, and nothing reads every frame.
    """
    if settings.gate.kind != "token":
        return
    if not has_language_model:
        raise SettingsInvalid(
            "gate.kind is token, which lets the language model decide; got no model",
            hint="name one with --bundle, or take --gate change",
        )
    if settings.context.kind != "continuous":
        raise SettingsInvalid(
            f"gate.kind is token, which needs context.kind continuous; got {settings.context.kind}",
            hint="add --set context.kind=continuous",
        )


def watching_gate(gate: GateSettings) -> Gate:
    """The gate that sees every frame; nothing opens in it where the session decides (`token`)."""
    return gate_from_name("never" if gate.kind == "token" else gate.kind, change_rules(gate))


def change_rules(gate: GateSettings) -> ChangeRules:
    """Thresholds and hold times per event type; `close_below` follows `open_above`.

    Raises:
        SettingsInvalid: a setting names an event type that the gate does not know.
    """
    rules = ChangeRules()
    phases = dict(rules.phases)
    for event, score in _known("open_above", gate.open_above, phases):
        phases[event] = replace(phases[event], open_above=score, close_below=None)
    for event, seconds in _known("hold_s", gate.hold_s, phases):
        phases[event] = replace(phases[event], hold_s=seconds)
    return replace(rules, phases=phases)


def _known(
    name: str, chosen: Mapping[str, float], events: Mapping[str, object]
) -> list[tuple[str, float]]:
    for event in chosen:
        if event not in events:
            near = get_close_matches(event, events, n=1)
            raise SettingsInvalid(
                f"gate.{name} names the event type {event!r}, expected one of {', '.join(events)}",
                hint=f"did you mean {near[0]}?" if near else None,
            )
    return list(chosen.items())
