"""The gates as values: what passes, what refuses, what only advises, and how it is told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.calibration.parity import (
    Check,
    ParityReport,
    agreement_checks,
    cosines,
    float_check,
    is_chance,
    logit_checks,
    snr_check,
    stored_weight_check,
    token_checks,
)
from edgestream.calibration.report import report_html, room_left


def check(value=0.5, must=0.4, **more):
    return Check("engine", "vision", "a figure", value, must, more.pop("at_least", True), **more)


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e6, 1e6), st.booleans())
def test_a_check_passes_only_inside_its_bound_and_nan_never_does(value, must, at_least):
    one = check(value, must, at_least=at_least)
    assert one.passed == (value >= must if at_least else value <= must)
    assert not (math.isnan(value) and one.passed)
    json.dumps(one.as_json(), allow_nan=False)
    if one.passed:
        assert one.margin >= 0
    else:
        assert one.margin < 0


def test_the_worst_failure_comes_first_and_advice_refuses_nothing():
    checks = (
        check(0.39),
        check(0.1),
        check(0.0, is_advisory=True, note="weights look random"),
        check(math.nan),
    )
    report = ParityReport(checks, {"frames": 3})
    assert not report.passed
    assert [one.value for one in report.failures][1:] == [0.1, 0.39]
    assert math.isnan(report.failures[0].value)
    assert ParityReport(checks[2:3], {}).passed
    assert checks[1].sentence() == "vision: gate engine: a figure is 0.1, expected at least 0.4"


def test_the_summary_names_the_worst_figure_of_each_part():
    report = ParityReport(
        (
            check(0.9),
            check(0.41),
            stored_weight_check("vision", "w", (np.ones(2),), (np.ones(2),)),
            snr_check("decoder", "w", np.ones((2, 2)), np.ones((2, 2)) * 0.99, 18.0),
        ),
        {},
    )
    summary = report.summary()
    assert summary["passed"] and summary["gates"]["engine"]["vision"]["value"] == 0.41
    assert summary["gates"]["snr_db"]["decoder"]["value"] == pytest.approx(40.0)


@given(st.integers(0, 2**32 - 1))
def test_cosines_are_those_of_the_definition(seed):
    random = np.random.default_rng(seed)
    left, right = random.normal(size=(2, 4, 7))
    for found, one, other in zip(cosines(left, right), left, right, strict=True):
        expected = sum(a * b for a, b in zip(one, other, strict=True)) / (
            math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in other))
        )
        assert found == pytest.approx(expected)


def test_a_row_of_zeros_or_nans_has_no_cosine():
    rows = np.array([[0.0, 0.0], [np.nan, 1.0], [1.0, 1.0]])
    assert cosines(rows, np.ones((3, 2))).tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_one_differing_element_or_another_shape_is_counted():
    ours = np.arange(12).reshape(3, 4)
    same = stored_weight_check("decoder", "w", (ours, ours), (ours, ours.copy()))
    changed = ours.copy()
    changed[1, 1] += 1
    assert same.passed
    assert stored_weight_check("decoder", "w", (ours, changed), (ours, ours)).value == 1
    assert not stored_weight_check("decoder", "w", (ours[:2],), (ours,)).passed


def test_tokens_logits_and_floats_are_held_to_their_bounds():
    random = np.random.default_rng(0)
    tokens = random.normal(size=(4, 10, 32)).astype(np.float32)
    noisy = tokens + random.normal(size=tokens.shape).astype(np.float32)
    assert all(one.passed for one in token_checks("vision", tokens, tokens * 1.001))
    assert not any(one.passed for one in token_checks("vision", tokens, noisy))
    logits = random.normal(size=(64, 50)).astype(np.float32)
    assert all(one.passed for one in logit_checks(logits, logits))
    assert not any(one.passed for one in logit_checks(logits, -logits))
    assert float_check("decoder", "logits", logits, logits + 5e-5).passed
    assert not float_check("decoder", "logits", logits, logits + 5e-3).passed


def test_agreement_only_advises_where_the_model_has_learned_nothing():
    loss = {"reference": 0.1, "quantized": 0.2}
    same = [True] * 85 + [False] * 15
    learned = agreement_checks("int4", same, 0.5, loss, text_loss=1.0, vocabulary=500)
    random = agreement_checks("int4", same, 0.5, loss, text_loss=math.log(500), vocabulary=500)
    assert not learned[0].passed and not learned[0].is_advisory
    assert random[0].is_advisory and "random" in random[0].note
    assert agreement_checks("int8", [True], 1.0, loss, 1.0, 500)[0].must == 0.98
    assert is_chance(math.log(500), 500) and not is_chance(0.5 * math.log(500), 500)


@pytest.mark.parametrize("value", [0.5, 0.1, math.nan])
def test_the_page_tells_the_verdict_and_needs_nothing_from_elsewhere(value):
    report = ParityReport((check(value), check(0.3, is_advisory=True, note="<advice>")), {"n": 1})
    parts = [{"role": "vision", "variant": "cpu-int8", "scheme": "int8", "bytes": 1000}]
    page = report_html("a <bundle>", report, "plan & rules", parts)
    assert ("Passed." in page) == (value == 0.5) and ("Failed" in page) != (value == 0.5)
    assert "a &lt;bundle&gt;" in page and "&lt;advice&gt;" in page and "plan &amp; rules" in page
    assert "http" not in page and "<script" not in page and "src=" not in page


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.booleans(), st.sampled_from(["1", "dB"]))
def test_the_room_left_is_a_share_and_none_for_a_failure(value, must, at_least, unit):
    one = check(value, must, at_least=at_least, unit=unit)
    room = room_left(one, scale=max(value, must))
    assert room == 0.0 if not one.passed else room >= 0.0


def test_the_room_left_runs_from_the_bound_to_a_perfect_figure():
    assert room_left(check(0.9, 0.9), 1.0) == 0.0
    assert room_left(check(0.95, 0.9), 1.0) == pytest.approx(0.5)
    assert room_left(check(19.0, 18.0, unit="dB"), 20.0) == pytest.approx(0.5)
    assert room_left(check(2e-5, 1e-4, at_least=False), 1.0) == pytest.approx(0.8)
