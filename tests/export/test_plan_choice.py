"""Which plan is taken: the fastest that passed, and of those within the noise the smallest."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgestream.export.plan_choice import (
    ANSWER_TOKENS,
    FORMULA,
    LEAST_NOISE,
    Part,
    Workload,
    chosen_plan,
    plan_rows,
)

WORK = Workload(frames_per_s=4, tokens_per_s=2)
MS = st.floats(0.1, 1e3)


def see(word, *frame, n_bytes=10, why_not=""):
    return Part(word, why_not, n_bytes, {"frame": frame})


def speak(word, *token, n_bytes=10, prompt=None, why_not=""):
    ms = {"token": token, "prompt": prompt or tuple(10 * one for one in token)}
    return Part(word, why_not, n_bytes, ms)


def choice_of(seen, spoken, workload=WORK):
    return chosen_plan(plan_rows(seen, spoken, workload))


@pytest.mark.medium
@given(MS, MS, MS, st.floats(0, 30), st.floats(0, 100))
def test_the_formula_that_is_told_is_the_one_that_is_used(frame, prompt, token, frames, tokens):
    names = {"frames_per_s": frames, "frame_ms": frame, "tokens_per_s": tokens,
             "prompt_ms": prompt, "token_ms": token}  # fmt: skip
    told = eval(FORMULA.split("=", 1)[1], {}, names)
    assert Workload(frames, tokens).busy_ms(frame, prompt, token) == pytest.approx(told)


def test_one_frame_a_second_and_one_answer():
    busy = Workload(1, ANSWER_TOKENS).busy_ms(30, 100, 5)
    assert busy == pytest.approx(30 + 100 + ANSWER_TOKENS * 5)


def test_the_fastest_is_taken_and_the_workload_decides_which_that_is():
    seen = [see("quick", 10, 10, 10), see("slow", 30, 30, 30)]
    spoken = [speak("talks", 5, 5, 5, n_bytes=100), speak("mumbles", 50, 50, 50)]
    found = choice_of(seen, spoken)
    assert (found.chosen.vision, found.chosen.llm) == ("quick", "talks")
    assert found.chosen is found.fastest and "the least of those that passed" in found.because
    seen = [see("a", 10, 10, 10), see("b", 30, 30, 30, n_bytes=5)]
    lone = choice_of(seen, spoken[:1], Workload(0, 2))
    assert lone.chosen.vision == "b", "who watches nothing takes the smaller"


def test_what_did_not_pass_is_told_and_never_taken():
    seen = [see("fp32", 30, 30), see("int8", 10, 10)]
    spoken = [speak("fp32", 9, 9), speak("int4", 1, 1, why_not="too coarse")]
    rows = plan_rows(seen, spoken, WORK)
    assert [row.passed for row in rows] == [True, True, False, False]
    assert {row.why_not for row in rows[2:]} == {"too coarse"}
    assert rows[2].as_json() == {
        "vision": "fp32", "llm": "int4", "passed": False, "why_not": "too coarse",
    }  # fmt: skip
    assert chosen_plan(rows).chosen.llm == "fp32"
    assert chosen_plan(rows[2:]) is None


def test_within_the_noise_the_smaller_is_taken_and_it_is_said():
    ones = (10.0, 12.0, 9.0, 11.0, 10.5)
    shares = (1.01, 1.015, 1.01, 1, 1)
    near = tuple(one * share for one, share in zip(ones, shares, strict=True))
    found = choice_of([see("v", *[1.0] * 5)], [
        speak("large", *ones, n_bytes=90), speak("small", *near, n_bytes=40),
        speak("tiny", *[1.5 * one for one in ones], n_bytes=1),
    ])  # fmt: skip
    assert found.fastest.llm == "large" and found.chosen.llm == "small"
    assert [row.llm for row in found.tied] == ["large", "small"]
    assert "within the noise of the fastest" in found.because and "is smaller" in found.because


def test_noise_of_the_rounds_makes_more_plans_equal():
    steady = choice_of([see("v", 1, 1, 1, 1, 1)], [
        speak("large", *[10.0] * 5, n_bytes=90), speak("small", *[10.5] * 5, n_bytes=40),
    ])  # fmt: skip
    noisy = choice_of([see("v", 1, 1, 1, 1, 1)], [
        speak("large", *[10.0] * 5, n_bytes=90),
        speak("small", *(8.0, 12.5, 10.4, 9.0, 12.0), n_bytes=40),
    ])  # fmt: skip
    assert steady.chosen.llm == "large" and noisy.chosen.llm == "small"


@pytest.mark.medium
@given(
    st.lists(
        st.tuples(st.lists(MS, min_size=5, max_size=5), st.integers(1, 99), st.booleans()),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_no_plan_that_passed_is_both_clearly_faster_and_taken_less(parts):
    assume(any(passed for _, _, passed in parts))
    spoken = [
        speak(str(number), *ms, n_bytes=size, why_not="" if passed else "no")
        for number, (ms, size, passed) in enumerate(parts)
    ]
    rows = plan_rows([see("v", 1, 1, 1, 1, 1)], spoken, WORK)
    found = chosen_plan(rows)
    passed = [row for row in rows if row.passed]
    assert found.chosen.passed and found.chosen in found.tied and found.fastest in found.tied
    assert median(found.fastest.busy_ms) == min(median(row.busy_ms) for row in passed)
    assert all(found.chosen.n_bytes <= 1.001 * row.n_bytes for row in found.tied)
    for row in passed:
        if median(row.busy_ms) <= median(found.fastest.busy_ms):
            ratios = [a / b for a, b in zip(row.busy_ms, found.fastest.busy_ms, strict=True)]
            assert row in found.tied or median(ratios) > 1 + LEAST_NOISE
