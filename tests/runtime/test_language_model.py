"""The language model: like PyTorch over the kept tokens, all or nothing, no copies."""

from __future__ import annotations

import contextlib
import gc
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import (
    ContextTooSmall,
    EngineFailed,
    EngineNotFinite,
    EngineUnusable,
    InputMismatch,
)
from edgestream.runtime.language_model import LanguageModel

pytest.importorskip("onnxruntime_genai", reason="decoders are made by the export side")

from ..tiny_decoder import CAPACITY, as_float16_cache, random_embeds, tiny_decoder
from ..torch_reference import TorchReference

FRAME, PREFIX, RECENT = 10, 16, 90


class CountingLane:
    """Lets everybody in, and counts."""

    def __init__(self):
        self.holds = 0

    @contextlib.contextmanager
    def speak(self):
        self.holds += 1
        yield


class Tampered:
    """An engine whose bound calls pass by a function: before(run number) and after(outputs)."""

    def __init__(self, engine, before=lambda run: None, after=lambda outputs: None):
        self.engine, self.before, self.after, self.runs = engine, before, after, 0
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def bind(self, inputs, outputs):
        self.call, self.bound = self.engine.bind(inputs, outputs), outputs
        return self

    def run(self, inputs):
        self.runs += 1
        self.before(self.runs)
        self.call.run(inputs)
        self.after(self.bound)


class Unbindable(Tampered):
    def bind(self, inputs, outputs):
        raise EngineUnusable("it cannot be bound")


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads wait by spinning, which costs more than these small products gain."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_decoder(tmp_path_factory.mktemp("tiny"))


def language_model(tiny, *, engine=None, turn=True, dtype="float32", chunk_tokens=16):
    arena = Arena(tiny.shape, tiny.positions, dtype=dtype, turn=tiny.turn() if turn else None)
    engine = tiny.engine() if engine is None else engine
    return LanguageModel(engine, arena, tiny.rows, CountingLane(), chunk_tokens=chunk_tokens)


def bits(model):
    return b"".join(view.tobytes() for view in model.arena.tensors().values())


def assert_zero_beyond(arena):
    for view in arena.tensors().values():
        assert not view[:, :, arena.length :].any()
    assert not arena.positions[:, arena.length :].any()


def kept_by_chance(random, length):
    middle = random.choice(np.arange(PREFIX, length - RECENT), 48, replace=False)
    return np.concatenate([np.arange(PREFIX), np.sort(middle), np.arange(length - RECENT, length)])


def stream_errors(model, reference, frames, seed=0, answer_every=5, move=None):
    """Largest error, whether every best token is the same, and how often slots were evicted."""
    random, evictions, worst, agree = np.random.default_rng(seed), 0, 0.0, True
    hidden = model.rows([0]).shape[1]
    first = random_embeds(seed, PREFIX, hidden)
    model.append(first), reference.append(first)
    for frame in range(frames):
        if model.arena.length + FRAME + 3 > CAPACITY:
            keep = kept_by_chance(random, model.arena.length)
            (move or model.arena.evict)(keep)
            reference.keep(keep)
            evictions += 1
        embeds = random_embeds(1000 + frame, FRAME, hidden)
        pairs = [(model.append(embeds).copy(), reference.append(embeds))]
        if answer_every and frame % answer_every == 0:
            for token in random.integers(0, 200, 3):
                row = model.rows([int(token)])
                pairs.append((model.step(int(token)).copy(), reference.append(row)))
        for got, expected in pairs:
            worst = max(worst, float(np.abs(got - expected).max()))
            agree &= bool(got.argmax() == expected.argmax())
    return worst, agree, evictions


def test_the_reference_is_what_transformers_computes(tiny):
    import torch

    embeds = random_embeds(3, 40, tiny.hidden)
    with torch.inference_mode():
        expected = tiny.model(inputs_embeds=torch.from_numpy(embeds[None])).logits[0, -1].numpy()
    np.testing.assert_allclose(TorchReference(tiny.model).append(embeds), expected, atol=2e-5)


@pytest.mark.medium
@pytest.mark.parametrize("turn", [True, False], ids=["evict graph", "numpy"])
def test_eviction_leaves_what_pytorch_computes_over_exactly_the_kept_tokens(tiny, turn):
    model = language_model(tiny, turn=turn)
    size = model.arena.n_bytes
    worst, agree, evictions = stream_errors(model, TorchReference(tiny.model), frames=210)
    assert evictions >= 18 and 210 * FRAME >= 2000
    assert worst <= 1e-4 and agree
    assert model.arena.n_bytes == size
    assert_zero_beyond(model.arena)


