"""A decoder that takes positions gets those of the arena, axis by axis and chunk by chunk."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineUnusable
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.token_rows import TokenRows

from ..onnx_graphs import model, node

DIM, HEAD, CAPACITY = 4, 12, 32
THREE_AXES = Positions(3, 10_000.0, (2, 2, 2))


class OpenLane:
    def speak(self):
        return contextlib.nullcontext()


def telling_decoder(axes, logits=6):
    """Its logits are the greatest and the least position of each axis; its cache stays as it is."""
    past = [1, 1, "past", HEAD]
    ids = [axes, 1, "tokens"] if axes > 1 else [1, "tokens"]
    over = [1, 2] if axes > 1 else [1]
    return model(
        [
            node("Cast", ["position_ids"], ["positions"], to=1),
            node("ReduceMax", ["positions"], ["greatest"], axes=over, keepdims=0),
            node("ReduceMin", ["positions"], ["least"], axes=over, keepdims=0),
            node("Concat", ["greatest", "least"], ["both"], axis=0),
            node("Reshape", ["both", "shape"], ["logits"]),
            node("Mul", ["past_key_values.0.key", "one"], ["present.0.key"]),
            node("Mul", ["past_key_values.0.value", "one"], ["present.0.value"]),
        ],
        [
            ("inputs_embeds", "float32", [1, "tokens", DIM]),
            ("attention_mask", "int64", [1, "total"]),
            ("position_ids", "int64", ids),
            ("past_key_values.0.key", "float32", past),
            ("past_key_values.0.value", "float32", past),
        ],
        [
            ("logits", "float32", [1, 1, logits]),
            ("present.0.key", "float32", past),
            ("present.0.value", "float32", past),
        ],
        {"shape": np.array([1, 1, logits]), "one": np.float32([1])},
    )


def language_model(folder, positions, chunk_tokens=4, **graph):
    (folder / "graph.onnx").write_bytes(telling_decoder(positions.axes, **graph))
    engine = OrtBackend().open(folder / "graph.onnx")
    arena = Arena(CacheShape(1, 1, HEAD, CAPACITY), positions)
    rows = TokenRows(np.zeros((5, DIM), np.float16))
    return LanguageModel(engine, arena, rows, OpenLane(), chunk_tokens=chunk_tokens)


def test_given_positions_reach_the_decoder_in_its_chunks(tmp_path):
    told = language_model(tmp_path, THREE_AXES)
    positions = np.array([[7] * 6, [7, 7, 7, 8, 8, 8], [7, 8, 9, 7, 8, 9]])
    got = told.append(np.zeros((6, DIM), "f4"), positions=positions)
    assert got.tolist() == [7, 8, 9, 7, 8, 8], "the second chunk has the last two tokens"
    assert (told.arena.positions[:, :6] == positions).all()
    assert told.step(1).tolist() == [10] * 6 and told.arena.next_position == 11
    told.arena.evict([0, 6])
    assert told.step(1).tolist() == [told.arena.next_position - 1] * 6


def test_without_given_ones_they_go_on_by_one_on_every_axis(tmp_path):
    told = language_model(tmp_path, THREE_AXES)
    assert told.append(np.zeros((6, DIM), "f4")).tolist() == [5, 5, 5, 4, 4, 4]
    assert told.append(np.zeros((3, DIM), "f4")).tolist() == [8, 8, 8, 6, 6, 6]


def test_a_decoder_with_one_axis_takes_them_as_a_row(tmp_path):
    told = language_model(tmp_path, Positions(1, 10_000.0), logits=2)
    assert told.append(np.zeros((3, DIM), "f4"), positions=np.array([[4, 9, 6]])).tolist() == [9, 4]
    assert told.step(2).tolist() == [10, 10]


def test_logits_of_all_positions_are_refused(tmp_path):
    graph = telling_decoder(3).replace(b"logits", b"lagits")
    (tmp_path / "graph.onnx").write_bytes(graph)
    engine = OrtBackend().open(tmp_path / "graph.onnx")
    arena = Arena(CacheShape(1, 1, HEAD, CAPACITY), THREE_AXES)
    with pytest.raises(EngineUnusable, match="expected logits float32 of the last position alone"):
        LanguageModel(engine, arena, TokenRows(np.zeros((5, DIM), "f4")), OpenLane())
