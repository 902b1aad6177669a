"""What the user may choose: one frozen table per stage, each value with its unit and its reason.

A default stands here alone. Facts of a model are not settings: they come with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_ID = "urn:edgestream:settings:1"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _setting(default: Any, unit: str, meaning: str, **bounds: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **bounds)


class SourceSettings(_Table):
    """Where frames come from."""

    fps: float = _setting(
        4.0,
        "1/s",
        "Frames taken from the source per second of stream time. 4 leaves 250 ms for each, which a "
        "CPU of two cores can hold with an encoder (a guess, to be measured per device).",
        gt=0,
        le=120,
    )
    max_side_px: int = _setting(
        1280,
        "px",
        "Longest side of a frame; a larger picture is scaled down when it is decoded. 1280 leaves "
        "720p as it is and keeps a 4K picture from costing nine times the memory.",
        ge=16,
        le=8192,
    )
    realtime: bool = _setting(
        False,
        "",
        "Play a file at its own speed and drop what the device cannot hold, as with a camera. "
        "Off, because a file that drops nothing gives the same records every time.",
    )


class GateSettings(_Table):
    """When to speak."""

    kind: str = _setting(
        "change",
        "",
        "What opens an event: change (the picture changes; needs no model), every:N (N seconds "
        "of stream time have passed) or never. change, because it works on a bare device.",
        pattern=r"^(change|never|every:(0*[1-9][0-9]*(\.[0-9]+)?|0*\.0*[1-9][0-9]*))$",
        examples=["change", "every:10", "never"],
    )
    open_above: dict[str, Annotated[float, Field(gt=0, le=1)]] = _setting(
        {},
        "",
        "Score from which an event of a type opens, per type: {cut = 0.4} opens more cuts. What is "
        "not named keeps the gate's own threshold, which was set on real clips.",
    )
    hold_s: dict[str, Annotated[float, Field(ge=0, le=3600)]] = _setting(
        {},
        "s",
        "How long the score of a type must stay low before its event closes, per type: "
        "{motion = 5}. What is not named keeps the gate's own time.",
    )


class RecordsSettings(_Table):
    """What is reported, and how much of it may wait."""

    stats_every_s: float = _setting(
        60.0,
        "s",
        "Stream time between two stats records; one more comes at the end. A minute shows a slow "
        "leak within an hour and adds next to nothing to a log.",
        gt=0,
        le=86400,
    )
    outlet_capacity: int = _setting(
        1024,
        "records",
        "Records that may wait for a slow sink; beyond it a file waits, a camera drops and counts. "
        "1024 is minutes of a busy scene in about a megabyte.",
        ge=1,
        le=1_000_000,
    )


class SessionSettings(_Table):
    """Talking with the language model."""

    questions_waiting: int = _setting(
        64,
        "questions",
        "Questions that may wait for their time; beyond it one is refused, never dropped. 64 is "
        "far more than a person asks, and bounded.",
        ge=1,
        le=100_000,
    )


class Settings(_Table):
    """Everything the user may choose, one table per stage."""

    source: SourceSettings = SourceSettings()
    gate: GateSettings = GateSettings()
    records: RecordsSettings = RecordsSettings()
    session: SessionSettings = SessionSettings()


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it is shown.

    Attributes:
        key: table and name, joined by a dot.
        default: the value where nothing else is said.
        unit: of the value; empty for a word or a claim.
        meaning: one or two sentences, the reason for the default among them.
    """

    key: str
    default: object
    unit: str
    meaning: str


def properties() -> dict[str, dict[str, Any]]:
    """JSON Schema of each setting by its key (`source.fps`), in the order of the tables."""
    return {
        f"{table}.{name}": schema
        for table, stage in Settings.model_fields.items()
        for name, schema in type(stage.default).model_json_schema()["properties"].items()
    }


def setting_rows() -> tuple[SettingRow, ...]:
    """Every setting there is, in the order of the tables."""
    return tuple(
        SettingRow(key, schema["default"], schema["unit"], schema["description"])
        for key, schema in properties().items()
    )


def split_key(key: str) -> tuple[str, str]:
    """The setting that a key names, and the entry in its table: `gate.open_above.cut` has `cut`."""
    table, _, rest = key.partition(".")
    name, _, entry = rest.partition(".")
    setting = f"{table}.{name}"
    if entry and properties().get(setting, {}).get("type") == "object":
        return setting, entry
    return key, ""


def expected_value(key: str) -> str:
    """What a setting takes, in words."""
    key, entry = split_key(key)
    schema = properties()[key]
    if schema["type"] == "object":
        values = _in_words(schema["additionalProperties"], schema["unit"])
        return values if entry else f"a table of event types, each with {values}"
    return _in_words(schema, schema["unit"])


def _in_words(schema: dict[str, Any], unit: str) -> str:
    if schema["type"] == "boolean":
        return "true or false"
    if "examples" in schema:
        return "one of the form " + ", ".join(schema["examples"])
    kind = {"integer": "a whole number", "number": "a number"}[schema["type"]]
    if "exclusiveMinimum" in schema:
        bounds = f"above {schema['exclusiveMinimum']:g} and at most {schema['maximum']:g}"
    else:
        bounds = f"from {schema['minimum']:g} to {schema['maximum']:g}"
    return f"{kind} {bounds}" + (f", in {unit}" if unit else "")


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of a settings file, made of the tables above."""
    schema = Settings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "EdgeStream settings",
    }
