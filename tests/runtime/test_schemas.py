"""The schemas of every format, the examples on docs/FORMATS.md, and the code that writes them."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from edgestream.edge.settings_tables import Settings, settings_schema
from edgestream.runtime import errors, records
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.standing_request import StandingRequest
from edgestream.runtime.values import Event, Response

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "runtime" / "schemas"
SCHEMAS = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))}
REGISTRY = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


def objects_in(language, text):
    if language == "jsonl":
        return [json.loads(line) for line in text.splitlines()]
    if language == "json":
        return [json.loads(text)]
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return [tomllib.loads(text)]


def examples():
    page = (ROOT / "docs" / "FORMATS.md").read_text("utf-8")
    blocks = re.findall(r"^```(json|jsonl|toml) (\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [
        (name, value) for language, name, text in blocks for value in objects_in(language, text)
    ]


EXAMPLES = examples()


def faults(name, value):
    validator = Draft202012Validator(SCHEMAS[name], registry=REGISTRY)
    return [error.message for error in validator.iter_errors(value)]


def example(name, **fields):
    return copy.deepcopy(
        next(
            value
            for kind, value in EXAMPLES
            if kind == name and all(value.get(key) == field for key, field in fields.items())
        )
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_has_a_name(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["$id"] == f"urn:edgestream:{name.replace('_', '-')}:1"
    assert schema["title"] and schema["description"]


@pytest.mark.parametrize(
    ("name", "value"), EXAMPLES, ids=lambda part: part if isinstance(part, str) else ""
)
def test_an_example_of_the_page_is_valid(name, value):
    assert faults(name, value) == []


def test_every_schema_has_an_example_and_a_line_in_the_table():
    page = (ROOT / "docs" / "FORMATS.md").read_text("utf-8")
    assert {name for name, _ in EXAMPLES} == set(SCHEMAS)
    assert set(re.findall(r"^\| \d+ \|[^|]*\| `(\w+)\.json` \|", page, re.MULTILINE)) == set(
        SCHEMAS
    )


def test_every_json_block_of_the_page_is_marked():
    page = (ROOT / "docs" / "FORMATS.md").read_text("utf-8")
    assert not re.findall(r"^```(?:json|jsonl|toml)$", page, re.MULTILINE)


def test_every_type_of_record_has_an_example():
    types = {value["type"] for name, value in EXAMPLES if name == "record"}
    assert (
        types == set(records.RECORD_TYPES) == set(SCHEMAS["record"]["properties"]["type"]["enum"])
    )


@pytest.mark.medium
def test_a_required_field_is_missed_wherever_it_is_left_out():
    for name, value in EXAMPLES:
        required = set(SCHEMAS[name].get("required", ()))
        if name == "record":
            required |= set(SCHEMAS[name]["$defs"][value["type"]]["required"])
        for key in required:
            assert faults(name, {k: v for k, v in value.items() if k != key}), (name, key)


def event(closed_s=None):
    return Event("e1", "pan", 2.25, closed_s, {"pan": 0.7}, {"direction": "left"})


def response(**changes):
    said = {"turn_id": "t1", "cause": "event", "text": "", "is_final": True, "about_s": (1.0, 2.0)}
    return Response(**{**said, **changes})


CAMERA_STATES = ("connecting", "open", "lost", "paused", "rebased", "ended")


def written_records():
    metrics = Metrics(fps_target=4.0)
    with metrics.timed("watch"):
        metrics.drop("frames")
    return [
        event().record(),
        event(closed_s=4.0).record(),
        response(is_final=False, text="The").record(),
        response().record(),
        response(cause="question", used=(("k1", 0.5),), context="recall", total_ms=9.0).record(),
        *metrics.drops(5.0),
        metrics.stats(),
        StandingRequest("r1", "Tell me", "Is it?").fired("t3", "Yes.", (0.5, 3.5)),
        StandingRequest("r2", "Cuts", events=("cut",)).fired(None, "cut", (3.5, 3.5)),
        records.warning("source-truncated", "it ends early"),
        *(records.camera_state(state, "so") for state in CAMERA_STATES),
    ]


@pytest.mark.parametrize("record", written_records(), ids=lambda record: record.type)
def test_what_the_code_writes_is_a_record(record):
    line = records.StampedRecord(record, "door", 6.0, "2026-11-20T10:00:06.000Z").as_json()
    assert faults("record", json.loads(json.dumps(line))) == []


def test_the_code_writes_every_type_of_record():
    assert {record.type for record in written_records()} == set(records.RECORD_TYPES)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"type": "shout"}, "shout"),
        ({"schema": "edgestream.record/2"}, "edgestream.record/1"),
        ({"time_s": -1}, "minimum"),
        ({"wall": "yesterday"}, "yesterday"),
        ({"event_id": ""}, "non-empty"),
        ({"scores": {"cut": 1.5}}, "maximum"),
        ({"about_s": [1.0]}, "short"),
        ({"mood": "good"}, "mood"),
        ({"turn_id": "t1"}, "turn_id"),  # a field of another type
    ],
)
def test_what_is_no_record_is_refused(change, word):
    assert any(
        word in fault for fault in faults("record", example("record", type="opened") | change)
    )


def test_a_camera_has_these_states_and_no_other():
    schema = SCHEMAS["record"]["$defs"]["camera"]["properties"]["state"]
    assert tuple(schema["enum"]) == CAMERA_STATES
    assert faults("record", example("record", type="camera") | {"state": "asleep"})


def test_stats_say_all():
    stats = example("record", type="stats")
    assert faults("record", {**stats, "lane": None}) == []
    assert faults("record", {**stats, "governor": None})
    del stats["lane"], stats["governor"]
    assert faults("record", stats) == []
    stats["stage_ms"] = {"watch": {"p50": 1.0, "p99": 2.0}}
    assert "'n' is a required property" in faults("record", stats)


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("result", ["machine", "providers", "cpu"], "works"),
        ("result", ["bundle_sha256"], "abc"),
        ("result", ["command"], "guess"),
        ("error", ["error", "code"], "Not Kebab"),
        ("error", ["error", "stack"], "line 3"),
        ("manifest", ["format"], 2),
        ("manifest", ["input", "resize"], "stretch"),
        ("manifest", ["files", "../evil"], {"sha256": "0" * 64, "bytes": 1}),
        ("manifest", ["parts", 0, "variants", 0, "proof"], "believed"),
        ("manifest", ["prompt", "stop_ids"], []),
        ("prompt", ["segments", "user"], [{"slot": "weather"}]),
        ("checkpoint_gate", ["thresholds", "cut"], 1.2),
        ("adapter", ["base_sha256"], "abc"),
        ("snapshot", ["clock_s"], -1),
        ("calibration_set", ["count"], 15),
        ("settings", ["source", "fps"], 0),
        ("settings", ["source", "fsp"], 8),
        ("settings", ["gate", "kind"], "every:0"),
        ("settings", ["privacy", "zones", "door"], 5),
    ],
)
def test_a_wrong_value_is_refused(name, keys, value):
    changed = example(name)
    place = changed
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    assert faults(name, changed)


def test_a_manifest_keeps_what_it_does_not_know():
    assert faults("manifest", example("manifest") | {"weather": "fine"}) == []


def test_every_error_has_its_shape():
    def leaves(kind):
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(errors.EdgeStreamError):
        assert faults("error", kind("got a, expected b", hint=None).as_json()) == []


def test_the_settings_schema_is_that_of_the_tables():
    assert SCHEMAS["settings"] == settings_schema(), (
        "write json.dumps(settings_schema(), indent=2, ensure_ascii=False) to settings.json"
    )
    assert faults("settings", Settings().model_dump(mode="json")) == []


def test_the_page_shows_the_default_settings():
    shown, plain = example("settings"), Settings().model_dump(mode="json")
    # The page shows how an entry is written.
    shown["gate"] |= {"open_above": {}, "hold_s": {}, "queries": {}}
    shown["privacy"] |= {"zones": {}}
    assert shown == plain
