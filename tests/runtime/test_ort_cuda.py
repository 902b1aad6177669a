"""CUDA through ONNX Runtime: strict, recorded where it can be, refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.engine import backend_for
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineFailed, EngineUnusable, InputMismatch
from edgestream.runtime.held import HoldingEngine, holding

from ..bundles import decoder, decoder_inputs
from ..cuda_on_cpu import FALLS_BACK, REFUSES_GRAPHS, cuda_on_cpu
from ..onnx_graphs import model, node


def written(folder, content):
    (folder / "graph.onnx").write_bytes(content)
    return folder / "graph.onnx"


def doubled(folder):
    """A graph of constant sizes: c = a + b of (2, 3)."""
    size = [2, 3]
    ends = [("a", "float32", size), ("b", "float32", size)]
    return written(folder, model([node("Add", ["a", "b"], ["c"])], ends, [("c", "float32", size)]))


def arrays(first):
    return {"a": np.full((2, 3), first, "f4"), "b": np.ones((2, 3), "f4")}


def test_it_is_opened_strictly_and_asked_to_record(tmp_path):
    with cuda_on_cpu() as cuda, backend_for("cuda").open(doubled(tmp_path), None) as engine:
        assert (engine.provider, engine.records, engine.why_not) == ("cuda", True, "")
        assert cuda.strict == ["1"] and cuda.asked[0]["enable_cuda_graph"] == "1"


def test_a_graph_that_cannot_be_recorded_runs_all_the_same(tmp_path):
    graph = doubled(tmp_path)
    with cuda_on_cpu(refuses=REFUSES_GRAPHS) as cuda, OrtBackend("cuda").open(graph) as engine:
        assert not engine.records and "control flow nodes" in engine.why_not
        assert ["enable_cuda_graph" in one for one in cuda.asked] == [True, False]
        assert (engine.run(arrays(2))["c"] == 3).all()
        assert cuda.runs == ["-1"]


def test_work_that_would_go_to_the_cpu_is_refused_with_what_it_means(tmp_path):
    with cuda_on_cpu(refuses=FALLS_BACK), pytest.raises(EngineUnusable) as refused:
        OrtBackend("cuda").open(doubled(tmp_path))
    assert "cuda does not run all of it here" in refused.value.message
    assert "doctor" in refused.value.hint


def test_a_graph_of_constant_sizes_is_replayed_on_arrays_that_stay(tmp_path):
    with cuda_on_cpu() as cuda, OrtBackend("cuda").open(doubled(tmp_path)) as engine:
        first, second = engine.run(arrays(1))["c"], engine.run(arrays(5))["c"]
        assert (first == 2).all() and (second == 6).all()  # a result is the caller's own
        assert cuda.runs == ["1", "1"]
        with pytest.raises(InputMismatch):
            engine.run({"a": np.ones((2, 3), "f4")})


def test_sizes_that_change_are_not_recorded(tmp_path):
    with cuda_on_cpu() as cuda, OrtBackend("cuda").open(written(tmp_path, decoder())) as engine:
        engine.run(decoder_inputs(3, 2))
        engine.run(decoder_inputs(6, 1))
        assert cuda.runs == ["-1", "-1"]


def test_a_recording_that_breaks_off_is_made_again_without(tmp_path):
    """As when another thread asks the driver for memory meanwhile."""
    with cuda_on_cpu(breaks=["1"]) as cuda, OrtBackend("cuda").open(doubled(tmp_path)) as engine:
        assert (engine.run(arrays(1))["c"] == 2).all()
        assert (engine.run(arrays(3))["c"] == 4).all()
        assert cuda.runs == ["1", "-1", "-1"]
    graph = doubled(tmp_path)
    with (
        cuda_on_cpu(breaks=["1", "-1"]),
        OrtBackend("cuda").open(graph) as engine,
        pytest.raises(EngineFailed, match="broke off"),
    ):
        engine.run(arrays(1))


def test_each_call_that_comes_again_has_a_recording_of_its_own(tmp_path):
    with cuda_on_cpu() as cuda, OrtBackend("cuda").open(doubled(tmp_path)) as engine:
        held = {name: engine.hold(array) for name, array in arrays(1).items()}
        total = {"c": engine.hold(np.zeros((2, 3), "f4"))}
        calls = [engine.bind_held(held, total, replays=replays) for replays in (True, False, True)]
        for call in calls:
            call.run()
        assert cuda.runs == ["1", "-1", "2"] and (total["c"].read() == 2).all()
        held["a"].write(np.full((2, 3), 8, "f4"))
        calls[0].run()
        assert (total["c"].read() == 9).all()


def test_held_arrays_are_checked_once(tmp_path):
    with OrtBackend().open(doubled(tmp_path)) as engine:
        held = {name: engine.hold(array) for name, array in arrays(1).items()}
        total = {"c": engine.hold(np.zeros((2, 3), "f4"))}
        given = arrays(1)
        held["a"].write(given["a"])
        given["a"][:] = 7  # what was handed in is the caller's own
        assert (held["a"].read() == 1).all() and held["a"].n_bytes == 24
        for inputs, words in (
            ({"a": held["a"]}, "inputs a, expected a, b"),
            ({**held, "b": engine.hold(np.zeros((2, 4), "f4"))}, r"float32 \[2, 4\], expected"),
            ({**held, "b": engine.hold(np.zeros((2, 3), "f2"))}, r"float16 \[2, 3\], expected"),
            ({**held, "b": given["b"]}, "ONNX Runtime does not hold"),
        ):
            with pytest.raises(InputMismatch, match=words):
                engine.bind_held(inputs, total)
        host = engine.bind_held({"a": held["a"]}, total, host={"b": given["b"]})
        host.run()
        assert (total["c"].read() == 2).all()


def test_a_closed_engine_runs_nothing(tmp_path):
    with OrtBackend().open(doubled(tmp_path)) as engine:
        held = {name: engine.hold(array) for name, array in arrays(1).items()}
        call = engine.bind_held(held, {"c": engine.hold(np.zeros((2, 3), "f4"))})
    with pytest.raises(EngineFailed, match="closed"):
        call.run()


def test_an_engine_that_holds_nothing_says_so(tmp_path):
    class Plain:
        provider = "toaster"

    with pytest.raises(EngineUnusable, match="toaster that holds no arrays"):
        holding(Plain())
    with OrtBackend().open(doubled(tmp_path)) as engine:
        assert isinstance(engine, HoldingEngine) and holding(engine) is engine
