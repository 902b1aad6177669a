"""Heads of a cognition gate: each law holds for every one of them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.models.gate_heads import HeadShape
from edgestream.models.llm_head import LlmHead, early_layers, fill_from_

from .test_cognition_gate import gate, query, stepped, stream

DECODER = {"model_type": "llama", "hidden_size": 24, "intermediate_size": 32,
           "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
           "vocab_size": 2}  # fmt: skip
HEADS = {
    "linear": HeadShape(),
    "narrow": HeadShape(narrow=6),
    "mlp": HeadShape("mlp"),
    "over the query": HeadShape("cross-attention"),
    "over the frame": HeadShape("cross-attention", over="frame"),
    "one layer": HeadShape("llm", layers=1, decoder=DECODER),
    "two layers": HeadShape("llm", layers=2, decoder=DECODER),
    "qwen2": HeadShape("llm", layers=1, decoder={**DECODER, "model_type": "qwen2"}),
}
EACH = pytest.mark.parametrize("name", HEADS)


def shape_of(
    name: str, *, asked: bool = True, events: int = 3, token_width: int = 0, spoken: bool = False
) -> GateShape:
    heard = (*(("query",) if asked else ()), *(("spoken",) if spoken else ()))
    reads = ("tokens", "summary", "motion", *heard)
    return GateShape(
        dim=48, tokens=5, events=events, attributes={"side": 2} if events else {}, width=32,
        layers=1, reads=reads, query_dim=24 if asked else 0, token_width=token_width,
        head=HEADS[name],
    )  # fmt: skip


@EACH
@settings(deadline=None, max_examples=8)
@given(
    frames=st.integers(1, 9), batch=st.integers(1, 3), seed=st.integers(0, 99),
    events=st.sampled_from([0, 3]), token_width=st.sampled_from([0, 4]),
)  # fmt: skip
def test_streams_at_once_are_frames_one_by_one(name, frames, batch, seed, events, token_width):
    watching = gate(shape_of(name, events=events, token_width=token_width))
    shown = stream(max(frames, 4), batch, seed)
    shown, asked = tuple(part[:, :frames] for part in shown), query(batch, seed)
    whole, told = watching.sequence(*shown, query=asked), stepped(watching, shown, asked)
    for index, one in enumerate(told):
        assert one["scores"].shape == (batch, 1 + events)
        assert (torch.sigmoid(whole.logits[:, index]) - one["scores"]).abs().max() <= 1e-5
        assert (whole.state_summary[:, index] - one["state_summary"]).abs().max() <= 1e-5
    assert (whole.ssm - told[-1]["new_ssm"]).abs().max() <= 1e-5


@EACH
def test_the_query_changes_the_wish_to_speak_alone(name):
    watching, shown = gate(shape_of(name)), stream(6)
    none, one = watching.sequence(*shown), watching.sequence(*shown, query=query())
    assert (none.logits - one.logits)[..., 0].abs().max() > 1e-5
    assert torch.equal(none.logits[..., 1:], one.logits[..., 1:])
    assert torch.equal(none.state_summary, one.state_summary) and torch.equal(none.ssm, one.ssm)
    zeros = watching.sequence(*shown, query=torch.zeros(1, 24))
    assert torch.equal(none.logits, zeros.logits)


@EACH
def test_two_queries_weigh_the_frames_differently(name):
    """Not a shift that is the same at every frame: which of two frames is worth a word turns."""
    watching, shown = gate(shape_of(name)), stream(12)
    with torch.no_grad():
        for parameter in watching.speak.parameters():
            parameter.mul_(4.0)  # random weights alone are nearly linear
    left, right = (watching.sequence(*shown, query=query(seed=seed)).logits[0, :, 0]
                   for seed in (3, 4))  # fmt: skip
    shift = left - right
    assert (shift - shift.mean()).abs().max() > 1e-3


@pytest.mark.medium
@EACH
def test_the_graph_follows_a_stream_as_pytorch_does(tmp_path, name):
    watching, shown, asked = gate(shape_of(name)), stream(12), query()
    known = dict(zip(("tokens", "summary", "motion"), shown[:3], strict=True))
    first = watching.first_state()
    examples = [*(part[:, 0] for part in known.values()), asked, shown[3][:, :1], *first]
    names = watching.input_names()
    onnx_from_torch(watching, examples, names, watching.output_names(), tmp_path / "gate.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "gate.onnx", providers=["CPUExecutionProvider"]
    )
    carried = [part.numpy() for part in first]
    for index, expected in enumerate(stepped(watching, shown, asked)):
        inputs = [part[:, index].numpy() for part in known.values()]
        inputs += [asked.numpy(), shown[3][:, index : index + 1].numpy(), *carried]
        got = session.run(None, dict(zip(names, inputs, strict=True)))
        for output, ours in zip(watching.output_names(), got, strict=True):
            np.testing.assert_allclose(ours, expected[output], atol=1e-4, err_msg=output)
        carried = got[-2:]


@pytest.mark.parametrize("name", ["linear", "mlp", "over the frame", "one layer"])
def test_a_gate_that_is_asked_nothing_has_these_heads_too(name):
    watching, shown = gate(shape_of(name, asked=False)), stream(5)
    whole, told = watching.sequence(*shown), stepped(watching, shown)
    assert (torch.sigmoid(whole.logits[:, -1]) - told[-1]["scores"]).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_early_layers_are_those_of_the_language_model(kind):
    """The rows as the language model itself reads them: query, then frame, causally."""
    from edgestream.models.transformers_parts import DECODERS

    config_class, model_class = DECODERS[kind]
    described = {name: value for name, value in DECODER.items() if name != "model_type"}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        decoder = model_class(config_class(**described)).eval()
    head = LlmHead(early_layers(decoder, 2), 32, 24).eval()
    fill_from_(head, ModuleWeights(decoder))
    state, asked = torch.randn(3, 32), torch.randn(3, 24)
    rows = torch.stack([asked, head.frame(state)], 1)
    with torch.no_grad():
        decoder.model.norm.weight.fill_(1.0)
        seen = []
        decoder.model.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        decoder(inputs_embeds=rows)
        expected = head.told(head.last_norm(seen[0][:, -1]))
        got = head(state, asked, None)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert (head(state, asked, None) - head(state, 0 * asked, None)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: HeadShape("quadratic"), "'quadratic'"),
        (lambda: HeadShape("cross-attention", over="the moon"), "the moon"),
        (lambda: HeadShape("llm"), "0 layers"),
        (lambda: HeadShape("mlp", layers=2), "2 layers"),
        (lambda: GateShape(head=HEADS["over the query"]), "cross-attention over query"),
        (lambda: GateShape(reads=("summary",), head=HEADS["over the frame"]), "over tokens"),
        (lambda: GateShape(token_width=-1), "token_width"),
        (lambda: CognitionGate(GateShape(reads=("summary", "query"), query_dim=7,
                                         head=HEADS["one layer"])), "a query of 7 numbers"),
        (lambda: CognitionGate(GateShape(head=HeadShape("llm", layers=1, decoder={
            "model_type": "gpt2"}))), "'gpt2'"),
    ],
)  # fmt: skip
def test_heads_that_cannot_be_are_refused(made, words):
    with pytest.raises(ValueError, match=words):
        made()