def test_without_turning_the_keys_it_would_be_far_off(tiny):
    """The control: the test above has the power to see it."""
    model = language_model(tiny)

    def move_only(keep):
        state = model.arena.snapshot()
        model.arena.reset()
        moved = type(state)(state.values[:, :, :, keep], np.arange(len(keep))[None])
        model.arena.restore(moved)

    worst, _, _ = stream_errors(model, TorchReference(tiny.model), frames=30, move=move_only)
    assert worst > 1e-1


@pytest.mark.medium
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_chunking_is_one_prefill(tiny, data):
    count = data.draw(st.integers(1, 100))
    cuts = sorted(data.draw(st.sets(st.integers(1, count))) | {0, count})
    embeds = random_embeds(count, count, tiny.hidden)
    chunked = language_model(tiny, chunk_tokens=data.draw(st.integers(1, 40)))
    whole = language_model(tiny, chunk_tokens=100)
    for first, last in itertools.pairwise(cuts):
        got = chunked.append(embeds[first:last])
    np.testing.assert_allclose(got, whole.append(embeds), atol=1e-4)
    for one, other in zip(
        chunked.arena.tensors().values(), whole.arena.tensors().values(), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_lane_is_held_for_one_chunk_at_a_time(tiny):
    model = language_model(tiny, chunk_tokens=16)
    model.append(random_embeds(0, 40, tiny.hidden))
    assert model._lane.holds == 3
    model.step(7)
    assert model._lane.holds == 4


def test_a_bound_run_gives_the_bits_of_an_unbound_one(tiny):
    """The unbound one has its past as an input of the very length, and gets a new present."""
    model, engine = language_model(tiny), tiny.engine()
    embeds = random_embeds(5, 12, tiny.hidden)
    cache = {
        spec.name: np.zeros((1, tiny.shape.kv_heads, 0, tiny.shape.head_dim), "f4")
        for spec in engine.inputs
        if spec.name.startswith("past_key_values.")
    }
    length = 0
    for part in (embeds, model.rows([3]), model.rows([9])):
        length += len(part)
        mask = np.ones((1, length), np.int64)
        out = engine.run({"inputs_embeds": part[None], "attention_mask": mask, **cache})
        cache = {name: out[name.replace("past_key_values", "present")] for name in cache}
        assert model.append(part).tobytes() == out["logits"].tobytes()
    for name, view in model.arena.tensors().items():
        used = np.ascontiguousarray(view[:, :, :length])
        assert used.tobytes() == cache[f"past_key_values.{name}"].tobytes()


def test_an_answer_on_a_branch_leaves_no_bit_behind(tiny):
    model = language_model(tiny)
    model.append(random_embeds(0, 50, tiny.hidden))
    model.arena.evict(np.r_[0:10, 20:50])
    before, mark = bits(model), model.arena.mark()
    model.append(random_embeds(1, 20, tiny.hidden))
    first = [model.step(token).copy() for token in range(30)]
    model.arena.rewind(mark)
    assert bits(model) == before
    model.append(random_embeds(1, 20, tiny.hidden))
    again = [model.step(token).copy() for token in range(30)]
    assert all((one == other).all() for one, other in zip(first, again, strict=True))


@pytest.mark.medium
def test_a_step_makes_no_array(tiny):
    model = language_model(tiny)
    for token in range(10):
        model.step(token)
    peaks = []
    gc.collect()
    tracemalloc.start()
    for token in range(200):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        model.step(token)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    # A row of embeds alone is 256 bytes, the logits 2000, a mask of 200 tokens 1600.
    assert np.median(peaks) < 2000 and max(peaks) < 4000


def test_what_does_not_fit_is_refused_before_anything_runs(tiny):
    engine = Tampered(tiny.engine())
    model = language_model(tiny, engine=engine)
    model.append(random_embeds(0, CAPACITY - 3, tiny.hidden))
    runs, before = engine.runs, bits(model)
    with pytest.raises(ContextTooSmall, match="got 4 tokens more, expected at most 3") as fault:
        model.append(random_embeds(1, 4, tiny.hidden))
    assert fault.value.exit_code == 2 and engine.runs == runs and bits(model) == before
    model.append(random_embeds(1, 3, tiny.hidden))
    with pytest.raises(ContextTooSmall):
        model.step(1)


def poison(run_to_poison):
    def after(outputs):
        if next(runs) == run_to_poison:
            outputs["logits"][0, 0, 5] = np.inf

    runs = iter(range(1, 100))
    return after


def break_off(run):
    if run == 3:
        raise EngineFailed("decoder broke off: out of luck")


@pytest.mark.parametrize(
    ("engine", "is_poisoned", "kind", "words"),
    [
        (lambda engine: Tampered(engine, after=poison(3)), False, EngineNotFinite, "logits: got"),
        (lambda engine: Tampered(engine, before=break_off), False, EngineFailed, "out of luck"),
        (lambda engine: engine, True, EngineNotFinite, "embeds: got NaN"),
    ],
    ids=["logits", "breaks off", "embeds"],
)
def test_a_fault_in_the_middle_leaves_the_arena_as_it_was(tiny, engine, is_poisoned, kind, words):
    model, plain = language_model(tiny, engine=engine(tiny.engine())), language_model(tiny)
    # The first append is one run, and the second breaks off in its second chunk.
    first, embeds = random_embeds(0, 10, tiny.hidden), random_embeds(1, 60, tiny.hidden)
    model.append(first), plain.append(first)
    before, length = bits(model), model.arena.length
    given = embeds.copy()
    if is_poisoned:
        given[20, 3] = np.nan
    with pytest.raises(kind, match=words) as fault:
        model.append(given)
    assert fault.value.exit_code == 4 and isinstance(fault.value, EngineFailed)
    assert bits(model) == before and model.arena.length == length
    assert (model.append(embeds) == plain.append(embeds)).all(), "usable afterwards"


def test_a_cancelled_append_leaves_nothing(tiny):
    model = language_model(tiny)
    before, polls = bits(model), iter([False, False, True])
    assert model.append(random_embeds(0, 60, tiny.hidden), cancelled=lambda: next(polls)) is None
    assert bits(model) == before and model.arena.length == 0 and model._lane.holds == 2


def test_wrong_embeds_are_refused(tiny):
    model = language_model(tiny)
    for wrong in (np.zeros((2, 63), "f4"), np.zeros((2, 64)), np.zeros(64, "f4")):
        with pytest.raises(InputMismatch, match=r"expected float32 \[tokens, 64\]"):
            model.append(wrong)
    with pytest.raises(ValueError, match="at least one"):
        model.append(np.zeros((0, 64), "f4"))
    with pytest.raises(InputMismatch, match="token id 100000"):
        model.step(100_000)


def test_another_engine_goes_on_where_the_first_one_was(tiny, tmp_path):
    model, plain = language_model(tiny), language_model(tiny)
    embeds = random_embeds(0, 30, tiny.hidden)
    model.append(embeds), plain.append(embeds)
    assert model.replace_engine(tiny.engine())
    assert (model.step(4) == plain.step(4)).all()
    half = OrtBackend().open(as_float16_cache(tiny.graph, tmp_path / "half.onnx"))
    assert not model.replace_engine(half)
    assert model.arena.dtype == "float16" and model.arena.length == 0
    model.append(embeds)
    before = model.arena
    with pytest.raises(EngineUnusable, match="past_key_values"):
        model.replace_engine(tiny.turn())
    with pytest.raises(EngineUnusable, match="cannot be bound"):
        model.replace_engine(Unbindable(tiny.engine()))
    assert model.arena is before, "what is refused changes nothing"
    np.testing.assert_allclose(model.step(4), plain.append(plain.rows([4])), atol=0.2)


@pytest.mark.medium
def test_a_float16_cache_stays_close_over_many_evictions(tiny, tmp_path):
    half = OrtBackend().open(as_float16_cache(tiny.graph, tmp_path / "half.onnx"))
    model = language_model(tiny, engine=half, dtype="float16")
    full = language_model(tiny)
    assert model.arena.n_bytes < full.arena.n_bytes
    worst, _, evictions = stream_errors(model, TorchReference(tiny.model), frames=210)
    assert evictions >= 18 and worst < 5e-3


@pytest.mark.medium
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("float16", 5e-3)])
def test_slots_that_move_one_at_a_time_until_they_are_at_the_front_drift_little(
    tiny, tmp_path, dtype, bound
):
    """The worst case that an arena allows, with a full cache around it."""
    graph = tiny.graph
    if dtype == "float16":
        graph = as_float16_cache(graph, tmp_path / "half.onnx")
    model = language_model(tiny, engine=OrtBackend().open(graph), dtype=dtype, chunk_tokens=64)
    reference = TorchReference(tiny.model)
    first = random_embeds(0, CAPACITY, tiny.hidden)
    model.append(first), reference.append(first)
    keep, worst = np.delete(np.arange(CAPACITY), PREFIX), 0.0
    for token in range(CAPACITY - PREFIX):
        model.arena.evict(keep), reference.keep(keep)
        embeds = random_embeds(2000 + token, 1, tiny.hidden)
        got, expected = model.append(embeds), reference.append(embeds)
        worst = max(worst, float(np.abs(got - expected).max()))
        assert got.argmax() == expected.argmax()
    assert worst <= bound, worst


def test_an_arena_of_another_shape_or_dtype_is_refused(tiny):
    with pytest.raises(InputMismatch, match="past_key_values"):
        language_model(tiny, dtype="float16")
