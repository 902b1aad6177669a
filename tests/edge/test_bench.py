"""`edgestream bench`: that its figures fit together, and what it advises. Nothing is timed here."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median_low

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edgestream.edge.bench_advice import DROPS_APART, LaneFigures, advice
from edgestream.edge.bench_figures import Samples, over_rounds
from edgestream.edge.bench_load import load, paced
from edgestream.edge.bench_parts import fill, newer_half
from edgestream.edge.bench_scene import Scene
from edgestream.edge.benchmark import BenchPlan
from edgestream.edge.cli import main
from edgestream.runtime.arena import Arena
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.motion import MotionDetector
from edgestream.runtime.speaking import SpeakingRules

from ..bundles import write_small_bundle
from .test_cli import COMMAND, on_a_terminal

SCHEMA = Path(__file__).parents[2] / "runtime" / "schemas" / "result.json"
SHORT = ["--quick", "--seconds", "0.5", "--fps", "8", "--threads", "1"]


# --- the scene ---


@pytest.mark.medium
def test_no_picture_of_the_scene_is_like_the_one_before():
    scene, motion = Scene(), MotionDetector()
    frames = [scene.next() for _ in range(30)]
    assert [frame.index for frame in frames] == list(range(30))
    assert all(frame.pixels.shape == (720, 1280, 3) for frame in frames)
    seen = [motion.step(frame) for frame in frames]
    assert not any(one.is_still for one in seen)
    assert scene.now_s == frames[-1].time_s and scene.count == 30


def test_pictures_come_until_somebody_leaves():
    begun_s = time.perf_counter()
    assert len(list(paced(Scene(), begun_s, 1000.0, 5, lambda: False))) == 5
    assert list(paced(Scene(), begun_s + 3600, 1.0, 5, lambda: True)) == []


# --- samples and figures ---


class Clock:
    """Seconds that pass as told."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def sampled(ms, *, times, budget_s):
    """What is measured of something that takes so many ms: the first time ten times as many."""
    clock = Clock()
    samples = Samples(budget_s=budget_s, monotonic=clock)
    first = [9 * ms]

    def work():
        clock.now_s += (ms + (first.pop() if first else 0)) / 1e3

    samples.measure("work_ms", lambda: samples.ms(work), times=times)
    return samples


def test_the_first_run_warms_up_and_does_not_count():
    figure = sampled(2.0, times=5, budget_s=10).latency("work_ms")
    assert figure.n == 5 and figure.more["warm_up"] == 1
    assert figure.value == pytest.approx(2.0) and figure.more["worst"] == pytest.approx(2.0)


@pytest.mark.parametrize(("budget_s", "n"), [(10, 5), (0.0115, 2), (0, 1)])
def test_a_slow_part_has_fewer_samples_but_one(budget_s, n):
    assert sampled(1.0, times=5, budget_s=budget_s).latency("work_ms").n == n


@given(st.lists(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9), min_size=1, max_size=5))
def test_percentiles_are_in_order_and_a_rate_is_its_latency(rounds):
    samples = Samples(budget_s=1)
    for taken in rounds:
        samples.keep("work_ms", taken)
    latency, rate = samples.latency("work_ms"), samples.rate("work_tokens_per_s", "work_ms", 7)
    spread = [latency.more[name] for name in ("p50", "p90", "p99", "worst")]
    every = [ms for taken in rounds for ms in taken]
    assert spread == sorted(spread) and spread[-1] == max(every) and latency.n == len(every)
    assert rate.value == pytest.approx(7000 / latency.value) and rate.n == latency.n
    assert rate.more["low"] <= rate.value * 1.000001 and rate.value <= rate.more["high"] * 1.000001


@given(st.lists(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9), min_size=1, max_size=5))
def test_the_value_of_a_latency_is_its_p50(rounds):
    samples = Samples(budget_s=1)
    for taken in rounds:
        samples.keep("work_ms", taken)
    figure = samples.latency("work_ms")
    assert figure.value == figure.more["p50"] == median_low(ms for taken in rounds for ms in taken)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9))
def test_what_each_round_found_is_one_sample(values):
    figure = over_rounds("speech", values, "tokens/s")
    assert figure.n == figure.more["rounds"] == len(values)
    assert figure.more["low"] <= figure.value <= figure.more["high"]


# --- what is done to the cache ---


