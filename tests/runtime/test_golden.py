"""Golden calls: what was written is read, what is right passes, what is wrong does not."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgestream.runtime.array_file import read_arrays, write_arrays
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.errors import (
    BackendMissing,
    EngineFailed,
    FormatTooNew,
    GoldenInvalid,
)
from edgestream.runtime.golden import FORMAT, GoldenCall, Tolerance, read_golden, write_golden
from edgestream.runtime.golden_check import check_golden, compare

from ..bundles import (
    CLOSE,
    calls_of,
    decoder,
    random_array,
    with_outputs,
    write_small_bundle,
)

SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)
ANY_ARRAY = st.sampled_from(["f4", "f2", "i8", "u1", "?"]).flatmap(
    lambda dtype: arrays_of.arrays(
        dtype, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)
    )
)
NAMES = st.text("abc._", min_size=1, max_size=6)


def same(one, other):
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


def call(**changes):
    fields = {
        "role": "vision",
        "variant": "cpu",
        "name": "frame 0",
        "inputs": {"x": np.float32([1])},
        "outputs": {"y": np.float32([2])},
        "tolerances": {"y": CLOSE},
    }
    return GoldenCall(**{**fields, **changes})


@pytest.mark.medium
@given(arrays=st.dictionaries(NAMES, ANY_ARRAY, max_size=4))
def test_arrays_are_read_as_they_were_written(arrays, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "arrays.npz"
    write_arrays(path, arrays)
    read = read_arrays(path)
    assert list(read) == list(arrays)
    assert all(same(read[name], arrays[name]) for name in arrays)


@pytest.mark.medium
@given(inputs=st.dictionaries(NAMES, ANY_ARRAY, max_size=4), output=ANY_ARRAY)
def test_calls_are_read_as_they_were_written(inputs, output, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "golden.npz"
    calls = [call(inputs=inputs, outputs={"y": output}), call(name="é", inputs={"x": output})]
    write_golden(path, calls)
    read = read_golden(path)
    assert [one.name for one in read] == ["frame 0", "é"]
    for one, other in zip(read, calls, strict=True):
        assert (one.role, one.variant, one.tolerances) == (
            other.role,
            other.variant,
            other.tolerances,
        )
        for name in ("inputs", "outputs"):
            got, expected = getattr(one, name), getattr(other, name)
            assert set(got) == set(expected)
            assert all(same(got[key], expected[key]) for key in expected)


def test_an_array_that_several_calls_share_is_written_once(tmp_path):
    big = random_array(0, 1000)
    write_golden(tmp_path / "one.npz", [call(inputs={"x": big})])
    write_golden(tmp_path / "two.npz", [call(inputs={"x": big}), call(inputs={"x": big.copy()})])
    one, two = ((tmp_path / name).stat().st_size for name in ("one.npz", "two.npz"))
    assert two - one < 400


def test_the_same_calls_are_the_same_bytes():
    def written():
        file = io.BytesIO()
        write_golden(file, [call(inputs={"x": random_array(1, 3, 4)})])
        return file.getvalue()

    assert written() == written()


def test_only_calls_of_adapters_raise_the_format(tmp_path):
    """A reader of format 1 would run them without their adapter."""
    path = tmp_path / "golden.npz"
    for adapter, number in ((None, 1), ("calm", 2)):
        write_golden(path, [call(), call(name="adapted", adapter=adapter)])
        index = json.loads(bytes(read_arrays(path)["calls"]))
        assert index["format"] == number and "adapter" not in index["calls"][0]
        assert [one.adapter for one in read_golden(path)] == [None, adapter]


def test_a_bound_is_asked_for():
    with pytest.raises(ValueError):
        Tolerance()
    with pytest.raises(ValueError, match="expected one for each output"):
        call(tolerances={})
    with pytest.raises(ValueError):
        call(outputs={}, tolerances={})


def with_index(path, change):
    arrays = read_arrays(path)
    index = json.loads(bytes(arrays["calls"]))
    change(index)
    arrays["calls"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    write_arrays(path, arrays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.update(calls={}), "calls: got {}, expected a list of objects"),
        (lambda index: index["calls"][0].pop("role"), "calls[0].role is missing"),
        (lambda index: index["calls"][0]["inputs"].update(x="a9"), "an array of this file"),
        (lambda index: index["calls"][0].update(outputs={}), "at least one output"),
        (lambda index: index["calls"][0]["outputs"].update(y={"array": "a0"}), "a bound beside it"),
    ],
)
def test_a_damaged_list_of_calls_is_named(tmp_path, change, words):
    path = tmp_path / "golden.npz"
    write_golden(path, [call()])
    with_index(path, change)
    with pytest.raises(GoldenInvalid) as fault:
        read_golden(path)
    assert words in fault.value.message


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY"])
def test_what_is_no_golden_file(tmp_path, content):
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(GoldenInvalid):
        read_golden(tmp_path / "golden.npz")


def test_a_single_array_is_no_golden_file(tmp_path):
    with open(tmp_path / "golden.npz", "wb") as file:
        np.save(file, ROWS)
    with pytest.raises(GoldenInvalid, match="one array"):
        read_golden(tmp_path / "golden.npz")


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "golden.npz", calls=np.array([{"a": 1}], dtype=object))
    with pytest.raises(GoldenInvalid, match=r"pickle|Object"):
        read_golden(tmp_path / "golden.npz")


def test_no_file_and_a_newer_format(tmp_path):
    with pytest.raises(GoldenInvalid):
        read_golden(tmp_path / "golden.npz")
    write_golden(tmp_path / "golden.npz", [])
    with_index(tmp_path / "golden.npz", lambda index: index.update(format=FORMAT + 1))
    with pytest.raises(FormatTooNew):
        read_golden(tmp_path / "golden.npz")


def checked(got, expected, **bounds):
    return compare("call", "y", np.asarray(got), np.asarray(expected), Tolerance(**bounds))


ROWS = np.float32([[1, 2, 3], [3, 2, 1]])
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("got", "expected", "bounds", "passed"),
    [
        (ROWS, ROWS, {"max_abs": 0.0, "min_cosine": 1.0, "min_argmax": 1.0}, True),
        (ROWS + 0.5, ROWS, {"max_abs": 0.5}, True),
        (ROWS + 0.5, ROWS, {"max_abs": 0.49}, False),
        (ROWS * 2, ROWS, {"min_cosine": 0.999999}, True),
        (-ROWS, ROWS, {"min_cosine": 0.0}, False),
        (ROWS[::-1], ROWS, {"min_argmax": 0.5}, False),
        (ROWS[[0, 0]], ROWS, {"min_argmax": 0.5}, True),
        (ROWS[[0, 0]], ROWS, {"min_argmax": 0.51}, False),
        (ROWS[[0, 0]], ROWS, {"min_cosine": 0.8}, False),  # the worst row counts
        (ROWS.astype(np.float64), ROWS, {"max_abs": 9.0}, False),
        (ROWS[:1], ROWS, {"max_abs": 9.0}, False),
        (ROWS * NAN, ROWS, {"max_abs": 9.0}, False),
        (ROWS * NAN, ROWS, {"min_cosine": -1.0}, False),
        (np.float32([[NAN, 5, 1]]), np.float32([[9, 5, 1]]), {"min_argmax": 0.0}, False),
        (ROWS * INF, ROWS, {"max_abs": 9.0}, False),
        ([-INF, 1.0], [-INF, 1.0], {"max_abs": 0.0, "min_cosine": 1.0}, True),
        ([INF, 1.0], [-INF, 1.0], {"max_abs": 9.0}, False),
        ([0.0, 0.0], [0.0, 0.0], {"min_cosine": 1.0}, True),
        ([0.0, 0.0], [0.0, 1.0], {"min_cosine": 0.5}, False),
        (np.float32(2), np.float32(2), {"max_abs": 0.0, "min_argmax": 1.0}, True),
        (np.zeros((1, 0)), np.zeros((1, 0)), {"max_abs": 0.0, "min_cosine": 1.0}, True),
        (np.int64([1 << 40, 2]), np.int64([1 << 40, 3]), {"max_abs": 0.5}, False),
        (np.array([True, False]), np.array([True, True]), {"max_abs": 0.5}, False),
    ],
)
def test_a_comparison(got, expected, bounds, passed):
    assert checked(got, expected, **bounds).passed is passed


def results(folder, backends=backend_for):
    return list(check_golden(open_bundle(folder), backends))


def test_a_right_bundle_passes(tmp_path):
    found = results(write_small_bundle(tmp_path / "small"))
    assert [one.role for one in found] == ["vision", "gate", "connector", "decoder"]
    assert all(one.passed and not one.failures and one.run_ms > 0 for one in found)
    assert [len(one.outputs) for one in found] == [2, 4, 1, 6]


def test_a_part_that_is_off_is_found_and_the_others_are_not(tmp_path):
    def change(calls):
        return [
            with_outputs(one, scores=one.outputs["scores"] + np.float32(1e-3))
            if one.name == "later"
            else one
            for one in calls
        ]

    found = results(write_small_bundle(tmp_path / "small", change_calls=change))
    assert [one.role for one in found if not one.passed] == ["gate"]
    (failure,) = found[1].failures
    assert (failure.call, failure.output) == ("later", "scores")
    assert failure.max_abs == pytest.approx(1e-3, rel=1e-2)


def test_a_variant_without_a_call_has_not_passed(tmp_path):
    def change(calls):
        return [one for one in calls if one.role != "connector"]

    found = results(write_small_bundle(tmp_path / "small", change_calls=change))
    assert [one.role for one in found if not one.passed] == ["connector"]


def test_an_engine_that_fails_does_not_hide_the_others(tmp_path):
    def change(calls):
        wrong = np.ones((1, 4), np.int64)
        return [
            dataclasses.replace(one, inputs={**one.inputs, "attention_mask": wrong})
            if one.name == "prefill 6"
            else one
            for one in calls
        ]

    found = results(write_small_bundle(tmp_path / "small", change_calls=change))
    assert isinstance(found[-1].fault, EngineFailed) and not found[-1].passed
    assert all(one.passed for one in found[:-1])


def test_an_output_that_the_graph_does_not_have(tmp_path):
    def change(calls):
        return [
            dataclasses.replace(one, outputs={"other": ROWS}, tolerances={"other": CLOSE})
            if one.role == "vision"
            else one
            for one in calls
        ]

    found = results(write_small_bundle(tmp_path / "small", change_calls=change))
    assert "got no output other" in found[0].fault.message


def test_a_provider_that_is_not_here_is_skipped(tmp_path):
    def change(facts):
        (variant,) = facts["parts"][0]["variants"]
        other = {**variant, "id": "cuda", "provider": "cuda", "proof": "pending-device"}
        facts["parts"][0]["variants"].append(other)

    def backends(provider):
        if provider == "cuda":
            raise BackendMissing("there is no cuda here")
        return backend_for(provider)

    found = results(write_small_bundle(tmp_path / "small", change_facts=change), backends)
    assert [(one.variant, one.is_skipped) for one in found[:2]] == [("cpu", False), ("cuda", True)]


def test_every_call_stands_alone(tmp_path):
    """The order of the calls is not in their results: nothing is carried from one to the next."""
    (tmp_path / "decoder.onnx").write_bytes(decoder())
    with backend_for("cpu").open(tmp_path / "decoder.onnx", None) as engine:
        calls = list(calls_of("decoder", engine))
        for one in reversed(calls):
            got = engine.run(one.inputs)
            assert all(same(got[name], one.outputs[name]) for name in one.outputs)
