"""A cache that an engine holds is moved, cleared and copied as one of numpy is, on every axis."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="graphs are made by the export side")
pytest.importorskip("onnx", reason="graphs are made by the export side")

import onnx

from edgestream.export.cuda_evict import cuda_evict_graph
from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.held_block import HeldBlock

from .test_arena import CAPACITY, DIM, HEADS, KINDS, LAYERS, SHAPE


@pytest.fixture(scope="module", params=["float32", "float16"])
def turn(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("turn") / "evict.onnx"
    onnx.save(cuda_evict_graph(HEADS, DIM, request.param), str(path))
    with OrtBackend().open(path) as engine:
        yield engine


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_what_numpy_does(turn, kind):
    random = np.random.default_rng(0)
    block = HeldBlock(SHAPE, KINDS[kind], turn)
    arenas = [
        Arena(SHAPE, KINDS[kind], dtype=block.dtype),
        Arena(SHAPE, KINDS[kind], dtype=block.dtype, block=block),
    ]
    axes = KINDS[kind].axes
    size = (LAYERS, 2, HEADS, 30, DIM)
    values = random.standard_normal(size).astype(block.dtype)
    positions = np.sort(random.integers(0, 60, (axes, 30)), axis=1)
    for arena in arenas:  # as a decoder would fill them
        arena.reserve(30)
        arena.block.write(values)
        arena.advance(30, positions)
    keep = np.r_[0:3, 7:15, 16:30]
    given = np.sort(random.integers(0, 40, (axes, len(keep))), axis=1)
    for new_positions, kept in ((None, keep), (given, np.arange(len(keep))), (None, np.r_[0:5])):
        states = []
        for arena in arenas:
            arena.evict(kept, new_positions)
            states.append(arena.snapshot())
        np.testing.assert_array_equal(states[0].positions, states[1].positions)
        np.testing.assert_allclose(
            states[0].values.astype("f4"),
            states[1].values.astype("f4"),
            atol=1e-5 if block.dtype == "float32" else 8e-3,
        )
        for array in block.tensors().values():
            assert not array.read()[:, :, arenas[1].length :].any()
    arenas[1].restore(states[0])
    assert arenas[1].snapshot().values.tobytes() == states[0].values.tobytes()
    arenas[1].reset()
    assert not any(array.read().any() for array in block.tensors().values())


def test_what_a_decoder_wrote_and_nobody_kept_is_cleared(turn):
    block = HeldBlock(SHAPE, KINDS["one axis"], turn)
    arena = Arena(SHAPE, KINDS["one axis"], dtype=block.dtype, block=block)
    full = np.ones((1, HEADS, CAPACITY, DIM), block.dtype)
    arena.reserve(10)
    block.tensors()["0.key"].write(full)
    block.written(CAPACITY)
    arena.advance(4)
    arena.rewind(arena.mark())
    found = block.tensors()["0.key"].read()
    assert found[:, :, :4].all() and not found[:, :, 4:].any()
