"""When a gate last spoke: the number that it reads, who hears of it, and what is saved of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineUnusable, StateInvalid
from edgestream.runtime.gate import EveryGate
from edgestream.runtime.gate_learned import GateBeside, LearnedGate
from edgestream.runtime.gate_network import GateNetwork
from edgestream.runtime.gate_state import restore_gate, saved_gate
from edgestream.runtime.last_spoke import LONGEST_S, NEVER, LastSpoke, spoken_along, spoken_of
from edgestream.runtime.learned_phases import learned_rules
from edgestream.runtime.manifest import manifest_from_json
from edgestream.runtime.manifest_values import GateFacts, TensorSpec
from edgestream.runtime.state_snapshot import SavedPart

from ..bundles import FACTS as BUNDLE_FACTS
from ..onnx_graphs import model, node
from .test_gate_learned import DIM, FACTS, frames_of

HEARS = GateFacts(
    "learned", (), {"speak": 0.5}, state=(TensorSpec("ssm", "float32", (1, DIM)),),
    reads_spoken=True,
)  # fmt: skip


def graph():
    """It speaks where it was silent for a second and a half, and not at the frame before."""
    nodes = [
        node("Add", ["ssm", "summary"], ["new_ssm"]),
        node("Sub", ["spoken", "rest"], ["more"]),
        node("Mul", ["more", "steep"], ["raw"]),
        node("Sigmoid", ["raw"], ["scores"]),
    ]
    inputs = [
        ("summary", "float32", [1, DIM]),
        ("spoken", "float32", [1, 1]),
        ("ssm", "float32", [1, DIM]),
    ]
    rest = spoken_of(1.4)[None].astype(np.float32)
    constants = {"rest": rest, "steep": np.float32([100.0])}
    outputs = [("scores", "float32", [1, 1]), ("new_ssm", "float32", [1, DIM])]
    return model(nodes, inputs, outputs, constants)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("gate") / "gate.onnx"
    path.write_bytes(graph())
    return OrtBackend().open(path)


def gate_of(engine):
    return LearnedGate(GateNetwork(engine, HEARS, 4.0), learned_rules(HEARS, has_speak=True))


def decided(gate, frames):
    told = [gate.step(one, 0.25) for one in frames]
    return [(one.opened, one.closed, one.speaks, one.scores) for one in told]


def moments(decisions, frames):
    pairs = zip(decisions, frames, strict=True)
    return [frame.time_s for (_, _, speaks, _), frame in pairs if speaks]


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_the_number_rises_with_the_silence_up_to_its_end(one, other):
    told = spoken_of(np.array(sorted([one, other])))
    assert told.dtype == np.float32 and 0 <= told[0] <= told[1] <= NEVER


@pytest.mark.parametrize(("seconds", "told"), [
    (0.0, 0.0), (3.0, math.log(4) / math.log(121)), (LONGEST_S, 1.0), (1e6, 1.0),
    (math.inf, NEVER), (-1.0, 0.0),
])  # fmt: skip
def test_it_is_the_bounded_logarithm(seconds, told):
    assert spoken_of(seconds) == pytest.approx(told, abs=1e-7)


@given(st.lists(st.tuples(st.floats(0.01, 200), st.booleans()), max_size=60))
def test_a_whole_stream_at_once_is_frame_by_frame(frames):
    times_s = np.cumsum([step for step, _ in frames])
    speaks = np.array([one for _, one in frames], np.bool_)
    last, expected = LastSpoke(), []
    for time_s, one in zip(times_s, speaks, strict=True):
        expected.append(last.at(time_s))
        last.step(time_s, speaks=bool(one))
    assert spoken_along(times_s, speaks).tolist() == expected


def test_a_gate_hears_of_its_own_decision_at_the_next_frame(engine):
    frames = frames_of(40)
    told = decided(gate_of(engine), frames)
    assert moments(told, frames) == [0.0, 1.5, 3.0, 4.5, 6.0, 7.5, 9.0]
    assert told[0][3]["speak"] > 0.99 > 0.01 > told[1][3]["speak"]


def test_a_silence_that_a_gap_makes_longer_is_a_longer_silence(engine):
    gate, frames = gate_of(engine), frames_of(8)
    decided(gate, frames[:2])
    later = replace(frames[2], time_s=9.0)
    assert gate.step(later, 8.75).speaks


def test_after_a_reset_it_has_never_spoken(engine):
    gate, frames = gate_of(engine), frames_of(20)
    first = decided(gate, frames)
    gate.reset()
    assert decided(gate, frames) == first


@pytest.mark.parametrize("at", [0, 1, 4, 11])
def test_a_saved_gate_goes_on_with_when_it_last_spoke(engine, at):
    frames, whole, stopped = frames_of(20), gate_of(engine), gate_of(engine)
    expected = decided(whole, frames)
    decided(stopped, frames[:at])
    saved = saved_gate(stopped, "learned")
    assert saved.values.get("spoke_s") == (None if at == 0 else 1.5 * ((at - 1) // 6))
    saved = SavedPart(json.loads(json.dumps(saved.values, allow_nan=False)), saved.arrays)
    again = gate_of(engine)
    assert restore_gate(again, "learned", saved)
    assert decided(again, frames[at:]) == expected[at:]
    held = whole.snapshot()
    again.restore(held)
    assert again.snapshot().spoke_s == held.spoke_s == 4.5


@pytest.mark.parametrize("wrong", ["yesterday", True, float("nan")])
def test_a_saved_time_that_is_none_is_refused(engine, wrong):
    gate = gate_of(engine)
    decided(gate, frames_of(3))
    saved = saved_gate(gate, "learned")
    with pytest.raises(StateInvalid, match="spoke_s: got"):
        restore_gate(gate, "learned", SavedPart({**saved.values, "spoke_s": wrong}, saved.arrays))


def test_where_another_gate_decides_it_has_never_spoken(engine):
    frames, given = frames_of(6), []

    class Listening:
        inputs, outputs = engine.inputs, engine.outputs

        def run(self, arrays):
            given.append(arrays["spoken"].item())
            return engine.run(arrays)

    beside = GateBeside(GateNetwork(Listening(), HEARS, 4.0), EveryGate(0.5))
    assert sum(bool(beside.step(one, 0.25).opened) for one in frames) > 1
    assert given == [NEVER] * 6


def test_a_gate_that_does_not_hear_it_is_saved_as_it_was(tmp_path):
    from .test_gate_learned import graph as old

    path = tmp_path / "gate.onnx"
    path.write_bytes(old())
    network = GateNetwork(OrtBackend().open(path), FACTS, 4.0)
    gate = LearnedGate(network, learned_rules(FACTS, has_speak=True))
    assert any(gate.step(one, 0.25).speaks for one in frames_of())
    assert saved_gate(gate, "learned").values.keys() == {"gate", "state"}
    with pytest.raises(EngineUnusable, match="and that it reads when it last spoke"):
        GateNetwork(OrtBackend().open(path), replace(FACTS, reads_spoken=True), 4.0)


def test_a_graph_that_hears_more_than_its_manifest_says_is_refused(engine):
    with pytest.raises(EngineUnusable, match="takes summary, spoken, ssm"):
        GateNetwork(engine, replace(HEARS, reads_spoken=None), 4.0)


def test_the_manifest_says_that_a_gate_hears_it():
    facts = json.loads(json.dumps(BUNDLE_FACTS))
    files = {"embeddings.bin": {"sha256": "3" * 64, "bytes": 256}}
    plain = manifest_from_json({**facts, "parts": [], "files": files})
    assert plain.gate.reads_spoken is None and "reads_spoken" not in plain.as_json()["gate"]
    facts["gate"]["reads_spoken"] = True
    made = manifest_from_json({**facts, "parts": [], "files": files})
    assert made.gate.reads_spoken and manifest_from_json(made.as_json()) == made
