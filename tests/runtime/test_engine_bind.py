"""Bound calls: the bits of an unbound run, in arrays that stay where they are."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineFailed, EngineUnusable, InputMismatch

from ..bundles import DIM, HEAD, VOCABULARY, decoder, decoder_inputs, gate, random_array
from ..onnx_graphs import model, node


def opened(folder, content):
    (folder / "graph.onnx").write_bytes(content)
    return OrtBackend().open(folder / "graph.onnx")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("bind"), decoder()) as engine:
        yield engine


def outputs_for(total):
    return {
        "logits": np.zeros((1, 1, VOCABULARY), "f4"),
        "present.0.key": np.zeros((1, 1, total, HEAD), "f4"),
        "present.0.value": np.zeros((1, 1, total, HEAD), "f4"),
    }


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_it_gives_the_bits_of_an_unbound_run(engine, past, tokens, seed):
    inputs, outputs = decoder_inputs(past, tokens, seed), outputs_for(past + tokens)
    engine.bind(inputs, outputs).run()
    for name, expected in engine.run(inputs).items():
        assert outputs[name].tobytes() == expected.tobytes()


def test_a_replaced_input_stays_bound_and_may_have_another_length(engine):
    inputs, outputs = decoder_inputs(6, 2), outputs_for(8)
    call = engine.bind(inputs, outputs)
    other = decoder_inputs(5, 3, seed=9)
    for changed in (other, {}, {"inputs_embeds": inputs["inputs_embeds"][:, :1]}):
        if changed is not other and changed:
            changed = {**changed, **{n: a for n, a in decoder_inputs(7, 1).items() if "past" in n}}
        call.run(changed)
        inputs = {**inputs, **changed}
        assert outputs["logits"].tobytes() == engine.run(inputs)["logits"].tobytes()


def test_a_state_goes_around_in_place(tmp_path):
    """The same array as input and output, as a cache is."""
    state, summary = random_array(0, 1, DIM), random_array(1, 1, DIM)
    scores = np.zeros((1, 2), "f4")
    with opened(tmp_path, gate()) as engine:
        expected = {"state_out": state.copy()}
        call = engine.bind(
            {"summary": summary, "state": state}, {"scores": scores, "state_out": state}
        )
        for _ in range(5):
            call.run()
            expected = engine.run({"summary": summary, "state": expected["state_out"]})
            assert state.tobytes() == expected["state_out"].tobytes()
            assert scores.tobytes() == expected["scores"].tobytes()


@pytest.mark.medium
def test_nothing_is_copied_and_no_array_is_made(tmp_path):
    size = 1 << 16
    content = model(
        [node("Add", ["a", "b"], ["c"])],
        [("a", "float32", ["n"]), ("b", "float32", ["n"])],
        [("c", "float32", ["n"])],
    )
    a, b, c = np.zeros(size, "f4"), np.ones(size, "f4"), np.zeros(size, "f4")
    with opened(tmp_path, content) as engine:
        call = engine.bind({"a": a, "b": b}, {"c": c})
        call.run()
        gc.collect()
        tracemalloc.start()
        for step in range(200):
            a[:] = step  # the call reads our memory, not a copy of it
            call.run({"b": b})
            assert c[0] == c[-1] == step + 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < a.nbytes / 8


@pytest.mark.medium
def test_bound_arrays_live_as_long_as_the_call(engine):
    """ONNX Runtime knows their addresses alone."""
    inputs, outputs = decoder_inputs(3, 2), outputs_for(5)
    other = np.ones((1, 2, DIM), "f4")
    watched = [weakref.ref(inputs["attention_mask"]), weakref.ref(outputs["logits"])]
    watched.append(weakref.ref(other))
    call = engine.bind(inputs, outputs)
    call.run({"inputs_embeds": other})
    del inputs, outputs, other
    gc.collect()
    assert all(array() is not None for array in watched)
    call.run()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs_embeds": None}, "got the inputs attention_mask, past"),
        ({"extra": np.zeros(1)}, "got the inputs attention_mask, extra"),
        ({"inputs_embeds": np.zeros((1, 2, DIM))}, "inputs_embeds: got float64"),
        ({"inputs_embeds": np.zeros((1, 2, 9), "f4")}, r"got float32 \[1, 2, 9\], expected"),
        ({"inputs_embeds": np.zeros((2, DIM), "f4")}, r"got float32 \[2, 8\]"),
        ({"inputs_embeds": np.zeros((1, 2, 2 * DIM), "f4")[:, :, ::2]}, "in one piece"),
    ],
)
def test_an_input_that_cannot_be_bound_is_named(engine, changes, words):
    inputs = {**decoder_inputs(3, 2), **changes}
    inputs = {name: array for name, array in inputs.items() if array is not None}
    with pytest.raises(InputMismatch, match=words):
        engine.bind(inputs, outputs_for(5))
    if len(inputs) == 4:
        call = engine.bind(decoder_inputs(3, 2), outputs_for(5))
        with pytest.raises(InputMismatch, match=words):
            call.run(changes)


def test_an_output_that_cannot_be_bound_is_named(engine):
    outputs, fixed = outputs_for(5), np.zeros((1, 1, VOCABULARY), "f4")
    fixed.flags.writeable = False
    cases = [
        ({"logits": np.zeros((1, 2, VOCABULARY), "f4")}, "output logits: got float32"),
        ({"logits": fixed}, "read-only"),
        ({"more": fixed}, "got the outputs"),
    ]
    for changes, words in cases:
        with pytest.raises(InputMismatch, match=words):
            engine.bind(decoder_inputs(3, 2), {**outputs, **changes})


def test_an_unknown_name_at_a_run_is_refused(engine):
    call = engine.bind(decoder_inputs(3, 2), outputs_for(5))
    with pytest.raises(InputMismatch, match="got the input logits"):
        call.run({"logits": np.zeros((1, 1, VOCABULARY), "f4")})


def test_what_breaks_inside_is_ours_and_it_can_run_again(engine):
    outputs = outputs_for(5)
    call = engine.bind(decoder_inputs(3, 2), outputs)
    with pytest.raises(EngineFailed, match=r"graph\.onnx broke off: "):
        call.run({"attention_mask": np.ones((1, 4), np.int64)})  # 5 tokens in all
    call.run({"attention_mask": np.ones((1, 5), np.int64)})
    expected = engine.run(decoder_inputs(3, 2))["logits"]
    assert outputs["logits"].tobytes() == expected.tobytes()


def test_after_its_engine_was_closed_it_does_not_run(tmp_path):
    with opened(tmp_path, decoder()) as engine:
        call = engine.bind(decoder_inputs(3, 2), outputs_for(5))
    with pytest.raises(EngineFailed, match="closed"):
        call.run()
    with pytest.raises(EngineFailed, match="closed"):
        engine.bind(decoder_inputs(3, 2), outputs_for(5))


def test_an_engine_with_memory_of_its_own_says_so(tmp_path):
    with opened(tmp_path, decoder()) as engine:
        engine.provider = "cuda"
        with pytest.raises(EngineUnusable, match="cuda has memory of its own"):
            engine.bind(decoder_inputs(3, 2), outputs_for(5))
