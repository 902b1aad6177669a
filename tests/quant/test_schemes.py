"""Names, the manifest's form and the refusals of schemes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edgestream.quant.schemes import (
    PART_NAMES,
    SCHEMES,
    WIDE,
    Scheme,
    given_scheme,
    scheme_from_json,
    scheme_named,
)
from edgestream.quant.stored import operator_of, quantized_matrix
from edgestream.runtime.errors import SchemeUnknown

MANIFEST = Path(__file__).parents[2] / "runtime" / "schemas" / "manifest.json"


def scheme_schema() -> dict:
    """The part of the manifest's schema that speaks of schemes."""
    schema = json.loads(MANIFEST.read_text())
    variants = schema["properties"]["parts"]["items"]["properties"]["variants"]
    return variants["items"]["properties"]["scheme"]


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_goes_by_its_name_and_through_json(name):
    scheme = SCHEMES[name]
    assert scheme.name == name and scheme_named(name) is scheme
    written = json.loads(json.dumps(scheme.as_json()))
    jsonschema.validate(written, scheme_schema())
    assert scheme_from_json(written) is scheme
    assert scheme_from_json({**written, "added later": 1}) is scheme


def test_no_two_schemes_are_stored_alike():
    stored = [tuple(scheme.as_json().values()) for scheme in SCHEMES.values()]
    assert len(set(stored)) == len(stored)


def test_json_may_leave_out_what_is_not_there():
    assert scheme_from_json({"weights": "float32"}) is SCHEMES["fp32"]
    assert scheme_from_json({"weights": "float32", "activations": None}) is SCHEMES["fp32"]


def test_floors_are_those_asked_for():
    asked = {"int8": 38, "int4-32": 19, "int4-64": 18, "int4-128": 17, "fp32": None}
    assert {name: SCHEMES[name].floor_db for name in asked} == asked
    for scheme in SCHEMES.values():
        if scheme.weights == "int8":
            assert scheme.floor_db >= 38


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("int4", None, "int4-64"),
        ("int8", None, "int8"),
        ("int4", "decoder", "int4-64"),
        ("int8", "decoder", "int8-32"),
        ("int4-128", "decoder", "int4-128"),
        ("fp32", "decoder", "fp32"),
        ("int8", "vision", "int8"),
        ("int8", "connector", "int8"),
        ("int4-gptq", "decoder", "int4-64-gptq"),
        ("nf4", "decoder", "nf4-64"),
        ("int8-static", "vision", "int8-static-minmax"),
        ("int8-static-entropy", "connector", "int8-static-entropy"),
    ],
)
def test_short_names_mean_what_the_part_can_run(name, part, expected):
    assert scheme_named(name, part) is SCHEMES[expected]


def test_every_short_name_means_a_scheme():
    for part, names in PART_NAMES.items():
        for name in names:
            assert scheme_named(name, part).name in {**SCHEMES, **WIDE}
    blocks = {scheme_named(name, "decoder").block for name in PART_NAMES["decoder"]}
    assert blocks == {None, 32, 64, 128}
    assert {scheme_named(name, "vision").block for name in PART_NAMES["vision"]} == {None}


@pytest.mark.parametrize("name", ["int4-64", "int4-128-gptq", "int8-32"])
def test_float32_activations_are_another_scheme_over_the_same_codes(name):
    wide, own = scheme_named(f"{name}-a32", "decoder"), scheme_named(name, "decoder")
    assert wide.activations == "float32" and own.activations == "int8"
    assert scheme_from_json(wide.as_json()) == wide != own
    weights = np.random.default_rng(0).standard_normal((8, 256), np.float32)
    hessian = np.eye(256) if own.method == "gptq" else None
    for one, other in zip(quantized_matrix(weights, wide, hessian),
                          quantized_matrix(weights, own, hessian), strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    levels = [dict(operator_of(one).attributes)["accuracy_level"] for one in (wide, own)]
    assert levels == [1, 4]


def test_what_multiplies_in_float32_already_has_no_such_scheme():
    for name in ("fp32-a32", "nf4-a32", "nf4-64-a32"):
        with pytest.raises(SchemeUnknown):
            scheme_named(name, "decoder")


@pytest.mark.parametrize(
    ("name", "part", "listed"),
    [("int3", None, "int4-64"), ("", None, "fp32"), ("int4", "vision", "fp32, int8")],
)
def test_unknown_names_are_refused_with_what_there_is(name, part, listed):
    with pytest.raises(SchemeUnknown) as error:
        scheme_named(name, part)
    assert repr(name) in error.value.message and listed in error.value.message
    assert (error.value.exit_code, error.value.code) == (2, "scheme-unknown")
    assert error.value.hint


@pytest.mark.parametrize(
    ("weights", "block", "floor_db"),
    [("int8", None, 38.0), ("int4", 16, 14.0), ("int4", 64, 13.0), ("int4", 100, 12.0),
     ("int4", 512, 12.0)],
)  # fmt: skip
@pytest.mark.parametrize("activations", ["int8", "float32"])
def test_what_another_tool_made_is_read_again(weights, block, floor_db, activations):
    scheme = given_scheme(weights, block, activations)
    assert scheme_from_json(scheme.as_json()) == scheme and scheme.floor_db == floor_db
    assert scheme not in SCHEMES.values() and scheme.name.endswith("-given")


@pytest.mark.parametrize("change", [{"block": 8}, {"block": "64"}, {"block": None}, {"weights": 4}])
def test_what_no_tool_makes_is_refused(change):
    told = given_scheme("int4", 64, "float32").as_json()
    with pytest.raises(SchemeUnknown):
        scheme_from_json({**told, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "int3"},
        {"block": 48},
        {"symmetric": False},
        {"activations": "float16"},
        {"method": "awq"},
        {"ranges": "minmax"},
    ],
    ids=str,
)
def test_json_of_another_scheme_is_refused(change):
    with pytest.raises(SchemeUnknown, match="int4-64"):
        scheme_from_json({**SCHEMES["int4-64"].as_json(), **change})


@pytest.mark.parametrize(
    "fields",
    [
        {"weights": "int2", "block": 32},
        {"weights": "int4"},
        {"weights": "int4", "block": 8},
        {"weights": "float32", "block": 32},
        {"weights": "int8", "symmetric": False},
        {"weights": "int8", "activations": "float16"},
        {"weights": "nf4"},
        {"weights": "int8", "block": 32, "method": "gptq"},
        {"weights": "int8", "block": 32, "ranges": "minmax"},
    ],
    ids=str,
)
def test_schemes_that_cannot_be_are_not_made(fields):
    with pytest.raises(ValueError, match="Scheme"):
        Scheme("impossible", **fields)
