"""Out of samples that were made by hand: the figures, the table, and which goals are reached."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from gpu_measure import Plan
from gpu_report import figures, rows, speeds
from gpu_shapes import SHAPES
from gpu_state import RungState

PLAN = Plan(minutes=(1, 2))
SHAPE = SHAPES["videollm_online_8b"]


def rung(decode_s=0.02, last_s=3.0, watch_s=0.008):
    """Two rounds; every half minute of the stream took 3 s, the last one `last_s`."""
    return RungState(
        label="made by hand",
        rounds={
            "watch": [[watch_s, watch_s], [watch_s]],
            "prefill": [[0.5], [0.25, 0.5]],
            "append": [[0.011], [0.022], [0.011]],
            "decode": [[decode_s], [decode_s]],
            "first_token": [[0.1], [0.3], [0.2]],
        },
        stretches=[[300, 3.0, 0.01]] * 3 + [[300, last_s, 0.01]],
        peak_bytes=5_000_000,
        watts=[100.0, 300.0],
    )


def test_figures_are_medians_and_the_stream_is_frames_by_time():
    told = speeds(SHAPE, rung(last_s=4.0), PLAN)
    assert told.watch == pytest.approx(125.0)
    assert told.prefill == pytest.approx(1024 / 0.5)
    assert told.append == pytest.approx(11 / 0.011)
    assert told.decode == pytest.approx(50.0)
    assert told.first_token_ms == pytest.approx(200.0)
    assert (told.first, told.last) == (pytest.approx(100.0), pytest.approx(75.0))
    assert told.ratio == pytest.approx(0.75)
    assert (told.watts, told.peak_bytes) == (pytest.approx(200.0), 5_000_000)


def test_what_was_not_measured_is_no_figure():
    half = replace(rung(), stretches=[[300, 3.0, 0.01]] * 2)
    told = speeds(SHAPE, half, PLAN)
    assert told.first == pytest.approx(100.0) and told.last is None and told.ratio is None
    names = [one.name for one in figures([SHAPE], {SHAPE.name: {"torch": half}}, PLAN,
                                         is_bound=False)]  # fmt: skip
    assert f"{SHAPE.name}_torch_minute_1_frames_per_s" in names
    assert f"{SHAPE.name}_torch_minute_2_frames_per_s" not in names
    nothing = {SHAPE.name: {"torch": RungState(refused="no memory")}}
    assert rows([SHAPE], nothing, PLAN) == [] == figures([SHAPE], nothing, PLAN, is_bound=True)


def goals(held, is_bound=True):
    found = figures([SHAPE], {SHAPE.name: held}, PLAN, is_bound=is_bound)
    return {one.name.partition("_goal_")[2]: one for one in found if "_goal_" in one.name}


@pytest.mark.parametrize(
    ("ours", "failed"),
    [
        ({}, set()),
        ({"watch_s": 0.0101}, {"watch_frames_per_s"}),
        ({"last_s": 3.2}, {"last_over_first_minute"}),
        ({"decode_s": 0.0101}, {"decode_against_pytorch"}),
    ],
)
def test_goals_are_those_of_our_fastest_peer(ours, failed):
    good = {"decode_s": 0.01, **ours}
    held = {"torch": rung(watch_s=0.001), "torch_bounded": rung(decode_s=0.03, watch_s=0.02),
            "ort": rung(**good)}  # fmt: skip
    found = goals(held)
    assert set(found) == {"watch_frames_per_s", "last_over_first_minute", "decode_against_pytorch"}
    assert {name for name, one in found.items() if not one.passed} == failed
    assert all(one.passed for one in goals(held, is_bound=False).values()), "only told"


def test_a_peer_that_watches_alone_counts_for_the_watch_path():
    watches = RungState(label="an engine", rounds={"watch": [[0.004]]})
    found = goals({"torch": rung(), "torch_bounded": rung(), "tensorrt": watches})
    assert found["watch_frames_per_s"].value == pytest.approx(250.0)
    assert found["decode_against_pytorch"].value == pytest.approx(1.0)


def test_without_the_baseline_there_is_no_ratio():
    assert "decode_against_pytorch" not in goals({"ort": rung()})


def test_names_of_figures_are_those_of_the_format():
    held = {SHAPE.name: {"torch": rung(), "ort_int4": rung()}}
    for one in figures([SHAPE], held, PLAN, is_bound=True):
        assert re.fullmatch("[a-z][a-z0-9_]*", one.as_json()["name"])
    table = rows([SHAPE], held, PLAN)
    assert [row["runs"] for row in table] == ["torch", "ort_int4"]
    assert table[0]["2/1"] == pytest.approx(1.0)
