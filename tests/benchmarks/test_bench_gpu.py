"""`benchmarks/bench_gpu.py` with tiny shapes: in slices, with peers that fail, and its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import bench_gpu
import pytest
import torch
from gpu_measure import Plan
from gpu_meter import Meter
from gpu_run import DeviceLost, Run
from gpu_shapes import TINY
from gpu_state import Slice, State
from gpu_torch import BoundedPeer, GrowingPeer
from jsonschema import Draft202012Validator

from edgestream.runtime.errors import BackendMissing

SCHEMA = Path(__file__).parents[2] / "runtime" / "schemas" / "result.json"
SHAPE = TINY["smolvlm2_500m"]
PLAN = Plan(rounds=2, frames=2, prefills=1, appends=2, tokens=3, questions=1, minutes=(1, 1))


class Wrong(BoundedPeer):
    """Another model."""

    def read(self, embeds):
        return super().read(embeds).flip(0)


class Breaks(BoundedPeer):
    """Breaks off in the stream, after the rounds."""

    def take_frame(self):
        raise RuntimeError("CUDA error: an illegal /home/ada/memory access")


class Full(GrowingPeer):
    """Runs out of memory in the stream."""

    def take_frame(self):
        super().take_frame()
        if self.length > 100:
            raise torch.OutOfMemoryError("no room")


def missing(model, work):
    raise BackendMissing("TensorRT cannot be imported: there is none")


def measured(state, openers, seconds=0.0, monotonic=None):
    slice_ = Slice(seconds, monotonic) if monotonic else Slice(seconds)
    with torch.inference_mode(), Meter(None) as meter:
        run = Run(state, PLAN, slice_, meter, torch.device("cpu"), torch.float32,
                  state._file.parent, openers)  # fmt: skip
        return run.shape(SHAPE, tuple(openers))


@pytest.mark.slow
def test_a_peer_that_fails_is_refused_and_the_others_go_on(tmp_path):
    openers = {
        "torch": lambda model, work: GrowingPeer(model),
        "wrong": lambda model, work: Wrong(model),
        "missing": missing,
        "breaks": lambda model, work: Breaks(model),
        "full": lambda model, work: Full(model),
        "torch_bounded": lambda model, work: BoundedPeer(model),
    }
    state = State(tmp_path / "state.json", {})
    assert measured(state, openers), "nothing is left to measure"
    held = state.shapes[SHAPE.name]
    assert held["wrong"].refused.startswith("it gave other logits than PyTorch: cosine")
    assert held["missing"].refused == "TensorRT cannot be imported: there is none"
    assert held["breaks"].refused == "RuntimeError: CUDA error: an illegal memory access"
    assert held["full"].refused.startswith("the device has no memory left after")
    assert {name for name, one in held.items() if not one.refused} == {"torch", "torch_bounded"}
    for name in ("torch", "torch_bounded"):
        assert (held[name].rounds_done, len(held[name].stretches)) == (2, 2)
    assert held["breaks"].rounds_done == 2 and not held["breaks"].stretches, "kept so far"
    assert held["torch"].cosine is None and held["torch_bounded"].cosine > 0.9999
    assert held["torch"].peak_bytes > 1e6
    # What was refused stays so, and nothing is opened again.
    assert measured(State(tmp_path / "state.json", {}), {"missing": missing})


@pytest.mark.slow
def test_a_device_that_is_lost_ends_the_process_and_not_the_benchmark(tmp_path):
    class Breaks(BoundedPeer):
        def watch(self):
            raise torch.AcceleratorError("CUDA error: an illegal memory access")

    openers = {"torch": lambda model, work: GrowingPeer(model),
               "torch_bounded": lambda model, work: Breaks(model)}  # fmt: skip
    with pytest.raises(DeviceLost):
        measured(State(tmp_path / "state.json", {}), openers)
    state = State(tmp_path / "state.json", {})
    assert "illegal memory access" in state.of(SHAPE.name, "torch_bounded").refused
    assert measured(state, openers), "the next process goes on without it"
    assert state.of(SHAPE.name, "torch").rounds_done == 2


@pytest.mark.slow
def test_slices_go_on_where_the_last_one_was(tmp_path):
    """Each slice has time for one measurement: the clock jumps on whenever it is read."""
    now_s = [0.0]

    def hurried():
        now_s[0] += 1e6
        return now_s[0]

    openers = {"torch": lambda model, work: GrowingPeer(model),
               "torch_bounded": lambda model, work: BoundedPeer(model)}  # fmt: skip
    kept = []
    for _ in range(20):
        state = State(tmp_path / "state.json", {})
        is_done = measured(state, openers, seconds=1.0, monotonic=hurried)
        found = [
            sum(one.rounds_done + len(one.stretches) for one in State(tmp_path / "state.json", {})
                .shapes[SHAPE.name].values())
        ]  # fmt: skip
        kept += found
        if is_done:
            break
    assert kept == [1, 2, 3, 4, 5, 6, 7, 8], "two rounds and two half minutes of two peers"
    for one in state.shapes[SHAPE.name].values():
        assert one.resumed == 1, "the second half minute began with the first one's cache"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run of everything that is installed, on one shape."""
    work = tmp_path_factory.mktemp("bench")
    words = ["smolvlm2_500m", "--work", str(work), "--minutes", "1", "1", "--rounds", "1",
             "--device", "cpu"]  # fmt: skip
    return words


