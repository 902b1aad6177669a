"""TensorRT behind the Engine contract, through a scripted module: all of ours, none of NVIDIA's."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from edgestream.runtime.engine import backend_for, mirror_of
from edgestream.runtime.engine_cache import engine_key
from edgestream.runtime.engines import trt_module
from edgestream.runtime.engines.trt import TrtBackend
from edgestream.runtime.errors import (
    BackendMissing,
    DeviceMemoryExhausted,
    EngineFailed,
    EngineUnusable,
    InputMismatch,
)

from ..bundles import DIM, VOCABULARY, decoder, decoder_inputs, gate, random_array
from ..onnx_graphs import model, node
from ..scripted_tensorrt import HostDevice, scripted_tensorrt, variant_of
from . import test_engine_bind as bound
from . import test_engine_ort as plain

SIZES = {"tokens": [1, 2, 9], "total": [1, 8, 64], "past": [0, 8, 60]}


@pytest.fixture(autouse=True)
def own_logs(monkeypatch):
    """A process has one log for each module; here each test has modules of its own."""
    monkeypatch.setattr(trt_module, "_LOGS", {})


def backend(folder, device=None, provider="tensorrt", **how):
    device = device or HostDevice()
    trt = scripted_tensorrt(device, trt_module.MODULES[provider], **how)
    return TrtBackend(provider, folder / "engines", trt=trt, device=device)


def opened(folder, content, sizes=None, device=None, **how):
    graph = folder / "graph.onnx"
    graph.write_bytes(content)
    return backend(folder, device, **how).open(graph, variant_of(graph, sizes))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("trt"), decoder(), SIZES) as engine:
        yield engine


# What every engine must do, as ONNX Runtime's does.
test_it_gives_the_bits_of_an_unbound_run = bound.test_it_gives_the_bits_of_an_unbound_run
test_an_input_that_cannot_be_bound_is_named = bound.test_an_input_that_cannot_be_bound_is_named
test_an_output_that_cannot_be_bound_is_named = bound.test_an_output_that_cannot_be_bound_is_named
test_an_unknown_name_at_a_run_is_refused = bound.test_an_unknown_name_at_a_run_is_refused
test_a_replaced_input_stays_bound = (
    bound.test_a_replaced_input_stays_bound_and_may_have_another_length
)
test_bound_arrays_live_as_long_as_the_call = bound.test_bound_arrays_live_as_long_as_the_call
test_a_cache_of_any_length_is_taken = plain.test_a_cache_of_any_length_is_taken_the_empty_one_too
test_a_wrong_input_is_named = plain.test_a_wrong_input_names_the_tensor_and_both_sides


def ort_engine(folder):
    return plain.OrtBackend().open(folder / "graph.onnx")


def test_it_computes_what_onnx_runtime_computes(tmp_path):
    with opened(tmp_path, decoder(), SIZES) as engine, ort_engine(tmp_path) as other:
        assert engine.inputs == other.inputs and engine.outputs == other.outputs
        got, expected = (one.run(decoder_inputs(6, 2)) for one in (engine, other))
        assert list(got) == list(expected) and engine.provider == "tensorrt"
        for name in got:
            assert got[name].tobytes() == expected[name].tobytes()


def test_what_breaks_inside_is_ours_and_it_can_run_again(tmp_path):
    with opened(tmp_path, decoder(), SIZES) as engine:
        wrong = {**decoder_inputs(3, 2), "attention_mask": np.ones((1, 4), np.int64)}
        with pytest.raises(EngineFailed, match=r"graph\.onnx broke off: "):
            engine.run(wrong)
        assert engine.run(decoder_inputs(3, 2))["logits"].shape == (1, 1, VOCABULARY)


def test_after_its_block_it_does_not_run_and_nothing_is_left_on_the_device(tmp_path):
    device = HostDevice()
    with opened(tmp_path, gate(), device=device) as engine:
        state, summary = random_array(0, 1, DIM), random_array(1, 1, DIM)
        outputs = {"scores": np.zeros((1, 2), "f4"), "state_out": state}
        call = engine.bind({"summary": summary, "state": state}, outputs)
        for _ in range(3):
            call.run()
            engine.run({"summary": summary, "state": state})
        assert device.blocks and device.graphs and device.streams
    assert not device.blocks and not device.graphs and not device.streams
    for late in (call.run, call.pull, lambda: engine.run({"summary": summary, "state": state})):
        with pytest.raises(EngineFailed, match="closed"):
            late()


@pytest.mark.medium
def test_a_call_that_is_forgotten_gives_its_memory_back(tmp_path):
    device = HostDevice()
    with opened(tmp_path, decoder(), SIZES, device) as engine:
        before = device.bytes_taken
        call = engine.bind(decoder_inputs(3, 2), bound.outputs_for(5))
        assert device.bytes_taken > before and mirror_of(call) is None
        del call
        gc.collect()
        assert device.bytes_taken == before


def test_memory_is_taken_once(tmp_path):
    device = HostDevice()
    with opened(tmp_path, decoder(), SIZES, device) as engine:
        call = engine.bind(decoder_inputs(3, 2), bound.outputs_for(5))
        engine.run(decoder_inputs(3, 2))
        taken = device.log.count("allocate")
        for past in range(5):
            call.run()
            engine.run(decoder_inputs(past, 3))
        assert device.log.count("allocate") == taken


@pytest.mark.medium
def test_no_memory_left_has_its_own_name_and_leaves_nothing(tmp_path):
    device = HostDevice(most_bytes=600)
    with opened(tmp_path, decoder(), SIZES, device) as engine:
        with pytest.raises(DeviceMemoryExhausted):
            engine.run(decoder_inputs(3, 2))
        gc.collect()
        assert device.bytes_taken == 0
    assert isinstance(
        trt_module.refused(scripted_tensorrt(device), "it", else_="CUDA: out of memory"),
        DeviceMemoryExhausted,
    )


# A state that goes around: it stays on the device.


@pytest.mark.parametrize("in_place", [(), (("state_out", "state"),)])
def test_a_state_goes_around_on_the_device(tmp_path, in_place):
    state, summary = random_array(0, 1, DIM), random_array(1, 1, DIM)
    scores, first = np.zeros((1, 2), "f4"), state.copy()
    with opened(tmp_path, gate(), in_place=in_place) as engine, ort_engine(tmp_path) as other:
        expected = {"state_out": first}
        call = engine.bind(
            {"summary": summary, "state": state}, {"scores": scores, "state_out": state}
        )
        for _ in range(7):
            call.run()
            expected = other.run({"summary": summary, "state": expected["state_out"]})
            assert scores.tobytes() == expected["scores"].tobytes()
            assert state.tobytes() == first.tobytes(), "the host's is as old as the last pull"
        mirror_of(call).pull()
        assert state.tobytes() == expected["state_out"].tobytes()
        state[...] = first
        mirror_of(call).push()
        call.run()
        again = other.run({"summary": summary, "state": first})
        assert scores.tobytes() == again["scores"].tobytes()
        with pytest.raises(InputMismatch, match="the cache where it was bound"):
            call.run({"state": first.copy()})


# Recorded runs.


def test_fixed_shapes_are_recorded_at_the_second_run_and_launched_then(tmp_path):
    device = HostDevice()
    with opened(tmp_path, gate(), device=device) as engine, ort_engine(tmp_path) as other:
        for seed in range(5):
            inputs = {"summary": random_array(seed, 1, DIM), "state": random_array(9, 1, DIM)}
            got, expected = engine.run(inputs), other.run(inputs)
            assert got["scores"].tobytes() == expected["scores"].tobytes()
        assert device.log.count("begin_recording") == 1 and device.log.count("launch") == 4
        assert engine.graph_refusals == ()


def test_a_driver_that_cannot_record_loses_time_alone(tmp_path):
    device = HostDevice()
    device.refuses_to_record = True
    with opened(tmp_path, gate(), device=device) as engine, ort_engine(tmp_path) as other:
        for seed in range(4):
            inputs = {"summary": random_array(seed, 1, DIM), "state": random_array(9, 1, DIM)}
            got, expected = engine.run(inputs), other.run(inputs)
            assert got["scores"].tobytes() == expected["scores"].tobytes()
        assert device.log.count("begin_recording") == 1 and not device.graphs
        assert engine.graph_refusals == ("this driver cannot record",)


def test_free_shapes_are_not_recorded(tmp_path):
    device = HostDevice()
    with opened(tmp_path, decoder(), SIZES, device) as engine:
        for _ in range(3):
            engine.run(decoder_inputs(3, 2))
        assert "begin_recording" not in device.log


def test_frames_go_before_words(tmp_path):
    """The stream of a decoder waits for those of the other parts."""
    device = HostDevice()
    for content, sizes in ((decoder(), SIZES), (gate(), None)):
        opened(tmp_path, content, sizes, device)
    assert list(device.streams.values()) == [False, True]


# Phases.


def test_a_run_takes_the_first_phase_that_was_made_for_its_sizes(tmp_path):
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(decoder())
    word = {**SIZES, "tokens": [1, 1, 1]}
    phases = [
        {"name": "decode", "file": "graph.onnx", "sizes": word},
        {"name": "append", "file": "graph.onnx", "sizes": {**SIZES, "tokens": [2, 4, 4]}},
    ]
    device = HostDevice()
    with (
        backend(tmp_path, device).open(graph, variant_of(graph, phases=phases)) as engine,
        ort_engine(tmp_path) as other,
    ):
        for tokens in (1, 2, 4):
            inputs = decoder_inputs(5, tokens)
            assert engine.run(inputs)["logits"].tobytes() == other.run(inputs)["logits"].tobytes()
        chosen = [
            engine.phase_of({n: a.shape for n, a in decoder_inputs(5, tokens).items()})
            for tokens in (1, 2, 4)
        ]
        assert chosen[0] is not chosen[1] and chosen[1] is chosen[2]
        with pytest.raises(InputMismatch, match=r"inputs_embeds \[1, 5, 8\]"):
            engine.run(decoder_inputs(5, 5))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"phases": [{"name": "decode"}]}, "a phase cannot be read"),
        ({"phases": [{"file": "../graph.onnx"}]}, "no file of the bundle"),
        ({"phases": [{"file": "other.onnx"}]}, "there is no other.onnx"),
        ({"data": ["weights.bin"]}, "there is no weights.bin"),
        ({"sizes": {"tokens": [3, 2, 1]}}, "3, 2, 1 is no range"),
        ({"sizes": {"tokens": [1, 2, 9]}}, "the size '(past|total)' of .* has no range"),
    ],
)
def test_phases_that_make_no_sense_are_refused(tmp_path, extra, words):
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(decoder())
    with pytest.raises(EngineUnusable, match=words):
        backend(tmp_path).open(graph, variant_of(graph, **extra))


# Compiled engines.


def built_of(folder, **how):
    made = backend(folder, **how)
    graph = folder / "graph.onnx"
    graph.write_bytes(gate())
    return made, graph, variant_of(graph, provider=made.provider)


def test_an_engine_is_compiled_once_and_kept(tmp_path):
    made, graph, variant = built_of(tmp_path)
    made.open(graph, variant).__exit__(None, None, None)
    (kept,) = made.cache.entries()
    assert kept.name.startswith("graph-sm86-")
    del made._trt.Builder  # whoever opens it again needs none
    made.open(graph, variant).__exit__(None, None, None)
    graph.write_bytes(vision_like())
    with pytest.raises(EngineUnusable, match="got no compiled engine of graph"):
        made.open(graph, variant_of(graph))


def vision_like():
    tensors = [("x", "float32", [1, DIM])], [("y", "float32", [1, DIM])]
    return model([node("Relu", ["x"], ["y"])], *tensors)


def test_what_was_kept_and_cannot_be_loaded_is_compiled_anew(tmp_path):
    made, graph, variant = built_of(tmp_path)
    made.open(graph, variant).__exit__(None, None, None)
    (kept,) = made.cache.entries()
    key = engine_key(graph, (), {}, made._trt, "sm86")
    made.cache.publish(key, b"a plan of another driver")
    with made.open(graph, variant) as engine:
        assert engine.run({"summary": np.ones((1, DIM), "f4"), "state": np.ones((1, DIM), "f4")})
    assert list(made.cache.entries()) == [kept] and made.cache.find(key)[:1].tobytes() == b"{"


def test_one_that_only_runs_says_where_engines_are_made(tmp_path):
    made, graph, variant = built_of(tmp_path, provider="tensorrt-rtx", builds=False)
    with pytest.raises(EngineUnusable, match="which cannot compile one") as fault:
        made.open(graph, variant)
    assert "--target tensorrt-rtx --engines DIR" in fault.value.hint


def test_a_disk_that_is_full_costs_the_next_start_alone(tmp_path):
    made, graph, variant = built_of(tmp_path)
    (tmp_path / "engines").write_text("a file where the folder should be")
    with made.open(graph, variant) as engine:
        assert engine.inputs


def test_a_target_that_the_module_has_not(tmp_path):
    device = HostDevice()
    device.target = "sm90"
    made, graph, variant = built_of(tmp_path, device=device, provider="tensorrt-rtx")
    with pytest.raises(EngineUnusable, match="has no target sm90"):
        made.open(graph, variant)


def test_a_graph_that_cannot_be_read_names_its_node(tmp_path):
    made, graph, variant = built_of(tmp_path)
    graph.write_bytes(gate()[:-20])
    with pytest.raises(EngineUnusable, match=r"cannot be compiled: node 3 \(Mystery\): "):
        made.open(graph, variant)
    unbuildable = model(
        [node("Relu", ["Unbuildable"], ["y"])],
        [("Unbuildable", "float32", [1, DIM])],
        [("y", "float32", [1, DIM])],
    )
    graph.write_bytes(unbuildable)
    with pytest.raises(EngineUnusable, match="no implementation for node Unbuildable"):
        made.open(graph, variant_of(graph))


def test_the_graph_must_be_the_one_the_manifest_describes(tmp_path):
    made, graph, variant = built_of(tmp_path)
    graph.write_bytes(vision_like())
    with pytest.raises(EngineUnusable, match="as the manifest says"):
        made.open(graph, variant)


@pytest.mark.parametrize(
    ("provider", "extra"), [("tensorrt", "[tensorrt]"), ("tensorrt-rtx", "[rtx]")]
)
def test_a_module_that_is_not_there_is_named(monkeypatch, provider, extra):
    monkeypatch.setitem(sys.modules, trt_module.MODULES[provider], None)
    with pytest.raises(BackendMissing, match="cannot be imported") as fault:
        backend_for(provider)
    assert extra in fault.value.hint


def test_the_last_words_of_the_log_are_told(tmp_path):
    with opened(tmp_path, gate()) as engine:
        engine.trt.fault = "Error Code 1: Cuda Runtime\n  (an illegal memory access)"
        with pytest.raises(EngineFailed, match=r"broke off: Error .* \(an illegal memory access\)"):
            engine.run({"summary": np.ones((1, DIM), "f4"), "state": np.ones((1, DIM), "f4")})
