"""The event gate: state in and out, in PyTorch and as a graph, at any frame rate."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.event_gate import EventGate, GateShape

SHAPE = GateShape(dim=48, events=2, width=32)
NAMES = ["summary", "dt_s", "conv", "ssm"]


def gate() -> EventGate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EventGate(SHAPE).eval().requires_grad_(False)


def test_the_graph_follows_a_stream_as_pytorch_does(tmp_path):
    watching = gate()
    state = watching.first_state()
    example = [torch.randn(1, 48), torch.tensor([[0.5]]), *state]
    outputs = ["scores", "state_summary", "new_conv", "new_ssm"]
    onnx_from_torch(watching, example, NAMES, outputs, tmp_path / "gate.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "gate.onnx", providers=["CPUExecutionProvider"]
    )
    carried = [part.numpy() for part in state]
    for index in range(100):
        summary, dt_s = torch.randn(1, 48), torch.tensor([[0.25 + index % 3]])
        expected = watching(summary, dt_s, *state)
        inputs = [summary.numpy(), dt_s.numpy(), *carried]
        got = session.run(None, dict(zip(NAMES, inputs, strict=True)))
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        state, carried = expected[2:], got[2:]


def test_a_state_taken_out_and_put_back_continues_exactly():
    watching = gate()
    frames = [torch.randn(1, 48) for _ in range(8)]
    dt_s, state = torch.tensor([[0.5]]), watching.first_state()
    for frame in frames[:4]:
        *_, conv, ssm = watching(frame, dt_s, *state)
        state = (conv, ssm)
    kept = tuple(part.clone() for part in state)
    first, again = (watching(frames[4], dt_s, *part) for part in (state, kept))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_scores_are_shares_and_time_makes_the_past_fade():
    watching = gate()
    conv, ssm = watching.first_state()
    scores, summary, *_ = watching(torch.randn(1, 48) * 50, torch.tensor([[0.5]]), conv, ssm)
    assert scores.shape == (1, 2) and summary.shape == (1, 32)
    assert (scores >= 0).all() and (scores <= 1).all()
    full = torch.ones_like(ssm)
    frame = torch.zeros(1, 48)
    soon, late = (watching(frame, torch.tensor([[dt]]), conv, full)[3] for dt in (0.1, 100.0))
    empty = watching(frame, torch.tensor([[100.0]]), conv, torch.zeros_like(ssm))[3]
    assert (late - empty).abs().max() < (soon - empty).abs().min()


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="width is 0"):
        GateShape(dim=48, events=2, width=0)
