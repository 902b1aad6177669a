"""A part on the ladder: the same arrays run again on the next rung, and the reason is kept."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.engine import check_arrays
from edgestream.runtime.engines.ladder import Refusal, Rung
from edgestream.runtime.errors import (
    DeviceMemoryExhausted,
    EngineFailed,
    EngineUnusable,
    InputMismatch,
)
from edgestream.runtime.manifest import TensorSpec, Variant
from edgestream.runtime.part_rungs import PartRungs, RungsInUse

X = np.arange(4, dtype=np.float32)


class Doubling:
    """Doubles `x`; it can be told to break off, or to give something else."""

    def __init__(self, name, dtype="float32", fault=None, gives=None):
        self.provider, self.fault, self.gives, self.is_closed, self.runs = (
            name,
            fault,
            gives,
            False,
            0,
        )
        self.inputs = (TensorSpec("x", dtype, (4,)),)
        self.outputs = (TensorSpec("y", dtype, (4,)),)

    def run(self, arrays):
        check_arrays(self.inputs, arrays)
        self.runs += 1
        if self.fault is not None:
            raise self.fault
        return {"y": arrays["x"] * 2 if self.gives is None else self.gives}

    def bind(self, inputs, outputs):
        return self.provider

    def __exit__(self, *fault):
        self.is_closed = True


def on(*engines):
    """The part on these engines, best first, and what is heard of it."""
    opened, told, in_use = [], [], RungsInUse()
    in_use.tell = told.append

    def open_rung(failed):
        opened.append(failed)
        for engine in engines:
            if engine.provider not in failed:
                form = (engine.provider, engine.provider, "x.onnx", "passed", "float32")
                in_use.variants["part"] = Variant(*form, engine.inputs, engine.outputs)
                return Rung(engine, in_use.variants["part"], ())
        raise EngineUnusable("no rung is left")

    return PartRungs("part", open_rung, in_use), in_use, told, opened


@pytest.mark.parametrize("fault", [EngineFailed("it is lost"), DeviceMemoryExhausted("it is full")])
def test_one_that_breaks_off_is_followed_by_the_next(fault):
    best, next_one = Doubling("best"), Doubling("next")
    part, in_use, told, _ = on(best, next_one)
    assert part.run({"x": X})["y"].tolist() == [0, 2, 4, 6] and part.provider == "best"
    best.fault = fault
    assert part.run({"x": X})["y"].tolist() == [0, 2, 4, 6] and part.provider == "next"
    assert best.is_closed and not next_one.is_closed
    assert in_use.refusals == [Refusal("part", "best", "best", fault.message)]
    assert in_use.as_json()["used"] == {"part": {"provider": "next", "variant": "next"}}
    (record,) = told
    assert record.body["message"] == f"part goes on as next: {fault.message}"
    assert part.bind({}, {}) == "next"


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_none_are_a_break(number):
    best = Doubling("best", gives=np.full(4, number, np.float32))
    part, in_use, _, _ = on(best, Doubling("next"))
    assert part.run({"x": X})["y"].tolist() == [0, 2, 4, 6]
    assert "y holds NaN or infinity" in in_use.refusals[0].why


def test_where_none_is_left_the_last_one_goes_on_trying():
    last = Doubling("last", fault=EngineFailed("it is lost"))
    part, in_use, told, _ = on(last)
    for _ in range(2):
        with pytest.raises(EngineFailed, match="it is lost"):
            part.run({"x": X})
    last.fault = None
    assert part.run({"x": X})["y"].tolist() == [0, 2, 4, 6]
    last.gives = np.full(4, np.nan, np.float32)
    assert np.isnan(part.run({"x": X})["y"]).all(), "who reads them says what they mean"
    assert not in_use.refusals and not told and not last.is_closed


def test_two_break_off_in_one_run():
    faults = [EngineFailed("first"), EngineFailed("second")]
    engines = [Doubling(str(at), fault=fault) for at, fault in enumerate(faults)]
    part, in_use, told, opened = on(*engines, Doubling("cpu"))
    assert part.run({"x": X})["y"].tolist() == [0, 2, 4, 6]
    assert [one.why for one in in_use.refusals] == ["first", "second"] and len(told) == 2
    assert opened == [(), ("0",), ("0", "1")]


def test_a_wrong_array_is_the_callers_on_every_rung():
    part, in_use, _, opened = on(Doubling("best"), Doubling("next"))
    with pytest.raises(InputMismatch):
        part.run({"x": X[:3]})
    assert opened == [()] and not in_use.refusals


def test_rungs_may_differ_in_their_float_type():
    best = Doubling("best", dtype="float16")
    part, _, _, _ = on(best, Doubling("next"))
    assert part.inputs[0].dtype == "float16"
    assert part.run({"x": X})["y"].dtype == np.float16
    best.fault = EngineFailed("it is lost")
    assert part.run({"x": X.astype(np.float16)})["y"].dtype == np.float32
    assert part.inputs[0].dtype == part.outputs[0].dtype == "float32"


def test_leaving_closes_the_rung_in_use():
    best, next_one = Doubling("best", fault=EngineFailed("lost")), Doubling("next")
    part, _, _, _ = on(best, next_one)
    with part:
        part.run({"x": X})
    assert best.is_closed and next_one.is_closed


def test_what_was_noted_first_says_most():
    in_use = RungsInUse()
    for role, why in (("gate", "one"), ("gate", "two"), ("vision", "three")):
        in_use.refuse(Refusal(role, "trt", "tensorrt", why))
    assert [one.why for one in in_use.refusals] == ["one", "three"]