@pytest.mark.slow
def test_the_command_measures_what_is_installed_and_says_so(whole, capsys):
    assert bench_gpu.main(whole) == 0
    out, err = capsys.readouterr()
    assert "tiny shapes: these figures say nothing of real models" in err
    assert "tensorrt was refused on smolvlm2_500m: TensorRT" in out
    line = json.loads(out.splitlines()[-1])
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(line)
    assert line["passed"] and line["is_done"] and line["weights"] == "random"
    providers = line["machine"]["providers"]
    assert {name for name, told in providers.items() if told == "proven"} == {
        "torch", "torch_bounded", "ort", "ort_int4"
    }  # fmt: skip
    values = {one["name"]: one["value"] for one in line["metrics"]}
    for rung in ("torch", "torch_bounded", "ort", "ort_int4"):
        for what in ("watch_frames_per_s", "minute_1_frames_per_s", "prefill_tokens_per_s",
                     "append_tokens_per_s", "decode_tokens_per_s", "first_token_ms",
                     "peak_bytes"):  # fmt: skip
            assert values[f"smolvlm2_500m_{rung}_{what}"] > 0
    assert not any("must" in one for one in line["metrics"]), "goals are those of a GPU"
    # Asked again, it only tells; another plan is not mixed in.
    assert bench_gpu.main(whole) == 0
    again = json.loads(capsys.readouterr()[0].splitlines()[-1])
    assert again["metrics"] == line["metrics"]
    assert bench_gpu.main([*whole, "--rounds", "2"]) == 2
    assert "holds figures of another run: plan differ" in capsys.readouterr()[1]
    words = [*whole, "--rungs", "torch", "--fresh"]
    assert bench_gpu.main(words) == 0
    fresh = json.loads(capsys.readouterr()[0].splitlines()[-1])
    assert fresh["rungs"].keys() == {"torch"}, "nothing of before is left"


@pytest.mark.slow
def test_make_bench_gpu_is_the_command(tmp_path):
    words = f"smolvlm2_500m --tiny --rungs torch --rounds 1 --minutes 1 1 --work {tmp_path}"
    command = ["make", "--no-print-directory", "-o", "setup", "bench-gpu",
               f"BIN={Path(sys.executable).parent}", f"BENCH_GPU={words}"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, cwd=SCHEMA.parents[2], env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rungs"].keys() == {"torch"}


@pytest.mark.slow
def test_half_precision_runs_the_graph_that_a_gpu_runs(tmp_path):
    """Written for CUDA: fp16 inside and in the cache, GroupQueryAttention; here on the CPU."""
    import onnx
    from gpu_graphs import decoder_graph
    from gpu_measure import logits_behind, worst_cosine
    from gpu_models import random_model
    from gpu_ort import OrtPeer

    with torch.inference_mode():
        model = random_model(SHAPE, torch.device("cpu"), torch.float16)
        peer = OrtPeer(model, tmp_path, "whole")
        expected = logits_behind(GrowingPeer(model))
        told = logits_behind(peer)
        assert worst_cosine(told, expected) > 0.9999
        peer.refill(100)
        assert peer.arena.evictions > 0 and peer.arena.block.dtype == torch.float16
    graph = onnx.load(str(decoder_graph(model, tmp_path, "whole"))).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("GroupQueryAttention") == SHAPE.text["num_hidden_layers"]
