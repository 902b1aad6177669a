"""What the GPU benchmark keeps between slices, how it divides its time, and what a meter reads."""

from __future__ import annotations

import json
import time

import pytest
from gpu_meter import Meter
from gpu_state import RungState, Slice, State, StateOfOtherRun
from hypothesis import given
from hypothesis import strategies as st

FINGERPRINT = {"device": "one", "code": "abc"}
SECONDS = st.floats(1e-6, 1e3, allow_nan=False)
RUNGS = st.builds(
    RungState,
    label=st.text(max_size=8),
    refused=st.text(max_size=8),
    rounds=st.dictionaries(st.sampled_from(["watch", "decode"]),
                           st.lists(st.lists(SECONDS, min_size=1, max_size=3), max_size=3)),
    stretches=st.lists(st.lists(SECONDS, min_size=3, max_size=3), max_size=3),
    peak_bytes=st.integers(0, 1 << 40),
    watts=st.lists(SECONDS, max_size=3),
    cosine=st.none() | st.floats(-1, 1),
    resumed=st.integers(0, 9),
)  # fmt: skip


@pytest.mark.medium
@given(RUNGS)
def test_what_is_saved_is_what_is_read(tmp_path_factory, rung):
    file = tmp_path_factory.mktemp("state") / "deep" / "state.json"
    state = State(file, FINGERPRINT)
    state.shapes = {"a_shape": {"torch": rung}}
    state.save()
    assert State(file, FINGERPRINT).shapes == state.shapes
    assert [one.name for one in file.parent.iterdir()] == ["state.json"]


def test_figures_of_another_run_are_not_mixed_in(tmp_path):
    file = tmp_path / "state.json"
    State(file, FINGERPRINT).save()
    with pytest.raises(StateOfOtherRun, match="another run: device differ"):
        State(file, {**FINGERPRINT, "device": "another"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": {}, "shapes": {"a": {"b": 1}}}'])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, text):
    file = tmp_path / "state.json"
    file.write_text(text)
    with pytest.raises(StateOfOtherRun, match=r"state\.json"):
        State(file, FINGERPRINT)


def test_a_newer_format_is_refused(tmp_path):
    file = tmp_path / "state.json"
    State(file, FINGERPRINT).save()
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(StateOfOtherRun, match="format differ"):
        State(file, FINGERPRINT)


def test_only_whole_rounds_count():
    assert RungState().rounds_done == 0
    assert RungState(rounds={"watch": [[1.0], [1.0]], "decode": [[1.0]]}).rounds_done == 1
    assert RungState(stretches=[[30, 1.0, 0.1], [30, 2.0, 0.1]]).frames == 60


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_a_slice_begins_nothing_that_it_has_no_time_for():
    clock = Clock()
    short = Slice(60.0, clock)
    assert short.has(500.0) and short.has(500.0, is_measurement=True), "or it gets nowhere"
    assert not short.has(500.0) and not short.has(500.0, is_measurement=True)
    clock.now_s += 40.0
    assert short.has(20.0) and not short.has(20.1)


@given(st.lists(SECONDS, max_size=20))
def test_without_a_limit_everything_may_begin(needs):
    clock = Clock()
    endless = Slice(0.0, clock)
    for need in needs:
        clock.now_s += need
        assert endless.has(need)


def with_nvidia_smi(tmp_path, monkeypatch, lines):
    """A program of that name which prints these lines, then waits to be ended."""
    program = tmp_path / "nvidia-smi"
    told = "\n".join(f"echo '{line}'" for line in lines)
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{told}\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def readings_of(meter, count):
    begun_s = time.monotonic()
    while len(meter._readings) < count and time.monotonic() - begun_s < 60:
        time.sleep(0.01)


def test_watts_are_what_nvidia_smi_says(tmp_path, monkeypatch):
    with_nvidia_smi(tmp_path, monkeypatch, ["100.5", "[N/A]", "199.5"])
    with Meter("GPU-1") as meter:
        readings_of(meter, 2)
    assert meter.watts(0.0) == pytest.approx(150.0)
    assert "-i GPU-1 --query-gpu=power.draw --format" in (tmp_path / "asked").read_text()
    assert meter.watts(time.monotonic() + 1) is None


def test_without_a_gpu_nothing_is_read(tmp_path, monkeypatch):
    with_nvidia_smi(tmp_path, monkeypatch, ["100"])
    with Meter(None) as meter:
        pass
    assert meter.watts(0.0) is None and not (tmp_path / "asked").exists()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with Meter("GPU-1") as meter:
        pass
    assert meter.watts(0.0) is None
