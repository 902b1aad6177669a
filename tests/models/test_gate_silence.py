"""A gate that hears when it last spoke: each law holds for every head."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.cognition_gate import CognitionGate
from edgestream.models.gate_heads import Silence

from .test_cognition_gate import gate, query, stream
from .test_gate_heads import EACH, shape_of


def hearing(name: str, *, events: int = 3) -> CognitionGate:
    """As if it had been trained: to begin with it is deaf."""
    made = gate(shape_of(name, events=events, spoken=True))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        made.since.told.weight.normal_(std=0.3)
    return made


def spoken_of(frames: int, batch: int = 1, seed: int = 4):
    return torch.rand(batch, frames, generator=torch.Generator().manual_seed(seed))


def stepped(watching: CognitionGate, frames, asked, spoken):
    """Outputs by name, of each frame in turn."""
    state, told = watching.first_state(len(asked)), []
    for index in range(spoken.shape[1]):
        *seen, dt_s = (part[:, index] for part in frames)
        out = watching(*seen, asked, spoken[:, index, None], dt_s[:, None], *state)
        told.append(dict(zip(watching.output_names(), out, strict=True)))
        state = out[-2:]
    return told


@EACH
@settings(deadline=None, max_examples=8)
@given(frames=st.integers(1, 9), batch=st.integers(1, 3), seed=st.integers(0, 99),
       events=st.sampled_from([0, 3]))  # fmt: skip
def test_streams_at_once_are_frames_one_by_one(name, frames, batch, seed, events):
    watching, shown = hearing(name, events=events), stream(max(frames, 4), batch, seed)
    shown, asked = tuple(part[:, :frames] for part in shown), query(batch, seed)
    spoken = spoken_of(frames, batch, seed)
    whole = watching.sequence(*shown, query=asked, spoken=spoken)
    told = stepped(watching, shown, asked, spoken)
    for index, one in enumerate(told):
        assert (torch.sigmoid(whole.logits[:, index]) - one["scores"]).abs().max() <= 1e-5
        assert (whole.state_summary[:, index] - one["state_summary"]).abs().max() <= 1e-5
    assert (whole.ssm - told[-1]["new_ssm"]).abs().max() <= 1e-5


@EACH
def test_when_it_last_spoke_changes_the_wish_to_speak_alone(name):
    watching, shown = hearing(name), stream(6)
    never = watching.sequence(*shown, query=query())
    now = watching.sequence(*shown, query=query(), spoken=torch.zeros(1, 6))
    assert (never.logits - now.logits)[..., 0].abs().min() > 1e-5
    assert torch.equal(never.logits[..., 1:], now.logits[..., 1:])
    assert torch.equal(never.state_summary, now.state_summary)
    assert torch.equal(never.ssm, now.ssm)
    ones = watching.sequence(*shown, query=query(), spoken=torch.ones(1, 6))
    assert torch.equal(never.logits, ones.logits)


@EACH
def test_a_new_gate_begins_where_one_without_it_does(name):
    """Same seed, same weights; what it hears says nothing yet."""
    shown, plain, new = stream(6), gate(shape_of(name)), gate(shape_of(name, spoken=True))
    theirs = plain.state_dict()
    ours = {key: one for key, one in new.state_dict().items() if not key.startswith("since.")}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(one, theirs[key]) for key, one in ours.items())
    told = new.sequence(*shown, query=query(), spoken=spoken_of(6)).logits
    assert torch.equal(told, plain.sequence(*shown, query=query()).logits)


def test_a_new_gate_can_learn_to_hear_it():
    """Zeros in one place only: where they are, a gradient comes."""
    made = Silence(8).requires_grad_(True)
    made(torch.rand(5, 1)).sum().backward()
    assert made.told.weight.grad.abs().min() > 0


@pytest.mark.parametrize("seconds", [0.25, 1.0, 2.0, 4.0, 10.0, 30.0])
def test_silences_of_a_few_frames_more_are_told_apart(seconds):
    at = [np.log1p(one) / np.log1p(120) for one in (seconds, 1.25 * seconds)]
    steps = torch.sigmoid(Silence(8).steps(torch.tensor(at, dtype=torch.float32)[:, None]))
    assert (steps[1] - steps[0]).max() > 0.1


@pytest.mark.medium
@EACH
def test_the_graph_follows_a_stream_as_pytorch_does(tmp_path, name):
    watching, shown, asked, spoken = hearing(name), stream(12), query(), spoken_of(12)
    examples = [*(part[:, 0] for part in shown[:3]), asked, spoken[:, :1], shown[3][:, :1]]
    examples += [*watching.first_state()]
    names = watching.input_names()
    assert names == ["tokens", "summary", "motion", "query", "spoken", "dt_s", "conv", "ssm"]
    onnx_from_torch(watching, examples, names, watching.output_names(), tmp_path / "gate.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "gate.onnx", providers=["CPUExecutionProvider"]
    )
    carried = [part.numpy() for part in watching.first_state()]
    for index, expected in enumerate(stepped(watching, shown, asked, spoken)):
        inputs = [*(part[:, index] for part in shown[:3]), asked, spoken[:, index, None],
                  shown[3][:, index, None]]  # fmt: skip
        got = session.run(
            None, dict(zip(names, [*(one.numpy() for one in inputs), *carried], strict=True))
        )
        for output, ours in zip(watching.output_names(), got, strict=True):
            np.testing.assert_allclose(ours, expected[output], atol=1e-4, err_msg=output)
        carried = got[-2:]
