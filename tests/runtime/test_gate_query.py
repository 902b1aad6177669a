"""What a gate looks for: a text as a vector, the network that reads it, what is saved of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineUnusable, InputMismatch, SettingsInvalid
from edgestream.runtime.gate import EveryGate
from edgestream.runtime.gate_learned import GateBeside, LearnedGate
from edgestream.runtime.gate_network import GateNetwork
from edgestream.runtime.gate_query import (
    GateQuery,
    check_query,
    check_words,
    gate_query,
    no_query,
    shown,
)
from edgestream.runtime.gate_state import restore_gate, saved_gate
from edgestream.runtime.learned_phases import learned_rules
from edgestream.runtime.manifest import manifest_from_json
from edgestream.runtime.manifest_values import GateFacts, TensorSpec
from edgestream.runtime.state_snapshot import SavedPart
from edgestream.runtime.token_rows import TokenRows

from ..bundles import FACTS as BUNDLE_FACTS
from ..bundles import random_array
from ..onnx_graphs import model, node
from ..small_tokenizer import trained_tokenizer
from .test_gate_learned import DIM, FACTS, frames_of

QUERY_DIM, WIDTH = 6, 5
ASKED = GateFacts(
    "learned", ("cut",), {"speak": 0.5, "cut": 0.5}, query_dim=QUERY_DIM,
    state=(TensorSpec("ssm", "float32", (1, WIDTH)),),
)  # fmt: skip
WORDS = {"a": 0, "red": 1, "blue": 2, "ball": 3}
TABLE = random_array(31, len(WORDS), QUERY_DIM).astype(np.float16)


def graph(query_dim=QUERY_DIM):
    """A state that fades and is driven by the summary; the query weighs it in the scores."""
    nodes = [
        node("Mul", ["ssm", "fade"], ["kept"]),
        node("MatMul", ["summary", "weight"], ["u"]),
        node("Add", ["kept", "u"], ["new_ssm"]),
        node("MatMul", ["query", "ask"], ["asked"]),
        node("Add", ["asked", "one"], ["by"]),
        node("Mul", ["new_ssm", "by"], ["weighed"]),
        node("MatMul", ["weighed", "head"], ["raw"]),
        node("Sigmoid", ["raw"], ["scores"]),
    ]
    inputs = [
        ("summary", "float32", [1, DIM]),
        ("query", "float32", [1, query_dim]),
        ("ssm", "float32", [1, WIDTH]),
    ]
    constants = {
        "fade": np.float32([0.5]), "one": np.float32([1.0]),
        "weight": random_array(1, DIM, WIDTH), "ask": random_array(2, query_dim, WIDTH),
        "head": random_array(3, WIDTH, 2),
    }  # fmt: skip
    outputs = [("scores", "float32", [1, 2]), ("new_ssm", "float32", [1, WIDTH])]
    return model(nodes, inputs, outputs, constants)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("gate") / "gate.onnx"
    path.write_bytes(graph())
    return OrtBackend().open(path)


def encode(text):
    return [WORDS[word] for word in text.split()]


def query_of(text):
    return gate_query(text, encode, TokenRows(TABLE, QUERY_DIM + 3))


def scores_of(engine, query, frames):
    network = GateNetwork(engine, ASKED, 4.0, query)
    return np.array([list(network.step(one, 0.25).scores.values()) for one in frames])


@pytest.mark.medium
@given(st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=40))
def test_a_query_is_the_mean_of_the_rows_of_its_tokens(words):
    query = query_of(" ".join(words))
    rows = TABLE[[WORDS[word] for word in words]].astype(np.float64)
    assert query.vector.shape == (1, QUERY_DIM) and query.vector.dtype == np.float32
    assert np.abs(query.vector[0] - rows.mean(axis=0)).max() <= 1e-6
    assert not query.vector.flags.writeable


@pytest.mark.parametrize("text", ["", "   "])
def test_no_token_is_no_query(text):
    assert query_of(text).text == text
    assert np.array_equal(query_of(text).vector, np.zeros((1, QUERY_DIM), np.float32))


def test_a_token_without_a_row_is_an_error():
    with pytest.raises(InputMismatch, match="token id 9"):
        gate_query("what", lambda text: [9], TokenRows(TABLE))


def test_no_query_is_a_query_of_zeros(engine):
    frames = frames_of(8)
    nothing = scores_of(engine, None, frames)
    zeros = GateQuery("zeros", np.zeros((1, QUERY_DIM), np.float32))
    assert np.array_equal(nothing, scores_of(engine, zeros, frames))
    assert np.array_equal(nothing, scores_of(engine, no_query(QUERY_DIM), frames))


def test_the_query_is_given_at_every_step(engine):
    frames, query, state = frames_of(8), query_of("a red ball"), np.zeros((1, WIDTH), np.float32)
    told = scores_of(engine, query, frames)
    for one, ours in zip(frames, told, strict=True):
        inputs = {"summary": one.summary[None], "query": query.vector, "ssm": state}
        expected = engine.run(inputs)
        assert ours.astype(np.float32).tolist() == expected["scores"][0].tolist()
        state = expected["new_ssm"]


def test_two_queries_make_two_streams_of_scores(engine):
    frames = frames_of(8)
    red, blue = (scores_of(engine, query_of(text), frames) for text in ("red ball", "blue ball"))
    assert (np.abs(red - blue).max(axis=1) > 1e-3).all()


def test_a_gate_that_reads_none_is_not_handed_one(tmp_path):
    from .test_gate_learned import graph as old

    path = tmp_path / "gate.onnx"
    path.write_bytes(old())
    engine, frames = OrtBackend().open(path), frames_of(6)
    told = []
    for query in (None, query_of("red ball")):
        network = GateNetwork(engine, FACTS, 4.0, query)
        told.append([network.step(one, 0.25).scores for one in frames])
    assert told[0] == told[1]


@pytest.mark.parametrize("wide", [None, QUERY_DIM + 1])
def test_a_query_that_the_manifest_does_not_describe_is_refused(engine, wide):
    with pytest.raises(EngineUnusable, match=rf"a query of 6 .* a query of {wide or 0}$"):
        GateNetwork(engine, replace(ASKED, query_dim=wide), 4.0)


def test_a_manifest_names_a_query_that_a_graph_does_not_take(tmp_path):
    from .test_gate_learned import graph as old

    path = tmp_path / "gate.onnx"
    path.write_bytes(old())
    with pytest.raises(EngineUnusable, match="a query of 0 numbers"):
        GateNetwork(OrtBackend().open(path), replace(FACTS, query_dim=4), 4.0)


def gate_of(engine, text=""):
    network = GateNetwork(engine, ASKED, 4.0, query_of(text))
    return LearnedGate(network, learned_rules(ASKED, has_speak=True))


def through_json(saved):
    return SavedPart(json.loads(json.dumps(saved.values, allow_nan=False)), saved.arrays)


def decisions(gate, frames):
    return [told_of(gate.step(one, 0.25)) for one in frames]


def told_of(decision):
    return decision.opened, decision.closed, decision.speaks, decision.phases, decision.scores


@pytest.mark.parametrize("text", ["", "red ball"])
def test_a_saved_gate_goes_on_under_the_same_query(engine, text):
    frames, whole, stopped = frames_of(), gate_of(engine, text), gate_of(engine, text)
    expected = decisions(whole, frames)
    decisions(stopped, frames[:9])
    saved = through_json(saved_gate(stopped, "learned"))
    assert ("query" in saved.values) == bool(text)
    again = gate_of(engine, text)
    assert restore_gate(again, "learned", saved)
    assert decisions(again, frames[9:]) == expected[9:]


@pytest.mark.parametrize(("before", "now"), [("red ball", ""), ("", "blue"), ("red", "blue")])
def test_under_another_query_a_gate_starts_anew_and_its_network_remembers(engine, before, now):
    frames, first, second = frames_of(), gate_of(engine, before), gate_of(engine, now)
    decisions(first, frames[:9])
    assert not restore_gate(second, "learned", through_json(saved_gate(first, "learned")))
    kept = second.network.snapshot()["ssm"]
    assert np.array_equal(kept, first.network.snapshot()["ssm"]) and kept.any()
    fresh = gate_of(engine, now)
    fresh.network.restore({"ssm": kept})
    assert decisions(second, frames[9:]) == decisions(fresh, frames[9:])


def test_a_state_of_a_query_is_no_state_of_another_gate(engine):
    first = gate_of(engine, "red")
    decisions(first, frames_of()[:9])
    beside = GateBeside(GateNetwork(engine, ASKED, 4.0), EveryGate(1.0))
    assert not restore_gate(beside, "every:1", saved_gate(first, "learned"))
    assert beside.network.snapshot()["ssm"].any()


def manifest(**gate):
    facts = json.loads(json.dumps(BUNDLE_FACTS))
    facts["gate"] |= gate
    files = {"embeddings.bin": {"sha256": "3" * 64, "bytes": 256}}
    return manifest_from_json({**facts, "parts": [], "files": files})


def test_the_manifest_says_whether_a_gate_is_asked():
    assert manifest().gate.query_dim is None and "query_dim" not in manifest().as_json()["gate"]
    asked = manifest(query_dim=8)
    assert asked.gate.query_dim == 8
    assert manifest_from_json(asked.as_json()) == asked


def test_a_query_is_as_wide_as_an_embedding():
    from edgestream.runtime.errors import ManifestInvalid

    with pytest.raises(ManifestInvalid, match=r"gate.query_dim: got 12, expected 8"):
        manifest(query_dim=12)


def test_a_query_for_a_gate_that_reads_none_is_refused():
    check_query("red", manifest(query_dim=8))
    check_query("", manifest())
    with pytest.raises(SettingsInvalid, match=r"gate.query is 'red', .* reads no query") as fault:
        check_query("red", manifest())
    assert fault.value.exit_code == 2
    bare = replace(manifest(), gate=None)
    with pytest.raises(SettingsInvalid, match=r"gate.queries.door is .* no gate of its own"):
        check_query("red", bare, "gate.queries.door")


def test_a_long_query_is_cut_in_a_message():
    assert shown("red") == "'red'"
    assert len(shown("x" * 4000)) == 63 and shown("x" * 4000).endswith("…'")


def test_a_stream_with_a_query_starts_again_as_it_began(engine):
    gate, frames = gate_of(engine, "red ball"), frames_of()
    first = decisions(gate, frames)
    gate.reset()
    assert decisions(gate, frames) == first


def word_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "red": 1, "ball": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_a_word_that_the_tokenizer_does_not_have_is_refused():
    tokenizer = word_tokenizer()
    check_words("red ball", tokenizer)
    check_words("", tokenizer)
    with pytest.raises(SettingsInvalid, match=r"gate\.query is 'red zebra', but the word 'zebra'"):
        check_words("red zebra", tokenizer)
    check_words("red zebra", trained_tokenizer("a red ball"))  # of bytes: it can write every text
