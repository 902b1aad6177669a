"""A decoder whose cache lives on a device says what it says on the computer's own memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines import trt_module
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.engines.trt import TrtBackend
from edgestream.runtime.errors import ContextTooSmall, EngineError, EngineFailed, InputMismatch
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.token_rows import TokenRows

from ..onnx_graphs import model, node
from ..scripted_tensorrt import HostDevice, scripted_tensorrt, variant_of

CAPACITY, DIM, HEAD, VOCABULARY = 24, 8, 4, 16
CACHE = [1, 1, CAPACITY, HEAD]
SHAPE, ONE_AXIS = CacheShape(1, 1, HEAD, CAPACITY), Positions(1, 10_000.0)
SIZES = {"tokens": [1, 4, 4]}
IN_PLACE = (("present.", "past_key_values."),)


def random_array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def static_decoder():
    """A decoder with a cache of one length: new keys go behind the ones that the mask names."""
    nodes = [
        node("ReduceSum", ["attention_mask"], ["total"], keepdims=0),
        node("Shape", ["inputs_embeds"], ["sizes"]),
        node("Gather", ["sizes", "1"], ["count"], axis=0),
        node("Sub", ["total", "count"], ["first"]),
        node("Range", ["first", "total", "1"], ["slots"]),
        node("Unsqueeze", ["slots", "axis"], ["places"]),
        node("Cast", ["attention_mask"], ["mask"], to=1),
        node("Reshape", ["mask", "column"], ["mask_column"]),
    ]
    for name in ("key", "value"):
        nodes += [
            node("MatMul", ["inputs_embeds", f"weight_{name}"], [f"new_{name}"]),
            node("Reshape", [f"new_{name}", "rows"], [f"rows_{name}"]),
            node("Reshape", [f"past_key_values.0.{name}", "flat"], [f"flat_{name}"]),
            node("ScatterND", [f"flat_{name}", "places", f"rows_{name}"], [f"whole_{name}"]),
            node("Reshape", [f"whole_{name}", "cache"], [f"present.0.{name}"]),
        ]
    nodes += [
        node("Mul", ["present.0.key", "present.0.value"], ["products"]),
        node("Mul", ["products", "mask_column"], ["masked"]),
        node("ReduceMean", ["masked"], ["mean"], axes=[2], keepdims=0),
        node("MatMul", ["mean", "weight_out"], ["logits"]),
    ]
    past = [(f"past_key_values.0.{name}", "float32", CACHE) for name in ("key", "value")]
    present = [(f"present.0.{name}", "float32", CACHE) for name in ("key", "value")]
    return model(
        nodes,
        [
            ("inputs_embeds", "float32", [1, "tokens", DIM]),
            ("attention_mask", "int64", [1, CAPACITY]),
            *past,
        ],
        [("logits", "float32", [1, 1, VOCABULARY]), *present],
        {
            "1": np.array(1),
            "axis": np.array([1]),
            "flat": np.array([CAPACITY, HEAD]),
            "rows": np.array([-1, HEAD]),
            "cache": np.array(CACHE),
            "column": np.array([1, 1, CAPACITY, 1]),
            "weight_key": random_array(4, DIM, HEAD),
            "weight_value": random_array(5, DIM, HEAD),
            "weight_out": random_array(6, HEAD, VOCABULARY),
        },
    )


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    path = tmp_path_factory.mktemp("static") / "decoder.onnx"
    path.write_bytes(static_decoder())
    return path


@pytest.fixture(autouse=True)
def own_logs(monkeypatch):
    monkeypatch.setattr(trt_module, "_LOGS", {})


def language_model(engine):
    rows = TokenRows(random_array(11, VOCABULARY, DIM))
    return LanguageModel(engine, Arena(SHAPE, ONE_AXIS), rows, OpenLane(), chunk_tokens=4)


def on_host(graph):
    return language_model(OrtBackend().open(graph))


def on_device(graph, in_place=IN_PLACE, device=None):
    device = device or HostDevice()
    trt = scripted_tensorrt(device, in_place=in_place)
    backend = TrtBackend("tensorrt", graph.parent / "engines", trt=trt, device=device)
    engine = backend.open(graph, variant_of(graph, SIZES))
    return language_model(engine), engine, device


def whole(arena):
    """All that an arena holds; of one on a device, brought back first."""
    state = arena.snapshot()
    return state.values.tobytes(), state.positions.tobytes(), arena.length


def act(lm, action, number):
    """One step of a stream; what it says, or the kind of its fault."""
    arena = lm.arena
    try:
        if action == "append":
            return lm.append(random_array(number, 1 + number % 7, DIM)).tobytes()
        if action == "step":
            return lm.step(number % VOCABULARY).tobytes()
        if action == "evict":
            kept = np.random.default_rng(number).random(arena.length) < 0.6
            lm.evict(np.flatnonzero(kept))
        elif action == "branch":
            mark = arena.mark()
            said = lm.append(random_array(number, 2, DIM)).tobytes()
            arena.rewind(mark)
            return said
        elif action == "bad":
            lm.append(np.full((2, DIM), np.nan, np.float32))
        elif action == "again":
            state = arena.snapshot()
            arena.reset()
            arena.restore(state)
        else:
            arena.reset()
    except (EngineError, ContextTooSmall) as fault:
        return type(fault)
    return arena.length


ACTIONS = ("append", "step", "evict", "branch", "bad", "again", "reset")


@pytest.mark.medium
@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 99)), max_size=25))
@pytest.mark.parametrize("in_place", [IN_PLACE, ()])
def test_a_stream_says_the_same_bits(graph, in_place, steps):
    host, (device, engine, _) = on_host(graph), on_device(graph, in_place)
    for action, number in (*steps, ("step", 3)):
        assert act(device, action, number) == act(host, action, number), action
    assert whole(device.arena) == whole(host.arena)
    engine.__exit__(None, None, None)


@pytest.mark.parametrize("in_place", [IN_PLACE, ()])
def test_slots_that_are_let_go_are_zero_on_the_device_too(graph, in_place):
    """A NaN in a slot that a mask hides is still a NaN in the sum."""
    device, engine, _ = on_device(graph, in_place)
    device.append(random_array(0, 5, DIM))
    mark = device.arena.mark()
    device.append(random_array(1, 9, DIM))
    device.arena.rewind(mark)
    call = device.arena.mirror
    call.pull()
    for array in call._resident.values():
        assert np.all(array[0, 0, 5:] == 0) and np.any(array[0, 0, :5])
    engine.__exit__(None, None, None)


def test_a_word_is_launched_and_copies_no_cache(graph):
    device, engine, gpu = on_device(graph)
    device.append(random_array(0, 4, DIM))
    for token in range(3):
        device.step(token)
    gpu.log.clear()
    device.step(1)
    assert gpu.log.count("write") == 2, "embeds and mask"
    assert gpu.log.count("read") == 1, "logits"
    engine.__exit__(None, None, None)


def test_the_next_rung_takes_the_cache_along(graph):
    device, engine, _ = on_device(graph)
    host = on_host(graph)
    for lm in (device, host):
        lm.append(random_array(0, 5, DIM))
    assert device.replace_engine(OrtBackend().open(graph))
    engine.__exit__(None, None, None)
    assert device.arena.mirror is None
    assert device.step(3).tobytes() == host.step(3).tobytes()
    back, engine, _ = on_device(graph)  # and up again: bound anew, it is brought there
    assert device.replace_engine(engine) and back is not device
    assert device.step(4).tobytes() == host.step(4).tobytes()
    engine.__exit__(None, None, None)


def test_a_device_that_is_gone_takes_its_cache_along(graph):
    device, _engine, gpu = on_device(graph)
    device.append(random_array(0, 5, DIM))
    gpu.is_gone = True
    with pytest.raises(EngineFailed, match="the GPU is lost"):
        device.step(1)
    assert not device.replace_engine(OrtBackend().open(graph))
    assert device.arena.length == 0 and device.arena.mirror is None
    host = on_host(graph)
    again = [lm.append(random_array(2, 3, DIM)).tobytes() for lm in (device, host)]
    assert again[0] == again[1]


def test_an_eviction_on_a_device_that_is_gone_empties_the_arena(graph):
    device, _, gpu = on_device(graph)
    device.append(random_array(0, 9, DIM))
    gpu.is_gone = True
    with pytest.raises(EngineFailed):
        device.evict(np.arange(3, 9))
    assert device.arena.length == 0


def test_an_engine_that_cannot_be_bound_leaves_the_old_one_at_work(graph):
    device, engine, _ = on_device(graph)
    host = on_host(graph)
    for lm in (device, host):
        lm.append(random_array(0, 5, DIM))

    class Unbound:
        inputs, outputs = engine.inputs, engine.outputs

        def bind(self, inputs, outputs):
            raise InputMismatch("another shape")

    with pytest.raises(InputMismatch):
        device.replace_engine(Unbound())
    assert device.arena.mirror is not None
    assert device.step(3).tobytes() == host.step(3).tobytes()
    engine.__exit__(None, None, None)
