"""A language model whose cache stays where its engine runs: the same words as with numpy arrays."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import ContextTooSmall, EngineUnusable, InputMismatch
from edgestream.runtime.held_block import HeldBlock
from edgestream.runtime.language_model import LanguageModel

pytest.importorskip("onnxruntime_genai", reason="decoders are made by the export side")
pytest.importorskip("onnx", reason="graphs are made by the export side")

import onnx

from edgestream.export.cuda_decoder import write_cuda_decoder
from edgestream.export.cuda_evict import cuda_evict_graph

from ..tiny_decoder import random_embeds, tiny_decoder


class OpenLane:
    @contextlib.contextmanager
    def speak(self):
        yield


class Pair:
    """The decoder of the CPU with numpy arrays, and its twin for CUDA with held ones."""

    def __init__(self, tiny, dtype):
        folder, shape = tiny.graph.parent, tiny.shape
        graph, evict = folder / f"{dtype}.onnx", folder / f"evict.{dtype}.onnx"
        write_cuda_decoder(tiny.graph, graph, dtype)
        onnx.save(cuda_evict_graph(shape.kv_heads, shape.head_dim, dtype), str(evict))
        self.tiny, self.engine = tiny, OrtBackend().open(graph)
        self.turn, self.host_engine = OrtBackend().open(evict), tiny.engine()

    def host(self):
        arena = Arena(self.tiny.shape, self.tiny.positions, turn=None)
        return LanguageModel(self.host_engine, arena, self.tiny.rows, OpenLane())

    def held(self):
        block = HeldBlock(self.tiny.shape, self.tiny.positions, self.turn)
        arena = Arena(self.tiny.shape, self.tiny.positions, dtype=block.dtype, block=block)
        return LanguageModel(self.engine, arena, self.tiny.rows, OpenLane())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_decoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pair(tiny):
    return Pair(tiny, "float32")


def assert_same(host, held, atol=2e-5):
    one, other = host.arena, held.arena
    assert (one.length, one.next_position) == (other.length, other.next_position)
    np.testing.assert_array_equal(one.positions, other.positions)
    for name, view in one.tensors().items():
        found = other.tensors()[name].read()
        np.testing.assert_allclose(found, view, atol=atol)
        assert not found[:, :, other.length :].any(), "beyond its length a cache is zero"


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 40)),
    st.tuples(st.just("step"), st.integers(0, 30)),
    st.tuples(st.just("evict"), st.integers(0, 9)),
    st.tuples(st.just("branch"), st.integers(1, 20)),
    st.tuples(st.just("restore"), st.just(0)),
    st.tuples(st.just("reset"), st.just(0)),
)


@pytest.mark.medium
@settings(deadline=None, max_examples=12)
@given(st.lists(STEPS, min_size=1, max_size=6), st.integers(0, 99))
def test_whatever_is_done_to_both_they_say_the_same(pair, steps, seed):
    host, held = pair.host(), pair.held()
    random = np.random.default_rng(seed)
    for kind, number in steps:
        answers = []
        embeds = random_embeds(seed + number, max(number, 1), pair.tiny.hidden)
        keep = np.flatnonzero(random.random(host.arena.length) < 0.6)
        for model in (host, held):
            if kind == "append":
                answers.append(model.append(embeds).copy())
            elif kind == "step":
                answers.append(model.step(number).copy())
            elif kind == "evict":
                model.evict(keep)
            elif kind == "branch":
                mark = model.arena.mark()
                answers.append(model.append(embeds).copy())
                model.arena.rewind(mark)
            elif kind == "restore":
                model.arena.restore(model.arena.snapshot())
            else:
                model.arena.reset()
        if answers:
            np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
        assert_same(host, held)


def test_of_float16_it_says_nearly_the_same_across_an_eviction(tiny):
    pair = Pair(tiny, "float16")
    host, held = pair.host(), pair.held()
    assert held.arena.dtype == "float16" and held.arena.n_bytes < host.arena.n_bytes
    errors, same = [], []
    for turn in range(3):
        embeds = random_embeds(turn, 50, tiny.hidden)
        for model in (host, held):
            if turn:
                model.evict(np.r_[0:8, 30 : model.arena.length])
        pairs = [(host.append(embeds).copy(), held.append(embeds).copy())]
        pairs += [(host.step(token).copy(), held.step(token).copy()) for token in range(20)]
        errors += [np.abs(one - other).max() / max(1, one.std()) for one, other in pairs]
        same += [one.argmax() == other.argmax() for one, other in pairs]
    assert max(errors) <= 2e-2 and np.mean(same) >= 0.95  # random weights: nearly all are ties


def test_a_full_cache_is_refused_before_anything_runs(pair):
    held = pair.held()
    held.append(random_embeds(0, 250, pair.tiny.hidden))
    before = held.arena.tensors()["0.key"].read()
    with pytest.raises(ContextTooSmall):
        held.append(random_embeds(1, 7, pair.tiny.hidden))
    np.testing.assert_array_equal(held.arena.tensors()["0.key"].read(), before)


def test_graphs_that_do_not_belong_together_are_refused(pair):
    tiny = pair.tiny
    with pytest.raises(EngineUnusable, match="evict graph takes cos, delta"):
        HeldBlock(tiny.shape, tiny.positions, tiny.turn())
    held = pair.held()
    with pytest.raises(EngineUnusable, match="seqlens_k"):  # the CPU's decoder reads a mask
        held.replace_engine(pair.host_engine)
    assert held.append(random_embeds(0, 3, tiny.hidden)) is not None  # the old one goes on
    with pytest.raises(EngineUnusable, match="cache of int8, expected float32"):
        held.arena.block.like("int8")
    with pytest.raises(InputMismatch, match="to write, expected float32"):
        held.arena.tensors()["0.key"].write(np.zeros(3, np.float32))


def test_from_held_to_numpy_and_back_the_cache_begins_anew(pair):
    held = pair.held()
    held.append(random_embeds(0, 3, pair.tiny.hidden))
    host = Arena(pair.tiny.shape, pair.tiny.positions)
    assert not held.replace_engine(pair.host_engine, host)
    assert held.arena is host and held.arena.length == 0
    expected = pair.host().append(random_embeds(2, 5, pair.tiny.hidden))
    np.testing.assert_array_equal(held.append(random_embeds(2, 5, pair.tiny.hidden)), expected)
