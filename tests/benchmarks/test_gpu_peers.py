"""The bounded cache in PyTorch against the runtime's own, and peers against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpu_arena import DeviceArena, bounded_attention, policy_of
from gpu_measure import logits_behind, worst_cosine
from gpu_models import Random, Watch, decoder_config, random_model
from gpu_shapes import SHAPES, TINY
from gpu_torch import BoundedPeer, GrowingPeer
from gpu_trt import TrtPeer
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from edgestream.runtime.arena import Arena
from edgestream.runtime.errors import BackendMissing
from edgestream.runtime.eviction import Span
from edgestream.runtime.manifest import CacheShape, Positions

CPU = torch.device("cpu")
LAYERS, HEADS, DIM, CAPACITY = 2, 2, 16, 24


@pytest.fixture(scope="module", params=sorted(TINY))
def model(request):
    with torch.inference_mode():
        return random_model(TINY[request.param], CPU, torch.float32)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def arenas(dtype):
    """One of each kind, with the same random numbers in it."""
    config = decoder_config(TINY["smolvlm2_500m"])
    ours = DeviceArena(config, CAPACITY, CPU, dtype)
    ours.block.normal_(generator=torch.Generator().manual_seed(2))
    name = str(dtype).removeprefix("torch.")
    theirs = Arena(CacheShape(LAYERS, HEADS, DIM, CAPACITY), Positions(1, 1e4), dtype=name)
    theirs.advance(CAPACITY)
    for tensor, array in zip(ours.block.flatten(0, 1), theirs.tensors().values(), strict=True):
        array[...] = tensor.numpy()
    return ours, theirs


@pytest.mark.medium
@given(st.sets(st.integers(0, CAPACITY - 1), min_size=1))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_eviction_is_that_of_the_runtime(dtype, keep):
    slots = np.array(sorted(keep), np.int64)
    ours, theirs = arenas(dtype)
    ours.evict(slots)
    theirs.evict(slots)
    for tensor, array in zip(ours.block.flatten(0, 1), theirs.tensors().values(), strict=True):
        kept = tensor.numpy()[:, :, : len(slots)]
        close = 1e-6 if dtype is torch.float32 else 2e-3
        np.testing.assert_allclose(kept, array[:, :, : len(slots)], rtol=close, atol=close)


@pytest.mark.medium
@given(st.lists(st.integers(1, 5), min_size=1, max_size=60))
def test_there_is_always_room_and_texts_are_one_span(frames):
    arena, _ = arenas(torch.float32)
    for slots in frames:
        arena.make_room(slots)
        arena.add(Span("frame", slots, 0.0))
        arena.make_room(1)
        arena.add(Span("text", 1, 0.0))
        assert arena.length <= CAPACITY
    assert arena.evictions > 0 or sum(frames) + len(frames) <= CAPACITY
    policy = policy_of(CAPACITY)
    assert policy.block_slots + policy.recent_slots + policy.sink_slots < CAPACITY


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 20), st.integers(0, 99))
def test_attention_is_that_of_pytorch(kv_heads, groups, begin, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = 3
    query = torch.randn(1, kv_heads * groups, tokens, 8, generator=generator)
    key, value = torch.randn(2, 1, kv_heads, CAPACITY, 8, generator=generator)
    slots = begin + torch.arange(tokens)
    sees = (torch.arange(CAPACITY) <= slots[:, None])[None, None]
    mixed, _ = bounded_attention(None, query, key, value, sees, scaling=0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=sees, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(mixed, expected.transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_a_bounded_cache_with_room_says_what_a_growing_one_says(model):
    growing, bounded = GrowingPeer(model), BoundedPeer(model)
    told = [logits_behind(peer) for peer in (growing, bounded)]
    torch.testing.assert_close(told[1], told[0], rtol=1e-4, atol=1e-4)
    assert worst_cosine(*told) > 0.99999
    assert worst_cosine(told[0], told[0].roll(1, 0)) < 0.99, "it tells models apart"
    assert worst_cosine(told[0], told[0] * float("nan")) == 0.0
    scores = []
    for peer in (growing, bounded):
        embeds = peer.watch()
        assert embeds.shape == (1, model.shape.frame_tokens, model.shape.text["hidden_size"])
        scores.append([peer.look(peer._pixels[0])[0] for _ in range(2)])
    torch.testing.assert_close(scores[0], scores[1])
    assert not torch.equal(scores[0][0], scores[0][1]), "the gate remembers"


@pytest.mark.medium
def test_a_stream_of_any_length_stays_within_the_cache(model):
    growing, bounded = GrowingPeer(model), BoundedPeer(model)
    frame = model.shape.frame_tokens + 1
    before = bounded.n_bytes
    count = 2 * model.shape.capacity // frame
    for peer in (growing, bounded):
        peer.activate()
        peer.reset()
        for _ in range(count):
            peer.take_frame()
    assert growing.length == count * frame
    assert bounded.length <= model.shape.capacity and bounded.arena.evictions > 0
    assert bounded.n_bytes == before
    bounded.refill(10 * count)
    assert model.shape.capacity // 2 < bounded.length <= model.shape.capacity
    growing.activate()
    growing.refill(count)
    assert growing.length == count * frame


class OnDevice(TorchDispatchMode):
    """Notes what a captured CUDA graph cannot hold: values read back, arrays made elsewhere."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        every = out if isinstance(out, tuple | list) else [out]
        is_elsewhere = any(isinstance(one, torch.Tensor) and one.device != META for one in every)
        if is_elsewhere or any(name in str(func) for name in self.READS):
            self.found.append(str(func))
        return out


META = torch.device("meta")


def test_captured_steps_stay_on_the_device(model):
    """With every weight on `meta`, an array of the CPU would show, and no value can be read."""
    shape = model.shape
    there = random_model(shape, CPU, torch.float32)
    there = Random(shape, there.watch.to(META), there.decoder.to(META), META, torch.float32)
    peer = BoundedPeer(there)
    peer.activate()
    pixels = torch.zeros(1, shape.side_px, shape.side_px, 3, dtype=torch.uint8, device=META)
    embeds = torch.zeros(1, shape.frame_tokens + 1, shape.text["hidden_size"], device=META)
    begin, ids = torch.zeros(2, 1, dtype=torch.int64, device=META)
    with OnDevice() as noted:
        there.watch(pixels, *peer.state)
        peer._logits(embeds, begin)
        peer._next(ids[None], begin)
    assert noted.found == []
    with OnDevice() as noted:
        torch.zeros(1) + 1
    assert noted.found, "the mode sees arrays of the CPU"


@pytest.mark.parametrize(
    ("name", "watches", "speaks"),
    [
        ("videollm_online_8b", 0.338e9, 8.03e9),
        ("streammind_7b", 1.29e9, 7.24e9),
        ("smolvlm2_500m", 0.0986e9, 0.362e9),
    ],
)
def test_real_sizes_are_those_of_the_models(name, watches, speaks):
    from transformers import AutoModelForCausalLM

    shape = SHAPES[name]
    with torch.device("meta"):
        watch = Watch(shape)
        decoder = AutoModelForCausalLM.from_config(decoder_config(shape))
    assert sum(one.numel() for one in watch.parameters()) == pytest.approx(watches, rel=0.01)
    assert decoder.num_parameters() == pytest.approx(speaks, rel=0.01)


def test_tensorrt_says_why_it_does_not_run(model, tmp_path):
    with pytest.raises(BackendMissing, match=r"^TensorRT(-RTX)? .*(imported|needs a GPU)"):
        TrtPeer(model, tmp_path, "tensorrt_rtx")
