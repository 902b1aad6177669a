"""The connector of a bundle: one run for each set of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.connector import EngineConnector
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineNotFinite, EngineUnusable
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.router import QUIET
from edgestream.runtime.values import Features, GateDecision

from .. import bundles
from ..onnx_graphs import model, node

MOTION = Motion(np.zeros((6, 7, 7), np.float32))


def features_of(tokens, *, is_fresh, time_s=0.0):
    summary = np.ones(1, np.float32)
    return Features(time_s, tokens, summary, MOTION, not is_fresh, is_fresh=is_fresh)


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "connector.onnx").write_bytes(bundles.connector())
    return OrtBackend().open(tmp_path / "connector.onnx")


class Counting:
    """The same engine, its runs counted."""

    def __init__(self, engine):
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.runs, self._engine = 0, engine

    def run(self, arrays):
        self.runs += 1
        return self._engine.run(arrays)


def test_embeds_are_the_engines_and_read_only(engine):
    connector, tokens = EngineConnector(engine), bundles.random_array(1, 4, bundles.DIM)
    embeds = connector.step(features_of(tokens, is_fresh=True), QUIET)
    assert np.array_equal(embeds, engine.run({"tokens": tokens[None]})["embeds"][0])
    assert embeds.dtype == np.float32 and not embeds.flags.writeable


def test_tokens_taken_over_cost_nothing(engine):
    counting, tokens = Counting(engine), bundles.random_array(1, 4, bundles.DIM)
    connector = EngineConnector(counting)
    first = connector.step(features_of(tokens, is_fresh=True), QUIET)
    assert connector.step(features_of(tokens, is_fresh=False), QUIET) is first
    assert counting.runs == 1


@pytest.mark.parametrize("is_fresh", [True, False])
def test_other_tokens_are_read_anew(engine, is_fresh):
    connector = EngineConnector(engine)
    tokens, others = (
        bundles.random_array(1, 4, bundles.DIM),
        bundles.random_array(2, 4, bundles.DIM),
    )
    connector.step(features_of(tokens, is_fresh=True), QUIET)
    embeds = connector.step(features_of(others, is_fresh=is_fresh), QUIET)
    assert np.array_equal(embeds, engine.run({"tokens": others[None]})["embeds"][0])


def test_new_tokens_in_the_same_place_are_read_anew(engine):
    connector, tokens = EngineConnector(engine), bundles.random_array(1, 4, bundles.DIM)
    first = connector.step(features_of(tokens, is_fresh=True), QUIET)
    tokens *= 2
    assert np.allclose(connector.step(features_of(tokens, is_fresh=True), QUIET), 2 * first)


def test_some_rows_of_the_same_tokens_are_other_tokens(engine):
    connector, tokens = EngineConnector(engine), bundles.random_array(1, 4, bundles.DIM)
    connector.step(features_of(tokens, is_fresh=True), QUIET)
    assert connector.step(features_of(tokens[:2], is_fresh=False), QUIET).shape[0] == 2


def test_reset_forgets(engine):
    counting, tokens = Counting(engine), bundles.random_array(1, 4, bundles.DIM)
    connector = EngineConnector(counting)
    for _ in range(2):
        connector.step(features_of(tokens, is_fresh=False), QUIET)
        connector.reset()
    assert counting.runs == 2


def test_numbers_that_are_none_are_an_error_and_are_not_kept(engine):
    connector, tokens = EngineConnector(engine), bundles.random_array(1, 4, bundles.DIM)
    tokens[1, 2] = np.inf
    for _ in range(2):
        with pytest.raises(EngineNotFinite, match="connector"):
            connector.step(features_of(tokens, is_fresh=False), QUIET)


def test_another_graph_is_refused_at_once(tmp_path):
    (tmp_path / "vision.onnx").write_bytes(bundles.vision())
    with pytest.raises(EngineUnusable, match="takes pixels"):
        EngineConnector(OrtBackend().open(tmp_path / "vision.onnx"))


# --- a connector that reads what the gate remembers ---


@pytest.fixture
def stateful(tmp_path):
    """embeds = tokens · weight + state_summary, on every row."""
    graph = model(
        [
            node("MatMul", ["tokens", "weight"], ["read"]),
            node("Add", ["read", "state_summary"], ["embeds"]),
        ],
        [("tokens", "float32", [1, 4, 8]), ("state_summary", "float32", [1, 8])],
        [("embeds", "float32", [1, 4, 8])],
        {"weight": bundles.random_array(3, 8, 8)},
    )
    (tmp_path / "connector.onnx").write_bytes(graph)
    return OrtBackend().open(tmp_path / "connector.onnx")


def test_the_state_is_read_with_the_tokens_of_an_earlier_frame_too(stateful):
    counting, tokens = Counting(stateful), bundles.random_array(1, 4, 8)
    connector, state = EngineConnector(counting), bundles.random_array(2, 8)
    told = GateDecision(0.0, state_summary=state)
    first = connector.step(features_of(tokens, is_fresh=True), told)
    still = features_of(tokens, is_fresh=False)
    again = connector.step(still, GateDecision(0.5, state_summary=state.copy()))
    assert again is first and counting.runs == 1
    moved = connector.step(still, GateDecision(1.0, state_summary=state + 1))
    assert np.allclose(moved, first + 1) and counting.runs == 2


def test_a_decision_without_a_state_is_refused(stateful):
    connector = EngineConnector(stateful)
    assert connector.reads_state
    with pytest.raises(EngineUnusable, match="state_summary"):
        connector.step(features_of(bundles.random_array(1, 4, 8), is_fresh=True), QUIET)
