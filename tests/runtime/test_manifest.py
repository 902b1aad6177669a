"""The manifest: what is written is read again, and what is wrong is named by its place."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from edgestream.runtime.errors import BundleError, FormatTooNew, ManifestInvalid, PromptInvalid
from edgestream.runtime.file_names import path_is_plain
from edgestream.runtime.manifest import Manifest, manifest_from_json

ROOT = Path(__file__).parents[2]
SCHEMAS = [
    json.loads((ROOT / "runtime" / "schemas" / name).read_text("utf-8"))
    for name in ("manifest.json", "prompt.json")
]
VALIDATOR = Draft202012Validator(
    SCHEMAS[0],
    registry=Registry().with_resources(
        (one["$id"], Resource.from_contents(one)) for one in SCHEMAS
    ),
)


def example():
    page = (ROOT / "docs" / "FORMATS.md").read_text("utf-8")
    (text,) = re.findall(r"^```json manifest\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return json.loads(text)


WHOLE = example()
OPTIONAL = [
    ("positions",),
    ("cache",),
    ("gate",),
    ("embeddings",),
    ("calibration",),
    ("memory",),
    ("memory", "topk"),
    ("memory", "clip_len"),
    ("input", "channels"),
    ("input", "max_gap_s"),
    ("input", "mean"),
    ("input", "std"),
    ("input", "motion"),
    ("gate", "close_ratio"),
    ("gate", "attributes"),
    ("gate", "attributes_of"),
    ("gate", "state"),
    ("parts", 0, "variants", 0, "kv_dtype"),
    ("parts", 0, "variants", 0, "scheme"),
]


def objects_in(value, path=()):
    """Every object of a JSON value, by its path."""
    if isinstance(value, dict):
        yield path
        for key, below in value.items():
            yield from objects_in(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from objects_in(below, (*path, index))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(path, value):
    whole = copy.deepcopy(WHOLE)
    at(whole, path[:-1])[path[-1]] = value
    return whole


def without(*paths):
    whole = copy.deepcopy(WHOLE)
    for path in paths:
        try:
            at(whole, path[:-1]).pop(path[-1], None)
        except KeyError:
            continue  # what it stood in is gone already
    return whole


# Objects whose further keys mean something: a file, a threshold, a program, an attribute, a kind.
MAPS = {("files",), ("gate", "thresholds"), ("made_with",), ("gate", "attributes"),
        ("gate", "attributes_of")}  # fmt: skip
EXTENDABLE = [path for path in objects_in(WHOLE) if path not in MAPS and path[:1] != ("prompt",)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text("xy", max_size=2), below),
    max_leaves=4,
)


@pytest.mark.medium
@given(
    left_out=st.sets(st.sampled_from(OPTIONAL)),
    extra=st.dictionaries(st.sampled_from(EXTENDABLE), JSON, max_size=4),
)
def test_what_is_read_is_written_again(left_out, extra):
    value = without(*left_out)
    for path, more in extra.items():
        try:
            at(value, path)["x_weather"] = more
        except KeyError:
            continue
    manifest = manifest_from_json(value)
    assert manifest.as_json() == value
    assert json.loads(json.dumps(manifest.as_json())) == value
    assert manifest_from_json(manifest.as_json()) == manifest
    assert list(VALIDATOR.iter_errors(manifest.as_json())) == []


def test_values_are_read_only():
    manifest = manifest_from_json(changed(("weather",), {"sun": [1]}))
    with pytest.raises(TypeError):
        manifest.extra["weather"] = 1
    with pytest.raises(TypeError):
        manifest.extra["weather"]["sun"] = 1
    with pytest.raises(AttributeError):
        manifest.name = "other"
    assert dict(manifest.extra) == {"weather": {"sun": (1,)}}, "what is known is not kept twice"


def test_parts_are_found_by_role():
    manifest = manifest_from_json(WHOLE)
    assert manifest.part("decoder").variants[0].is_proven and manifest.part("vision") is None
    assert [(role, one.id) for role, one in manifest.variants()] == [("decoder", "cpu-int4")]
    assert manifest.layout().stop_ids == (2,)


def test_a_newer_format_is_refused_before_anything_else():
    with pytest.raises(FormatTooNew, match="got format 2, expected at most 1"):
        manifest_from_json({"format": 2})


PICTURE = {"axes": 3, "theta": 1e6, "sections": [2, 3, 3], "frame_grid": [2, 5]}


def test_the_grid_of_a_frame_is_read_and_written():
    value = changed(("positions",), {**PICTURE, "interleaved": True})
    manifest = manifest_from_json(value)
    assert manifest.positions.frame_grid == (2, 5)
    assert manifest.positions.extra == {"interleaved": True}
    assert manifest.as_json() == value and list(VALIDATOR.iter_errors(value)) == []


VARIANT = ("parts", 0, "variants", 0)


@pytest.mark.parametrize(
    ("path", "value", "place", "expected"),
    [
        (("format",), "1", "format", "a whole number of at least 1"),
        (("format",), True, "format", "a whole number of at least 1"),
        (("name",), "", "name", "a text"),
        (("created",), "yesterday", "created", "a time such as"),
        (("made_with",), {"torch": 2}, "made_with", "an object of texts"),
        (("source",), [], "source", "an object"),
        (("source", "sha256"), "F" * 64, "source.sha256", "64 hex digits"),
        (("input", "size_px"), [112], "input.size_px", "[height, width] in px"),
        (("input", "size_px"), [0, 1], "input.size_px", "whole numbers of at least 1"),
        (("input", "resize"), "stretch", "input.resize", "letterbox, squash, crop"),
        (("input", "filter"), "nearest", "input.filter", "area, bilinear, bicubic, lanczos"),
        (("input", "fps"), 0, "input.fps", "a number above 0"),
        (("input", "fps"), 10**400, "input.fps", "a number above 0"),
        (("input", "mean"), [0.5], "input.mean", "9 numbers, one per channel"),
        (("input", "motion", "maps"), [1], "input.motion.maps", "a list of texts"),
        (("tokens_per_frame",), 2.5, "tokens_per_frame", "a whole number"),
        (("positions", "axes"), 2, "positions.axes", "1 or 3"),
        (("positions",), {**PICTURE, "axes": 1}, "positions.frame_grid", "there are 3 axes"),
        (("positions",), {**PICTURE, "frame_grid": [10]}, "frame_grid", "[rows, columns]"),
        (("positions",), {**PICTURE, "frame_grid": [0, 5]}, "frame_grid", "of at least 1"),
        (("positions",), {**PICTURE, "frame_grid": [3, 5]}, "frame_grid", "10 tokens of a frame"),
        (("cache", "capacity"), 0, "cache.capacity", "at least 1"),
        (("gate", "thresholds"), {"cut": 1.5}, "gate.thresholds", "numbers in [0, 1]"),
        (("gate", "close_ratio"), 2, "gate.close_ratio", "of at most 1"),
        (("gate", "attributes"), {"side": []}, "gate.attributes", "lists of texts"),
        (("gate", "state", 0, "dtype"), "float", "gate.state[0].dtype", "one of float32"),
        (("parts",), {}, "parts", "a list of objects"),
        (("parts", 0, "role"), "judge", "parts[0].role", "vision, gate, connector, decoder"),
        (("parts", 0, "variants"), [], "parts[0].variants", "at least one variant"),
        ((*VARIANT, "proof"), "believed", "parts[0].variants[0].proof", "passed, pending-device"),
        ((*VARIANT, "file"), "other.onnx", "parts.decoder.cpu-int4.file", "`files` lists"),
        ((*VARIANT, "inputs", 0, "shape"), [1.5], "inputs[0].shape", "sizes"),
        ((*VARIANT, "scheme"), "int4", "variants[0].scheme", "an object"),
        (("files", "../evil"), {}, "files", "stay in the bundle"),
        (("files", "manifest.json"), {}, "files", "but the manifest and its hash"),
        (("parity", "passed"), 1, "parity.passed", "true or false"),
        (("memory", "kv_bytes"), -1, "memory.kv_bytes", "at least 0"),
        (("embeddings",), {"file": "e", "dtype": "int8", "shape": [1, 1]}, "embeddings.dtype", ""),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(path, value, place, expected):
    with pytest.raises(ManifestInvalid) as fault:
        manifest_from_json(changed(path, value))
    assert place in fault.value.message and expected in fault.value.message
    assert fault.value.message.startswith("manifest.json: ")


REQUIRED = [
    (*path, key)
    for path in objects_in(WHOLE)
    if path[:1] != ("prompt",) and path not in MAPS and path[:2] not in {("parity", "gates")}
    for key in at(WHOLE, path)
    if (*path, key) not in OPTIONAL and path[-1:] != ("scheme",)
]


@pytest.mark.parametrize("path", REQUIRED, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_named(path):
    with pytest.raises(ManifestInvalid, match=f"{path[-1]} is missing"):
        manifest_from_json(without(path))


TABLE = {"file": "decoder.cpu-int4.onnx", "dtype": "float16", "shape": [9, 4]}


@pytest.mark.parametrize(("width", "row_width"), [(None, 4), (4, 4), (12, 12)])
def test_a_row_is_as_wide_as_its_embedding_where_nothing_else_is_said(width, row_width):
    value = changed(("embeddings",), TABLE if width is None else {**TABLE, "width": width})
    manifest = manifest_from_json(value)
    assert manifest.embeddings.width == width and manifest.embeddings.row_width == row_width
    assert manifest.as_json()["embeddings"] == value["embeddings"]


@pytest.mark.parametrize("width", [3, 0, "12", 4.0, True])
def test_a_row_holds_its_embedding(width):
    with pytest.raises(ManifestInvalid, match=r"embeddings\.width: got .* of at least 4"):
        manifest_from_json(changed(("embeddings",), {**TABLE, "width": width}))


def test_each_role_and_each_variant_stands_once():
    part = WHOLE["parts"][0]
    with pytest.raises(ManifestInvalid, match="expected each once"):
        manifest_from_json(changed(("parts",), [part, part]))
    with pytest.raises(ManifestInvalid, match="expected each id once"):
        manifest_from_json(changed(("parts", 0, "variants"), part["variants"] * 2))


def test_a_prompt_without_sense_is_refused():
    with pytest.raises(PromptInvalid):
        manifest_from_json(changed(("prompt", "stop_ids"), []))


PATHS = [path for path in objects_in(WHOLE) if path]


@pytest.mark.medium
@given(path=st.sampled_from(PATHS), value=JSON)
def test_whatever_stands_there_the_fault_is_ours(path, value):
    try:
        assert isinstance(manifest_from_json(changed(path, value)), Manifest)
    except BundleError as fault:
        assert fault.message


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_no_manifest_at_all(value):
    with pytest.raises(ManifestInvalid):
        manifest_from_json(value)


@pytest.mark.parametrize(
    ("path", "is_plain"),
    [
        ("vision.onnx", True),
        ("adapters/a.onnx_adapter", True),
        ("..data", True),
        ("../vision.onnx", False),
        ("a/../b", False),
        ("/etc/passwd", False),
        ("a//b", False),
        ("a/", False),
        ("./a", False),
        ("", False),
        ("a\\b", False),
        ("C:a", False),
        ("a\0b", False),
        ("a\nb", False),
    ],
)
def test_a_path_stays_in_its_folder(path, is_plain):
    assert path_is_plain(path) is is_plain
