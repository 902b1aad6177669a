"""The gate `learned` over a small graph: its state, its inputs, what is saved of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineNotFinite, EngineUnusable, StateInvalid
from edgestream.runtime.gate import EveryGate
from edgestream.runtime.gate_learned import GateBeside, LearnedGate
from edgestream.runtime.gate_network import GateNetwork
from edgestream.runtime.gate_state import restore_gate, saved_gate
from edgestream.runtime.learned_phases import learned_rules
from edgestream.runtime.manifest_values import GateFacts, TensorSpec
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.state_snapshot import SavedPart
from edgestream.runtime.values import Features

from ..bundles import random_array
from ..onnx_graphs import model, node

TOKENS, DIM, WIDTH = 3, 4, 5
FACTS = GateFacts(
    "learned",
    ("cut", "pan"),
    {"speak": 0.55, "cut": 0.6, "pan": 0.55},
    attributes={"side": ("left", "right")},
    state=(TensorSpec("ssm", "float32", (1, WIDTH)),),
)


def graph():
    """A state that fades by dt_s and is driven by all that a gate may read."""
    inputs = [
        ("tokens", "float32", [1, TOKENS, DIM]),
        ("summary", "float32", [1, DIM]),
        ("motion", "float32", [1, 6, 7, 7]),
        ("dt_s", "float32", [1, 1]),
        ("ssm", "float32", [1, WIDTH]),
    ]
    nodes = [
        node("Reshape", ["tokens", "flat"], ["t"]),
        node("Reshape", ["motion", "flat"], ["m"]),
        node("Concat", ["t", "summary", "m"], ["all"], axis=1),
        node("MatMul", ["all", "weight"], ["u"]),
        node("Neg", ["dt_s"], ["n"]),
        node("Exp", ["n"], ["keep"]),
        node("Mul", ["ssm", "keep"], ["kept"]),
        node("Add", ["kept", "u"], ["new_ssm"]),
        node("Tanh", ["new_ssm"], ["state_summary"]),
        node("MatMul", ["state_summary", "head"], ["raw"]),
        node("Sigmoid", ["raw"], ["scores"]),
        node("MatMul", ["state_summary", "sides"], ["two"]),
        node("Softmax", ["two"], ["attribute_side"], axis=1),
    ]
    outputs = [
        ("scores", "float32", [1, 3]),
        ("attribute_side", "float32", [1, 2]),
        ("state_summary", "float32", [1, WIDTH]),
        ("new_ssm", "float32", [1, WIDTH]),
    ]
    constants = {
        "flat": np.array([1, -1]),
        "weight": 0.3 * random_array(1, TOKENS * DIM + DIM + 294, WIDTH),
        "head": 2 * random_array(2, WIDTH, 3),
        "sides": 3 * random_array(3, WIDTH, 2),
    }
    return model(nodes, inputs, outputs, constants)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("gate") / "gate.onnx"
    path.write_bytes(graph())
    return OrtBackend().open(path)


def frames_of(count=24, seed=0):
    random, made = np.random.default_rng(seed), []
    for index in range(count):
        maps = random.standard_normal((6, 7, 7)).astype(np.float32)
        tokens = random.standard_normal((TOKENS, DIM)).astype(np.float32)
        is_fresh = index % 3 == 0 or not made
        made.append(
            Features(
                0.25 * index,
                tokens if is_fresh else made[-1].tokens,
                random.standard_normal(DIM).astype(np.float32),
                Motion(maps),
                not is_fresh,
                is_fresh=is_fresh,
            )
        )
    return made


def gate_of(engine):
    network = GateNetwork(engine, FACTS, 4.0)
    return LearnedGate(network, learned_rules(FACTS, has_speak=True))


def seen(decision):
    return (
        decision.opened,
        decision.closed,
        decision.speaks,
        decision.phases,
        decision.scores,
        decision.state_summary.tobytes(),
    )


def watched(gate, frames):
    return [seen(gate.step(one, None if one.time_s == 0 else 0.25)) for one in frames]


def test_a_stream_opens_events_and_a_restarted_one_the_same(engine):
    gate, frames = gate_of(engine), frames_of()
    first = watched(gate, frames)
    assert any(opened and speaks for opened, _, speaks, *_ in first)
    gate.reset()
    assert watched(gate, frames) == first


def test_the_network_is_run_as_the_graph_says(engine):
    network, frames = GateNetwork(engine, FACTS, 4.0), frames_of(5)
    state = np.ones((1, WIDTH), np.float32)  # so that the first dt_s counts too
    network.restore({"ssm": state})
    for index, one in enumerate(frames):
        dt_s = None if index == 0 else 0.25 + index
        inputs = {
            "tokens": one.tokens[None],
            "summary": one.summary[None],
            "motion": one.motion.maps[None],
            "dt_s": np.full((1, 1), dt_s or 0.25, np.float32),
            "ssm": state,
        }
        expected = engine.run(inputs)
        reading = network.step(one, dt_s)
        assert list(reading.scores) == ["speak", "cut", "pan"]
        assert list(reading.scores.values()) == expected["scores"][0].tolist()
        assert list(reading.attributes["side"].values()) == expected["attribute_side"][0].tolist()
        assert np.array_equal(reading.state_summary, expected["state_summary"][0])
        assert not reading.state_summary.flags.writeable
        state = expected["new_ssm"]


@pytest.mark.parametrize("at", [0, 1, 7, 23])
def test_a_gate_saved_and_put_back_decides_as_one_that_was_never_stopped(engine, at):
    frames, whole, stopped = frames_of(), gate_of(engine), gate_of(engine)
    watched(whole, frames[:at])
    watched(stopped, frames[:at])
    saved = saved_gate(stopped, "learned")
    saved = SavedPart(json.loads(json.dumps(saved.values, allow_nan=False)), saved.arrays)
    watched(stopped, frames[at:])  # what was saved does not change any more
    other = gate_of(engine)
    assert restore_gate(other, "learned", saved)
    assert watched(other, frames[at:]) == watched(whole, frames[at:])


def test_another_gate_beside_it_decides_and_the_network_remembers(engine):
    frames, alone = frames_of(), gate_of(engine)
    beside = GateBeside(GateNetwork(engine, FACTS, 4.0), EveryGate(1.0))
    plain = EveryGate(1.0)
    for one in frames[:10]:
        dt_s = None if one.time_s == 0 else 0.25
        decision, expected = beside.step(one, dt_s), plain.step(one)
        assert decision.opened == expected.opened and decision.speaks
        summary = alone.step(one, dt_s).state_summary
        assert np.array_equal(decision.state_summary, summary)
    assert beside.idle(2.4).closed == plain.idle(2.4).closed
    saved = saved_gate(beside, "every:1")
    again = GateBeside(GateNetwork(engine, FACTS, 4.0), EveryGate(1.0))
    assert restore_gate(again, "every:1", saved)
    assert watched(again, frames[10:]) == watched(beside, frames[10:])
    beside.reset()
    assert beside.gate.snapshot() == EveryGate(1.0).snapshot()
    held = beside.snapshot()
    again.restore(held)
    assert watched(again, frames) == watched(beside, frames)


def test_what_a_network_remembers_is_put_back_under_another_gate(engine):
    frames, before = frames_of(), gate_of(engine)
    watched(before, frames[:8])
    other = GateBeside(GateNetwork(engine, FACTS, 4.0), EveryGate(1.0))
    assert not restore_gate(other, "every:1", saved_gate(before, "learned"))
    kept, ours = other.network.snapshot(), before.network.snapshot()
    assert np.array_equal(kept["ssm"], ours["ssm"])
    again = gate_of(engine)
    assert not restore_gate(again, "learned", saved_gate(other, "every:1"))
    assert np.array_equal(again.network.snapshot()["ssm"], ours["ssm"])


def test_a_number_that_is_none_is_an_error_and_changes_nothing(engine):
    gate, (first, second, third) = gate_of(engine), frames_of(3)
    gate.step(first)
    before = gate.network.snapshot()["ssm"].copy()
    broken = replace(second, summary=np.full(DIM, np.nan, np.float32))
    with pytest.raises(EngineNotFinite, match="gate"):
        gate.step(broken, 0.25)
    assert np.array_equal(gate.network.snapshot()["ssm"], before)
    gate.step(third, 0.5)


def test_a_state_of_another_network_is_refused(engine):
    for arrays in ({}, {"ssm": np.zeros((1, 2), np.float32)}, {"conv": np.zeros((1, WIDTH))}):
        with pytest.raises(StateInvalid, match="arrays"):
            GateNetwork(engine, FACTS, 4.0).restore(arrays)


@pytest.mark.parametrize(
    "changes",
    [
        {"events": ("cut",)},
        {"state": ()},
        {"state": (*FACTS.state, TensorSpec("conv", "float32", (1, 2)))},
        {"attributes": {"mood": ("good", "bad")}},
    ],
)
def test_a_graph_that_the_manifest_does_not_describe_is_refused(engine, changes):
    with pytest.raises(EngineUnusable, match="the gate takes"):
        GateNetwork(engine, replace(FACTS, **changes), 4.0)


def test_as_many_scores_as_events_are_a_gate_without_a_wish(engine):
    network = GateNetwork(engine, replace(FACTS, events=("a", "b", "c")), 4.0)
    assert network.names == ("a", "b", "c")