@pytest.mark.parametrize(("capacity", "tokens_per_frame"), [(512, 10), (64, 64), (7, 3), (1000, 1)])
def test_the_newer_half_of_the_frames_stays(capacity, tokens_per_frame):
    keep = newer_half(capacity, tokens_per_frame)
    size = min(tokens_per_frame, capacity // 4)
    assert list(keep[:size]) == list(range(size))
    assert keep[-1] == capacity - 1 and (np.diff(keep) > 0).all()
    assert capacity // 2 - size < len(keep) <= capacity - capacity // 2


def test_a_filled_cache_has_numbers_in_its_slots_and_nothing_after():
    arena = Arena(CacheShape(2, 1, 4, 16), Positions(axes=1, theta=1e4))
    for slots in (9, 16, 0):
        fill(arena, slots)
        assert arena.length == slots == arena.next_position
        for tensor in arena.tensors().values():
            assert (tensor[:, :, :slots] != 0).all() and not tensor[:, :, slots:].any()


# --- the advice ---

figures = st.builds(
    LaneFigures,
    frame_p99_ms=st.floats(1, 1e4),
    frames=st.integers(1, 1000),
    dropped_share=st.floats(0, 1),
    speech_share=st.floats(0.01, 1.2),
)


@pytest.mark.parametrize(
    ("shared", "split", "lane", "reason"),
    [
        # 200 ms to the next frame: speech decides where both are in time.
        ((50, 0, 0.5), (80, 0, 0.9), "split", "speech is faster, and both encode frames within"),
        ((80, 0, 0.5), (50, 0, 0.3), "shared", "speech is faster, and both encode frames within"),
        ((80, 0, 0.6), (77, 0, 0.65), "split", "speech is about as fast in both"),
        ((77, 0, 0.6), (80, 0, 0.65), "shared", "speech is about as fast in both"),
        ((199, 0, 0.5), (10, 0, 0.9), "split", "speech is faster"),
        ((200, 0, 0.9), (10, 0, 0.5), "split", "not both do so before the next one is due (200"),
        ((150, 0, 0.5), (210, 0, 0.9), "shared", "not both do so before the next one is due"),
        ((900, 0, 0.5), (800, 0, 0.3), "split", "not both do so before the next one is due"),
        ((50, 0, 0.2), (80, 0, 0.3), "split", "shared leaves speech less than the 25%"),
        ((50, 0, 0.1), (80, 0, 0.2), "split", "speech is faster"),
        ((50, 0.1, 0.5), (80, 0.0, 0.4), "split", "shared drops 10.0% of the frames, split 0.0%"),
        ((50, 0.02, 0.5), (80, 0.0, 0.4), "shared", "speech is faster"),
    ],
)
def test_the_lane_is_chosen_by_its_rule(shared, split, lane, reason):
    modes = {"shared": lane_figures(*shared), "split": lane_figures(*split)}
    told = advice(modes, fps=5.0, speak_share=0.25)
    assert (told.lane, told.setting) == (lane, f"engine.lane={lane}")
    assert told.why.startswith(reason) or f", and {reason}" in told.why


def lane_figures(p99_ms, dropped, speech, frames=100):
    return LaneFigures(p99_ms, frames, dropped, speech)


@given(figures, figures, st.floats(0.1, 120))
def test_the_reason_names_what_both_modes_cost(shared, split, fps):
    why = advice({"shared": shared, "split": split}, fps=fps, speak_share=0.25).why
    for name, one in (("shared", shared), ("split", split)):
        assert f"{name} {one.frame_p99_ms:.0f} ms" in why
        assert f"{one.speech_share:.0%} " in why and f"with {name}" in why
    few = min(shared.frames, split.frames)
    assert (f"of few samples: n = {few})" in why) is (few < 100)


@given(figures, figures, st.floats(0.1, 120))
def test_the_lane_that_is_worse_in_everything_is_not_chosen(one, other, fps):
    best = LaneFigures(
        min(one.frame_p99_ms, other.frame_p99_ms) / 2,
        100,
        min(one.dropped_share, other.dropped_share),
        max(one.speech_share, other.speech_share),
    )
    worse = LaneFigures(
        best.frame_p99_ms * 2, 100, best.dropped_share + DROPS_APART, best.speech_share / 2
    )
    rules = {"fps": fps, "speak_share": 0.25}
    assert advice({"shared": best, "split": worse}, **rules).lane == "shared"
    assert advice({"shared": worse, "split": best}, **rules).lane == "split"


# --- faults ---


def test_what_is_no_bundle_is_said_in_one_line(tmp_path, capsys):
    assert main(["bench", str(tmp_path / "none"), "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "bundle-missing"
    assert err.startswith("error[bundle-missing]: ")


def test_a_flipped_byte_is_3(tmp_path, capsys):
    folder = write_small_bundle(tmp_path / "small")
    content = (folder / "vision.onnx").read_bytes()
    (folder / "vision.onnx").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert main(["bench", str(folder)]) == 3
    assert capsys.readouterr().err.startswith("error[bundle-hash-mismatch]: small/vision.onnx")


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--fps", "0"], ["--seconds", "nan"]])
def test_a_wrong_number_is_2(tmp_path, capsys, wrong):
    assert main(["bench", str(tmp_path), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.medium
def test_without_onnx_runtime_it_says_what_to_install(tmp_path):
    folder = write_small_bundle(tmp_path / "small")
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no such engine')\n")
    done = subprocess.run(
        [*COMMAND, "bench", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4 and done.stdout == ""
    assert done.stderr.startswith("error[backend-missing]: ONNX Runtime cannot be imported")
    assert "try: pip install 'edgestream[cpu]'" in done.stderr


# --- the whole, on a tiny bundle of random weights ---


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    pytest.importorskip("torch", reason="bundles are made by the export side")
    pytest.importorskip("onnxruntime_genai", reason="bundles are made by the export side")
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.graphs import Schemes

    from ..checkpoints import random_live_checkpoint

    folder = tmp_path_factory.mktemp("bench")
    checkpoint = random_live_checkpoint(folder / "checkpoint")
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny", capacity=192)
    export_bundle(checkpoint, folder / "tiny", choice, lambda stage, part: None)
    return folder / "tiny"


@pytest.fixture(scope="module")
def told(bundle):
    """What one bench wrote to stdout."""
    done = subprocess.run(
        [*COMMAND, "bench", str(bundle), *SHORT, "--rounds", "2"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_the_last_line_is_a_result_and_its_figures_fit_together(told):
    result = json.loads(told.splitlines()[-1])
    schema = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    assert [error.message for error in schema.iter_errors(result)] == []
    assert result["command"] == "bench" and result["passed"] and result["threads"] == 1
    assert result["machine"]["providers"] == {"cpu": "proven"} and result["cpu_share"] > 0
    assert set(result["engines"]) == {"vision", "connector", "decoder", "evict"}
    found = {one["name"]: one for one in result["metrics"]}
    assert len(found) == len(result["metrics"])
    for name, one in found.items():
        if one["unit"] == "ms":
            spread = [one[key] for key in ("p50", "p99", "worst")]
            assert spread[0] >= 0 and spread == sorted(spread), name
            assert one["value"] == one["p50"], name
        elif not name.endswith("_drops"):
            assert one["value"] > 0, name
        assert one["n"] >= 1, name
    for part, tokens in (("decode", 1), ("prefill", 192), ("append_frame", 10)):
        rate, latency = found[f"{part}_tokens_per_s"], found[f"{part}_ms"]
        assert rate["tokens"] == tokens and rate["n"] == latency["n"]
        assert rate["value"] == pytest.approx(1e3 * tokens / latency["value"], rel=1e-4)
        assert rate["rounds"] == 2 and latency["warm_up"] == 2
    alone = found["speech_alone_tokens_per_s"]["value"]
    for mode in ("shared", "split"):
        drops = found[f"{mode}_drops"]
        assert drops["n"] == 2 * 4 and found[f"{mode}_frame_ms"]["n"] == 8 - drops["value"]
        assert found[f"{mode}_speech_tokens_per_s"]["n"] == 2
        share = found[f"{mode}_speech_tokens_per_s"]["value"] / alone
        assert found[f"{mode}_speech_share"]["value"] == pytest.approx(share, rel=1e-4)
    assert found["speech_alone_tokens_per_s"]["n"] == 2
    assert found["cache_bytes"]["value"] >= 3 * 2 * 2 * 192 * 16 * 4
    assert found["rss_bytes"]["value"] > found["cache_bytes"]["value"]


@pytest.mark.slow
def test_frames_that_come_too_fast_are_counted_and_the_others_all_encoded(bundle):
    engines = BenchPlan(threads=1).engines("shared")
    speaking = SpeakingRules(recent_every_s=0.0, allow_random_weights=True)
    with attached(open_bundle(bundle), engines, speaking) as model:
        found = load(model, Scene(), fps=2000.0, seconds=0.1)
        holds = model.lane.stats()["watch"]["holds"]
    assert found.due == 200 and found.dropped > 0 and found.tokens > 0
    assert len(found.frame_ms) + found.dropped == found.due
    assert holds == found.wait_ms["n"] == 4 + len(found.frame_ms)  # four to warm up


@pytest.mark.slow
def test_people_read_tables_and_a_sentence_about_the_lane(told):
    *lines, empty, line = told.splitlines()
    assert empty == ""
    text, result = "\n".join(lines), json.loads(line)
    for word in ("tokens a second", "milliseconds", "while it speaks", "frames dropped", "cache "):
        assert word in text
    setting = result["advice"]["setting"]
    assert lines[-1].endswith(f"To choose it, write --set {setting}")
    assert main(["settings", "--set", setting]) == 0


@pytest.mark.slow
def test_programs_get_one_line(bundle, capsys):
    assert main(["bench", str(bundle), *SHORT, "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert err == "" and json.loads(line)["command"] == "bench"


@pytest.mark.slow
def test_a_terminal_of_80_columns_holds_all_but_the_result(bundle):
    text = on_a_terminal(["bench", str(bundle), *SHORT], NO_COLOR="1")
    shown = text.replace("\r", "\n").splitlines()
    tables = [line for line in shown if "\033" not in line and not line.startswith("{")]
    assert "milliseconds" in text and max(map(len, tables)) <= 80
    assert "frames and answers, lane split" in text  # the bar


@pytest.mark.slow
@pytest.mark.parametrize("after", [b"opening, lane shared", b"frames and answers, lane shared"])
def test_ctrl_c_is_130(bundle, after):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "bench", str(bundle), "--seconds", "30"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(theirs)
    text = b""
    while after not in text:
        text += os.read(ours, 65536)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    with suppress(OSError):  # so Linux says that the other side has gone
        while part := os.read(ours, 65536):
            text += part
    os.close(ours)
    assert (process.returncode, out) == (130, b""), text
    assert b"interrupted" in text and b"Traceback" not in text
