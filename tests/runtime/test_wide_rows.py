"""Rows wider than an embedding reach the decoder whole, and memory keeps and counts them whole."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import InputMismatch
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.token_rows import TokenRows

from ..onnx_graphs import model, node
from .memory.key_frame_streams import decision_at, features_at

HIDDEN, LEVELS, HEAD, CAPACITY, BUDGET = 4, 2, 4, 32, 1_000_000
WIDTH = HIDDEN * (1 + LEVELS)


class OpenLane:
    def speak(self):
        return contextlib.nullcontext()


def summing_decoder():
    """Its logits are the last row, slice by slice summed; its cache stays as it is."""
    past = [1, 1, "past", HEAD]
    return model(
        [
            node("Gather", ["inputs_embeds", "last"], ["row"], axis=1),
            node("Reshape", ["row", "slices"], ["cut"]),
            node("ReduceSum", ["cut", "within"], ["sums"], keepdims=0),
            node("Reshape", ["sums", "shape"], ["logits"]),
            node("Mul", ["past_key_values.0.key", "one"], ["present.0.key"]),
            node("Mul", ["past_key_values.0.value", "one"], ["present.0.value"]),
        ],
        [
            ("inputs_embeds", "float32", [1, "tokens", WIDTH]),
            ("attention_mask", "int64", [1, "total"]),
            ("past_key_values.0.key", "float32", past),
            ("past_key_values.0.value", "float32", past),
        ],
        [
            ("logits", "float32", [1, 1, 1 + LEVELS]),
            ("present.0.key", "float32", past),
            ("present.0.value", "float32", past),
        ],
        {
            "last": np.array(-1),
            "slices": np.array([1 + LEVELS, HIDDEN]),
            "within": np.array([1]),
            "shape": np.array([1, 1, 1 + LEVELS]),
            "one": np.float32([1]),
        },
    )


@pytest.fixture
def wide(tmp_path):
    (tmp_path / "graph.onnx").write_bytes(summing_decoder())
    engine = OrtBackend().open(tmp_path / "graph.onnx")
    arena = Arena(CacheShape(1, 1, HEAD, CAPACITY), Positions(1, 10_000.0))
    rows = TokenRows(np.ones((5, HIDDEN), np.float16), WIDTH)
    return LanguageModel(engine, arena, rows, OpenLane(), chunk_tokens=4)


def test_a_word_after_a_picture_brings_nothing_of_the_picture_along(wide):
    picture = np.arange(5 * WIDTH, dtype=np.float32).reshape(5, WIDTH)
    told = wide.append(picture).tolist()
    assert told == picture[-1].reshape(1 + LEVELS, HIDDEN).sum(1).tolist()
    assert wide.step(3).tolist() == [HIDDEN] + [0] * LEVELS
    assert wide.append(wide.rows([0, 1])).tolist() == [HIDDEN] + [0] * LEVELS


@pytest.mark.parametrize("width", [HIDDEN, WIDTH - 1, WIDTH + HIDDEN])
def test_rows_of_another_width_are_refused(wide, width):
    with pytest.raises(InputMismatch, match=rf"expected float32 \[tokens, {WIDTH}\]"):
        wide.append(np.zeros((3, width), np.float32))
    assert wide.arena.length == 0


def test_a_decoder_of_another_width_is_refused(tmp_path):
    (tmp_path / "graph.onnx").write_bytes(summing_decoder())
    engine = OrtBackend().open(tmp_path / "graph.onnx")
    arena = Arena(CacheShape(1, 1, HEAD, CAPACITY), Positions(1, 10_000.0))
    with pytest.raises(InputMismatch):
        LanguageModel(engine, arena, TokenRows(np.ones((5, HIDDEN), "f2")), OpenLane())


def test_memory_keeps_wide_rows_whole_and_counts_them():
    kept_bytes = {}
    for width in (HIDDEN, WIDTH):
        memory = KeyFrameMemory(KeyFrameRules(thumbnails=False), BUDGET)
        embeds = np.random.default_rng(0).standard_normal((6, width)).astype(np.float32)
        memory.step(features_at(0.0), embeds, decision_at(0.0))
        view = memory.view()
        assert np.array_equal(view.recent.frames[0][1], embeds)
        assert np.array_equal(view.key_frames[0].embeds, embeds.astype(np.float16))
        kept_bytes[width] = memory.n_bytes
    assert kept_bytes[WIDTH] - kept_bytes[HIDDEN] == 6 * (WIDTH - HIDDEN) * (4 + 2)
