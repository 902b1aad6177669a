"""The gate that a user chose, with what they chose of its rules put over its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..runtime.errors import SettingsInvalid
from ..runtime.gate import Gate, gate_from_name
from ..runtime.gate_change import ChangeRules
from ..runtime.gate_network import SPEAK, has_learned_gate
from ..runtime.phases import PhaseRules
from .gate_queries import check_no_queries, check_queries

if TYPE_CHECKING:
    from ..runtime.gate_network import GateNetwork
    from ..runtime.learned_phases import LearnedRules
    from ..runtime.manifest import GateFacts, Manifest
    from .settings_tables import Settings
    from .settings_watching import GateSettings


def check_gate(settings: Settings, *, has_language_model: bool) -> None:
    """Refuse a gate that needs what this run has not.

    Raises:
        SettingsInvalid: the gate is `learned` or `token` or has a query, and there is no model; or
            `token`, and nothing reads every frame.
    """
    if not has_language_model:
        check_no_queries(settings.gate)
    kind = settings.gate.kind
    needs = {"token": "lets the language model decide", "learned": "is part of a model"}
    if kind in needs and not has_language_model:
        raise SettingsInvalid(
            f"gate.kind is {kind}, which {needs[kind]}; got no model",
            hint="name one with --bundle, or take --gate change",
        )
    if kind == "token" and settings.context.kind != "continuous":
        raise SettingsInvalid(
            f"gate.kind is token, which needs context.kind continuous; got {settings.context.kind}",
            hint="add --set context.kind=continuous",
        )


def event_types(settings: Settings, manifest: Manifest) -> tuple[str, ...]:
    """The types of events that the gate of a run can open.

    Args:
        settings: with the facts of the bundle (`with_gate_of`).
        manifest: of the bundle.
    """
    if settings.gate.kind == "learned" and manifest.gate is not None:
        return tuple(manifest.gate.events)
    if settings.gate.kind == "change":
        return tuple(change_rules(settings.gate).phases)
    return ()


def with_gate_of(settings: Settings, manifest: Manifest | None) -> Settings:
    """The settings with `auto` resolved: `learned` where the bundle has such a gate, or `change`.

    Args:
        settings: of the run.
        manifest: of its bundle; None without one.

    Raises:
        SettingsInvalid: the gate is `learned`, and the bundle has none; or it shall look for
            something, and does not read that.
    """
    has_learned = manifest is not None and has_learned_gate(manifest)
    kind = settings.gate.kind
    if kind == "learned" and not has_learned:
        name = "none" if manifest is None else manifest.name
        raise SettingsInvalid(
            f"gate.kind is learned, but the bundle {name} has no gate of its own",
            hint="take --gate change, or leave it to auto",
        )
    if kind == "auto":
        chosen = settings.gate.model_copy(update={"kind": "learned" if has_learned else "change"})
        settings = settings.model_copy(update={"gate": chosen})
    if manifest is not None:
        check_queries(settings.gate, manifest)
    return settings


def watching_gate(
    gate: GateSettings, network: GateNetwork | None = None, facts: GateFacts | None = None
) -> Gate:
    """The gate that sees every frame; nothing opens in it where the session decides (`token`).

    Args:
        gate: what the user chose, `auto` resolved.
        network, facts: of the bundle's own gate; None where it has none. Where another one
            decides, the network runs beside it, because the connector may read what it remembers.
    """
    if gate.kind == "learned" and network is not None and facts is not None:
        from ..runtime.gate_learned import LearnedGate

        return LearnedGate(network, learned_rules_of(gate, network, facts))
    kind = "never" if gate.kind == "token" else gate.kind
    decides = gate_from_name(kind, change_rules(gate))
    if network is None:
        return decides
    from ..runtime.gate_learned import GateBeside

    return GateBeside(network, decides)


def learned_rules_of(gate: GateSettings, network: GateNetwork, facts: GateFacts) -> LearnedRules:
    """What the manifest says of the gate, with what the user chose put over it.

    Raises:
        SettingsInvalid: a setting names an event type that the gate does not know.
    """
    from ..runtime.learned_phases import learned_rules

    rules = learned_rules(facts, has_speak=SPEAK in network.names)
    wish = {} if rules.speak is None else {SPEAK: rules.speak}
    phases = _chosen(gate, {**wish, **rules.events})
    speak = phases.pop(SPEAK, None)
    return replace(rules, events=phases, speak=speak)


def change_rules(gate: GateSettings) -> ChangeRules:
    """Thresholds and hold times per event type; `close_below` follows `open_above`.

    Raises:
        SettingsInvalid: a setting names an event type that the gate does not know.
    """
    rules = ChangeRules()
    return replace(rules, phases=_chosen(gate, rules.phases))


def _chosen(gate: GateSettings, own: Mapping[str, PhaseRules]) -> dict[str, PhaseRules]:
    phases = dict(own)
    for event, score in _known("open_above", gate.open_above, phases):
        phases[event] = replace(phases[event], open_above=score, close_below=None)
    for event, seconds in _known("hold_s", gate.hold_s, phases):
        phases[event] = replace(phases[event], hold_s=seconds)
    return phases


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
