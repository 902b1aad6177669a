"""The cognition gate: one frame at a time, whole streams at once, and as a graph."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.cognition_gate import CognitionGate, GateShape

SHAPE = GateShape(dim=48, tokens=5, events=3, attributes={"colour": 4, "side": 2}, width=32)
LIVE = GateShape(dim=48, tokens=1, events=2, width=32, reads=("summary",))
ASKED = GateShape(dim=48, tokens=1, events=0, width=32, reads=("summary", "query"), query_dim=24)
SHAPES = [SHAPE, LIVE, ASKED]
READ = ("tokens", "summary", "motion", "query")


def gate(shape: GateShape = SHAPE) -> CognitionGate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CognitionGate(shape).eval().requires_grad_(False)


def stream(frames: int, batch: int = 1, seed: int = 1):
    random = torch.Generator().manual_seed(seed)
    sizes = ((5, 48), (48,), (6, 7, 7))
    seen = [torch.randn(batch, frames, *size, generator=random) for size in sizes]
    seen[0][:, 3] = seen[0][:, 2]  # a still frame: tokens of the one before, motion of its own
    return (*seen, torch.rand(batch, frames, generator=random))


def query(batch: int = 1, seed: int = 2):
    return torch.randn(batch, 24, generator=torch.Generator().manual_seed(seed))


def stepped(watching: CognitionGate, frames, asked=None):
    """Outputs by name, of each frame in turn."""
    batch = len(frames[0])
    state, told = watching.first_state(batch), []
    asked = torch.zeros(batch, 24) if asked is None else asked
    for index in range(frames[0].shape[1]):
        *seen, dt_s = (part[:, index] for part in frames)
        given = dict(zip(READ, (*seen, asked), strict=True))
        read = [given[name] for name in watching.shape.reads]
        out = watching(*read, dt_s[:, None], *state)
        told.append(dict(zip(watching.output_names(), out, strict=True)))
        state = out[-2:]
    return told


@pytest.mark.parametrize("shape", SHAPES)
def test_streams_at_once_are_frames_one_by_one(shape):
    watching, frames = gate(shape), stream(20, batch=3)
    asked = query(3)
    whole = watching.sequence(*frames, query=asked)
    told = stepped(gate(shape), frames, asked)
    for index, one in enumerate(told):
        assert (torch.sigmoid(whole.logits[:, index]) - one["scores"]).abs().max() <= 1e-5
        assert (whole.state_summary[:, index] - one["state_summary"]).abs().max() <= 1e-5
        for name, logits in whole.attributes.items():
            shares = torch.softmax(logits[:, index], -1)[:, :-1]
            assert (shares - one[f"attribute_{name}"]).abs().max() <= 1e-5
    assert (whole.ssm - told[-1]["new_ssm"]).abs().max() <= 1e-5
    assert (whole.conv - told[-1]["new_conv"]).abs().max() <= 1e-5


@pytest.mark.medium
@pytest.mark.parametrize("shape", SHAPES)
def test_the_graph_follows_a_stream_as_pytorch_does(tmp_path, shape):
    watching, frames = gate(shape), stream(40)
    asked = query()
    given = dict(zip(READ, (*frames[:3], asked[:, None].expand(-1, 40, -1)), strict=True))
    examples = [given[name][:, 0] for name in shape.reads]
    examples += [frames[3][:, :1], *watching.first_state()]
    path = tmp_path / "gate.onnx"
    onnx_from_torch(watching, examples, watching.input_names(), watching.output_names(), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    carried = [part.numpy() for part in watching.first_state()]
    for index, expected in enumerate(stepped(watching, frames, asked)):
        inputs = [given[name][:, index].numpy() for name in shape.reads]
        inputs += [frames[3][:, index : index + 1].numpy(), *carried]
        got = session.run(None, dict(zip(watching.input_names(), inputs, strict=True)))
        for name, ours in zip(watching.output_names(), got, strict=True):
            np.testing.assert_allclose(ours, expected[name], atol=1e-4, err_msg=name)
        carried = got[-2:]


def test_what_it_tells_are_shares():
    watching = gate()
    told = stepped(watching, [50 * part for part in stream(6, batch=2)])[-1]
    assert told["scores"].shape == (2, 4) and told["attribute_colour"].shape == (2, 4)
    for name in ("scores", "attribute_colour", "attribute_side"):
        assert ((told[name] >= 0) & (told[name] <= 1)).all()
    assert (told["attribute_side"].sum(-1) <= 1 + 1e-6).all()


def test_motion_of_a_still_frame_is_heard():
    watching, frames = gate(), list(stream(4))
    before = stepped(watching, frames)[-1]["scores"]
    frames[2] = frames[2].clone()
    frames[2][:, 3] += 4.0
    assert (stepped(watching, frames)[-1]["scores"] - before).abs().max() > 1e-3


def test_motion_is_read_in_its_own_units():
    """The scale of a map is part of the graph: doubled, the map counts half."""
    shape = GateShape(dim=48, tokens=5, events=3, attributes=SHAPE.attributes, width=32,
                      map_std=tuple(2 * one for one in SHAPE.map_std))  # fmt: skip
    frames = stream(5)
    doubled = (*frames[:2], 2 * frames[2], frames[3])
    left, right = gate().sequence(*frames), gate(shape).sequence(*doubled)
    assert (left.logits - right.logits).abs().max() <= 1e-6


def test_a_query_changes_what_is_told_and_not_what_is_remembered():
    watching, frames = gate(ASKED), stream(6)
    none, one = watching.sequence(*frames), watching.sequence(*frames, query=query())
    assert (none.logits - one.logits).abs().max() > 1e-3
    assert torch.equal(none.state_summary, one.state_summary) and torch.equal(none.ssm, one.ssm)
    zeros = watching.sequence(*frames, query=torch.zeros(1, 24))
    assert torch.equal(none.logits, zeros.logits)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"events": -1}, "events and token_width are -1 and 0"),
        ({"reads": ("query",), "query_dim": 8}, "reads"),
        ({"reads": ("summary", "query")}, "query_dim 0"),
        ({"query_dim": 8}, "query_dim 8"),
        ({"width": 0}, "width is 0"),
        ({"attributes": {"side": 0}}, "side is 0"),
        ({"reads": ()}, "reads"),
        ({"reads": ("motion", "tokens")}, "in this order"),
    ],
)
def test_sizes_that_make_no_gate_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        GateShape(**sizes)
