"""Everything the user may choose, and how each setting is shown, checked and put into a schema.

One frozen table per stage, each value with its unit and its reason. A default stands in its table
alone. Facts of a model are not settings: they come with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .settings_field import Table
from .settings_governor import GovernorSettings
from .settings_live import LiveSettings
from .settings_privacy import PrivacySettings
from .settings_remembering import MemorySettings
from .settings_service import ServiceSettings
from .settings_speaking import ContextSettings, EngineSettings, SessionSettings
from .settings_standing import StandingSettings
from .settings_watching import EncoderSettings, GateSettings, RecordsSettings, SourceSettings

SCHEMA_ID = "urn:edgestream:settings:1"


class Settings(Table):
    """Everything the user may choose, one table per stage."""

    source: SourceSettings = SourceSettings()
    live: LiveSettings = LiveSettings()
    engine: EngineSettings = EngineSettings()
    encoder: EncoderSettings = EncoderSettings()
    gate: GateSettings = GateSettings()
    context: ContextSettings = ContextSettings()
    memory: MemorySettings = MemorySettings()
    session: SessionSettings = SessionSettings()
    records: RecordsSettings = RecordsSettings()
    service: ServiceSettings = ServiceSettings()
    privacy: PrivacySettings = PrivacySettings()
    standing: StandingSettings = StandingSettings()
    governor: GovernorSettings = GovernorSettings()


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
        return values if entry else f"a table of {schema['entries']}, each with {values}"
    if schema["type"] == "array":
        return f"a list, each of it {_in_words(schema['items'], '')}"
    return _in_words(schema, schema["unit"])


def _in_words(schema: dict[str, Any], unit: str) -> str:
    if schema["type"] == "boolean":
        return "true or false"
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "examples" in schema:
        return "one of the form " + ", ".join(schema["examples"])
    if schema["type"] == "string":
        return f"a text in quotes, of at most {schema['maxLength']} characters"
    kind = {"integer": "a whole number", "number": "a number"}[schema["type"]]
    if "exclusiveMinimum" in schema:
        bounds = f"above {schema['exclusiveMinimum']:.12g} and at most {schema['maximum']:.12g}"
    else:
        bounds = f"from {schema['minimum']:.12g} to {schema['maximum']:.12g}"
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
