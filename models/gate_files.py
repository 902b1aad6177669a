"""The gate of a checkpoint folder: gate.safetensors with gate.json (docs/FORMATS.md, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..runtime.errors import CheckpointInvalid, CheckpointMissing
from ..runtime.json_fields import Fields, plain
from ..runtime.manifest_values import GateFacts, TensorSpec
from .checkpoint import GATE_FACTS, GATE_WEIGHTS, read_json
from .cognition_gate import SPEAK, CognitionGate, GateShape
from .gate_heads import CROSS_ATTENTION, FRAME_ROWS, KINDS, LLM, QUERY_ROWS, HeadShape
from .weights import fill_, stored_tensors


@dataclass(frozen=True, slots=True)
class GateMeaning:
    """What a gate's scores mean, as gate.json keeps it.

    Attributes:
        events: event types, in the order of the scores behind `speak`.
        thresholds: open_above per event type and of `speak`, in [0, 1].
        attributes: attribute → its values, in the order of the graph's outputs.
        attributes_of: event type → the attributes that are told of it; empty: every event has all.
        close_ratio: close_below as a share of open_above; None for the default.
        calibrated_on: what the thresholds were calibrated on; None where they were not.
    """

    events: tuple[str, ...]
    thresholds: Mapping[str, float]
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    close_ratio: float | None = None
    calibrated_on: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Raises CheckpointInvalid where it names an event or an attribute that it does not have"""
        known = {*self.events, SPEAK}
        if not set(self.thresholds) <= known:
            raise CheckpointInvalid(
                f"{GATE_FACTS} has thresholds for {sorted(self.thresholds)}, expected them for "
                f"its events {list(self.events)}"
            )
        told = {name for names in self.attributes_of.values() for name in names}
        if not set(self.attributes_of) <= known or not told <= set(self.attributes):
            raise CheckpointInvalid(
                f"{GATE_FACTS} has attributes_of {dict(self.attributes_of)}, expected its events "
                f"{list(self.events)}, each with some of {sorted(self.attributes)}"
            )


def load_gate(
    folder: Path, dim: int, tokens_per_frame: int
) -> tuple[CognitionGate, GateFacts] | None:
    """The gate and what it was trained to tell; None where the checkpoint has none.

    Args:
        folder: of the checkpoint.
        dim: of a token and of the summary.
        tokens_per_frame: that it reads, where it reads tokens.

    Raises:
        CheckpointMissing: one of its two files is not there.
        CheckpointInvalid: one of them is damaged, or they do not fit each other.
    """
    weights, facts = folder / GATE_WEIGHTS, folder / GATE_FACTS
    if not weights.is_file() and not facts.is_file():
        return None
    fields = Fields(read_json(facts), GATE_FACTS, CheckpointInvalid)
    meaning = meaning_from_json(fields)
    gate = _made(fields.object("architecture", _shape_of(meaning, dim, tokens_per_frame)))
    if not weights.is_file():
        raise CheckpointMissing(
            f"there is no file {weights}, but {GATE_FACTS} describes a gate",
            hint="copy it too, or remove gate.json to go without a gate",
        )
    fill_({"": gate}, stored_tensors((weights,)))
    return gate.eval().requires_grad_(False), gate_facts(gate, meaning)


def _made(shape: GateShape) -> CognitionGate:
    try:
        return CognitionGate(shape)
    except ValueError as error:
        raise CheckpointInvalid(f"{GATE_FACTS}: {error}") from error


def gate_facts(gate: CognitionGate, meaning: GateMeaning) -> GateFacts:
    """What the manifest says of the gate."""
    names = zip(("conv", "ssm"), gate.first_state(), strict=True)
    return GateFacts(
        kind="learned",
        events=meaning.events,
        thresholds=meaning.thresholds,
        close_ratio=meaning.close_ratio,
        attributes=meaning.attributes or None,
        attributes_of=meaning.attributes_of or None,
        state=tuple(TensorSpec(name, "float32", tuple(part.shape)) for name, part in names),
        query_dim=gate.shape.query_dim or None,
        reads_spoken=gate.shape.reads_spoken or None,
    )


