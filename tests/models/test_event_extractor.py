"""StreamMind's extractor and gate: a scan is its steps, and both are the equations."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.event_extractor import EventExtractor, ExtractorShape
from edgestream.models.families import load_checkpoint
from edgestream.models.perception_gate import PerceptionGate

from ..streammind_twin import StreamMindTwin, save_streammind

SHAPE = ExtractorShape(dim=12, width=16, blocks=2)


def extractor(seed: int = 0) -> EventExtractor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return EventExtractor(SHAPE).eval().requires_grad_(False)


def stepped(one: EventExtractor, frames: torch.Tensor, state):
    rows = []
    for index in range(frames.shape[1]):
        token, *state = one.step(frames[:, index], *state)
        rows.append(token)
    return torch.stack(rows, 1), tuple(state)


@pytest.mark.medium
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 3))
def test_a_scan_is_its_steps(seed, frames, batch):
    random = torch.Generator().manual_seed(seed)
    one = extractor(seed)
    x = 2 * torch.randn(batch, frames, SHAPE.dim, generator=random)
    state = tuple(torch.randn(part.shape, generator=random) for part in one.first_state(batch))
    expected, last = stepped(one, x, state)
    found, *after = one.scan(x, *state)
    assert (found - expected).abs().max() <= 1e-4
    for ours, theirs in zip(after, last, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4


def test_a_scan_in_two_stretches_is_one():
    one, x = extractor(), torch.randn(2, 21, SHAPE.dim)
    whole, *_ = one.scan(x, *one.first_state(2))
    first, *state = one.scan(x[:, :8], *one.first_state(2))
    second, *_ = one.scan(x[:, 8:], *state)
    assert (torch.cat([first, second], 1) - whole).abs().max() <= 1e-4


def test_a_frame_costs_the_same_after_an_hour():
    """The state has a size of its own: at the released sizes 160 Ki numbers."""
    shape = ExtractorShape()
    assert shape.inner * (shape.taps - 1 + shape.state) == 155_648
    one, state = extractor(), extractor().first_state()
    for _ in range(3):
        _, *state = one.step(torch.randn(1, SHAPE.dim), *state)
    assert [part.shape for part in state] == [part.shape for part in one.first_state()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_streammind(tmp_path_factory.mktemp("streammind") / "checkpoint")


@pytest.mark.medium
def test_steps_and_scan_are_the_equations(folder):
    loaded, twin = load_checkpoint(folder), StreamMindTwin(folder)
    pixels = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    means = [twin.patch_mean(one) for one in pixels]
    gate, state = loaded.gate, loaded.gate.first_state()
    expected = twin.tokens(means)
    scores = []
    for one, mean, token in zip(pixels, means, expected, strict=True):
        tokens, summary = loaded.vision(one[None])
        assert (tokens[0, 0] - mean).abs().max() <= 1e-5
        torch.testing.assert_close(summary[0], mean / mean.norm())
        response, told, *state = gate(tokens, *state)
        assert (told[0] - token).abs().max() <= 1e-4
        assert loaded.connector(tokens, told).shape == (1, 1, 64)
        assert abs(response.item() - twin.response(token)) <= 1e-5
        scores.append(response.item())
    assert np.ptp(scores) > 0.1, "the gate has an opinion"
    frames = torch.stack(means)[None, :, None]
    whole = gate.sequence(frames, frames, frames, frames)
    assert (whole.state_summary[0] - torch.stack(expected)).abs().max() <= 1e-4
    assert (torch.sigmoid(whole.logits[0, :, 0]) - torch.tensor(scores)).abs().max() <= 1e-5


@pytest.mark.slow
def test_the_graph_follows_a_stream_as_the_equations_do(folder, tmp_path):
    gate, twin = load_checkpoint(folder).gate, StreamMindTwin(folder)
    means = list(torch.randn(30, 48, generator=torch.Generator().manual_seed(2)))
    path = tmp_path / "gate.onnx"
    examples = [torch.zeros(1, 1, 48), *gate.first_state()]
    onnx_from_torch(gate, examples, gate.input_names(), gate.output_names(), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    carried = [part.numpy() for part in gate.first_state()]
    for mean, token in zip(means, twin.tokens(means), strict=True):
        inputs = [mean[None, None].numpy(), *carried]
        got = session.run(None, dict(zip(gate.input_names(), inputs, strict=True)))
        told = dict(zip(gate.output_names(), got, strict=True))
        assert np.abs(told["state_summary"][0] - token.numpy()).max() <= 1e-4
        assert abs(told["scores"].item() - twin.response(token)) <= 1e-4
        carried = got[-2:]


def test_queries_and_keys_take_no_part():
    """A token with nothing before it: what the gate leaves out cannot change what it says."""
    config = MistralConfig(
        vocab_size=90, hidden_size=16, intermediate_size=40, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    gate = PerceptionGate(SHAPE, config, 3).eval().requires_grad_(False)
    token = torch.randn(7, 16)
    model = gate.cls_net.cls_model
    assert (model.config.vocab_size, model.config.num_hidden_layers) == (2, 3)
    for _ in range(2):
        expected = model(inputs_embeds=token[:, None]).logits[:, 0]
        assert (gate.judged(token) - expected).abs().max() <= 1e-5
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.normal_()
            layer.self_attn.k_proj.weight.normal_()
