"""The evict graph for CUDA: what numpy does to a cache, in place, zero beyond what is kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.export.cuda_evict import cuda_evict_graph
from edgestream.runtime.engines.ort import OrtBackend

HEADS, DIM, SLOTS = 2, 16, 24
HALF = DIM // 2


@pytest.fixture(scope="module", params=["float16", "float32"])
def graph(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("evict") / "evict.onnx"
    onnx.save(cuda_evict_graph(HEADS, DIM, request.param), str(path))
    with OrtBackend().open(path) as engine:
        yield request.param, engine


@pytest.mark.medium
@settings(deadline=None)
@given(kept=st.sets(st.integers(0, SLOTS - 1)), seed=st.integers(0, 99))
def test_it_keeps_turns_and_clears_in_place(graph, kept, seed):
    dtype, engine = graph
    random = np.random.default_rng(seed)
    slots, count = sorted(kept), len(kept)
    size = (1, HEADS, SLOTS, DIM)
    key, value = (random.standard_normal(size).astype(dtype) for _ in range(2))
    keep = np.zeros(SLOTS, np.int64)
    keep[:count] = slots
    stays = np.arange(SLOTS)[:, None] < count
    angles = random.uniform(0, 6, (SLOTS, HALF))
    told = {"keep": keep, "stays": stays,
            "cos": np.cos(angles).astype("f4"), "sin": np.sin(angles).astype("f4")}  # fmt: skip
    wide = key[:, :, keep].astype(np.float64)
    turned = (wide[..., :HALF] + 1j * wide[..., HALF:]) * np.exp(-1j * angles)
    keys = np.where(stays, np.concatenate([turned.real, turned.imag], -1), 0)
    values = np.where(stays, value[:, :, keep], 0)

    call = engine.bind({"key": key, "value": value, **told}, {"kept_key": key, "kept_value": value})
    call.run()
    np.testing.assert_array_equal(value, values)
    np.testing.assert_allclose(key, keys, atol=4e-3 if dtype == "float16" else 1e-5)
    assert not key[:, :, count:].any() and not value[:, :, count:].any()


def test_what_stays_where_it_is_keeps_its_bits(graph):
    dtype, engine = graph
    random = np.random.default_rng(3)
    key, value = (random.standard_normal((1, HEADS, SLOTS, DIM)).astype(dtype) for _ in range(2))
    ones = np.ones((SLOTS, HALF), np.float32)
    outputs = engine.run(
        {"key": key, "value": value, "keep": np.arange(SLOTS), "cos": ones, "sin": 0 * ones,
         "stays": np.ones((SLOTS, 1), bool)}
    )  # fmt: skip
    assert outputs["kept_key"].tobytes() == key.tobytes()
    assert outputs["kept_value"].tobytes() == value.tobytes()