def gate_as_json(shape: GateShape, meaning: GateMeaning) -> dict[str, Any]:
    """gate.json, without its `format`."""
    told: dict[str, Any] = {
        "events": list(meaning.events),
        "thresholds": dict(meaning.thresholds),
        "attributes": {name: list(values) for name, values in meaning.attributes.items()},
        "attributes_of": {name: list(told) for name, told in meaning.attributes_of.items()},
        "calibrated_on": None if meaning.calibrated_on is None else dict(meaning.calibrated_on),
        "architecture": {
            "reads": list(shape.reads),
            "width": shape.width,
            "layers": shape.layers,
            "cells": shape.cells,
            "map_std": list(shape.map_std),
            **_told_further(shape),
        },
    }
    if meaning.close_ratio is not None:
        told["close_ratio"] = meaning.close_ratio
    return told


def meaning_from_json(fields: Fields) -> GateMeaning:
    """What gate.json says of the scores.

    Raises:
        CheckpointInvalid: a field is missing or wrong.
    """
    has_ratio = "close_ratio" in fields
    meaning = GateMeaning(
        events=fields.texts("events"),
        thresholds=fields.mapping("thresholds"),
        attributes=_texts_by_name(fields, "attributes"),
        attributes_of=_texts_by_name(fields, "attributes_of"),
        close_ratio=fields.number("close_ratio", at_least=0, at_most=1) if has_ratio else None,
        calibrated_on=fields.mapping("calibrated_on") if "calibrated_on" in fields else None,
    )
    meaning.check()
    return meaning


def _told_further(shape: GateShape) -> dict[str, Any]:
    """What of an architecture is told only where it differs from that of the first gates."""
    told: dict[str, Any] = {}
    if shape.reads_query:
        told["query_dim"] = shape.query_dim
    if shape.token_width:
        told["token_width"] = shape.token_width
    if shape.head != HeadShape():
        head = shape.head
        told["head"] = {"kind": head.kind}
        if head.narrow:
            told["head"]["narrow"] = head.narrow
        if head.kind == CROSS_ATTENTION:
            told["head"]["over"] = head.over
        if head.kind == LLM:
            told["head"] |= {"layers": head.layers, "decoder": plain(head.decoder)}
    return told


def _head(fields: Fields) -> HeadShape:
    kind = fields.text("kind", one_of=KINDS)
    if kind == CROSS_ATTENTION:
        return HeadShape(kind, over=fields.text("over", one_of=(QUERY_ROWS, FRAME_ROWS)))
    if kind == LLM:
        return HeadShape(kind, layers=fields.whole("layers"), decoder=fields.mapping("decoder"))
    if "narrow" in fields:
        return HeadShape(kind, narrow=fields.whole("narrow"))
    return HeadShape(kind)


def _texts_by_name(fields: Fields, key: str) -> dict[str, tuple[str, ...]]:
    if key not in fields:
        return {}
    below = fields.object(key, lambda found: found)
    return {name: below.texts(name) for name in fields.mapping(key)}


def _shape_of(meaning: GateMeaning, dim: int, tokens: int) -> Any:
    def shape(below: Fields) -> GateShape:
        try:
            return GateShape(
                dim=dim,
                tokens=tokens,
                events=len(meaning.events),
                attributes={name: len(values) for name, values in meaning.attributes.items()},
                width=below.whole("width"),
                layers=below.whole("layers"),
                cells=below.whole("cells"),
                map_std=below.numbers("map_std"),
                reads=below.texts("reads"),
                query_dim=below.whole("query_dim") if "query_dim" in below else 0,
                token_width=below.whole("token_width") if "token_width" in below else 0,
                head=below.object("head", _head) if "head" in below else HeadShape(),
            )
        except ValueError as error:
            raise CheckpointInvalid(f"{GATE_FACTS}: {error}") from error

    return shape
