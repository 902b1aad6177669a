"""Graphs one by one: the same numbers as PyTorch, every matrix traced, traps refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from edgestream.export.decoder_onnx import decoder_weights, refuse_head_lookalikes
from edgestream.export.evict_graph import evict_graph
from edgestream.export.int8_vision import int8_from_float, stored_int8
from edgestream.export.onnx_from_torch import constant_matmuls, onnx_from_torch, remove_graph
from edgestream.export.traced_weights import traced_weights
from edgestream.quant.numerics import quantize_int8_per_channel
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import BundleError, EngineError

HEADS, SLOTS, HEAD_DIM = 2, 24, 8


class TwoLayers(nn.Module):
    """Two linear layers of different widths, and one that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 24)
        self.again = nn.Linear(24, 24)
        self.last = nn.Linear(24, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.last(self.again(torch.relu(self.again(x))))


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return TwoLayers().eval()


@pytest.fixture(scope="module")
def written(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    model = onnx_from_torch(module, [torch.zeros(1, 5, 16)], ["x"], ["y"], folder / "f.onnx")
    int8_from_float(folder / "f.onnx", folder / "q.onnx")
    return model, folder


@pytest.mark.medium
def test_a_float_graph_gives_what_pytorch_gives_and_holds_no_path(module, written):
    _, folder = written
    x = torch.randn(1, 5, 16)
    with OrtBackend("cpu").open(folder / "f.onnx") as engine, torch.inference_mode():
        np.testing.assert_allclose(engine.run({"x": x.numpy()})["y"], module(x), atol=1e-5)
    content = (folder / "f.onnx").read_bytes()
    assert b".py" not in content and b"site-packages" not in content


def test_every_matrix_is_quantized_once_and_traced_to_its_parameter(module, written):
    model, folder = written
    import onnx

    quantized = onnx.load(str(folder / "q.onnx"))
    stored = stored_int8(quantized)
    assert len(constant_matmuls(model)) == len(stored) == 3 and not constant_matmuls(quantized)
    traced = traced_weights(model, stored, module)
    assert sorted(one.parameter for one in traced) == [
        "again.weight", "first.weight", "last.weight",
    ]  # fmt: skip
    for one in traced:
        rows = module.get_parameter(one.parameter).detach().numpy()[slice(*one.rows)]
        ours = quantize_int8_per_channel(rows, 0)
        codes, scales = stored[one.graph_name]
        assert (codes == ours.codes.T).all() and (scales == ours.scales).all()


@pytest.mark.medium
def test_weights_beside_a_graph_are_quantized_and_traced_as_those_inside(module, written, tmp_path):
    model, folder = written
    file = tmp_path / "f.onnx"
    beside = onnx_from_torch(module, [torch.zeros(1, 5, 16)], ["x"], ["y"], file, 0)
    data = tmp_path / "f.onnx.data"
    assert data.stat().st_size >= 4 * (16 * 24 + 24 * 24 + 24 * 10)
    assert file.stat().st_size < 3000 and b".py" not in file.read_bytes()
    x = {"x": torch.randn(1, 5, 16).numpy()}
    with OrtBackend("cpu").open(file) as one, OrtBackend("cpu").open(folder / "f.onnx") as other:
        np.testing.assert_array_equal(one.run(x)["y"], other.run(x)["y"])
    int8_from_float(file, tmp_path / "q.onnx")
    with (
        OrtBackend("cpu").open(tmp_path / "q.onnx") as one,
        OrtBackend("cpu").open(folder / "q.onnx") as other,
    ):
        np.testing.assert_array_equal(one.run(x)["y"], other.run(x)["y"])
    names = constant_matmuls(beside)
    assert names == constant_matmuls(model)
    assert traced_weights(beside, names, module, tmp_path) == traced_weights(model, names, module)
    # Tracing has read the weights and left them where they were.
    assert beside.ByteSize() < 3000
    remove_graph(file)
    assert not file.exists() and not data.exists() and (tmp_path / "q.onnx").exists()


def test_a_constant_that_is_no_parameter_is_refused(written):
    model, _ = written
    torch.manual_seed(1)
    with pytest.raises(EngineError, match="cannot be proven"):
        traced_weights(model, dict.fromkeys(constant_matmuls(model)), TwoLayers())


@pytest.mark.medium
@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, SLOTS - 1), min_size=1), st.integers(0, 2**32 - 1))
def test_eviction_turns_each_key_by_how_far_it_moved(evict_engine_file, slots, seed):
    """Against the naive loop: one slot, one pair of numbers at a time."""
    keep = np.array(sorted(slots))
    random = np.random.default_rng(seed)
    key, value = random.standard_normal((2, 1, HEADS, SLOTS, HEAD_DIM), np.float32)
    half = HEAD_DIM // 2
    angles = np.arange(SLOTS)[:, None] * 50_000.0 ** (-np.arange(half) / half)
    inputs = {
        "key": key,
        "value": value,
        "keep": keep,
        "delta": keep - np.arange(len(keep)),
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
    }
    with OrtBackend("cpu").open(evict_engine_file) as engine:
        found = engine.run(inputs)
    for new, old in enumerate(keep):
        assert (found["kept_value"][:, :, new] == value[:, :, old]).all()
        for head in range(HEADS):
            for pair in range(half):
                angle = -(old - new) * 50_000.0 ** (-pair / half)
                a, b = key[0, head, old, pair], key[0, head, old, pair + half]
                turned = (
                    a * np.cos(angle) - b * np.sin(angle),
                    a * np.sin(angle) + b * np.cos(angle),
                )
                got = found["kept_key"][0, head, new, [pair, pair + half]]
                np.testing.assert_allclose(got, turned, atol=1e-5)


@pytest.fixture(scope="module")
def evict_engine_file(tmp_path_factory):
    import onnx

    path = tmp_path_factory.mktemp("evict") / "evict.onnx"
    onnx.save(evict_graph(HEADS, HEAD_DIM), str(path))
    return path


def test_a_layer_as_wide_as_the_vocabulary_is_refused_by_name():
    config = LlamaConfig(
        hidden_size=32, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=96,
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"layers\.0\.mlp\.gate_proj is 96 wide"):
        refuse_head_lookalikes(LlamaForCausalLM(config))
    config.vocab_size = 97
    refuse_head_lookalikes(LlamaForCausalLM(config))


def test_every_matrix_of_a_decoder_is_named():
    names = [weight.name for weight in decoder_weights(2, is_tied=True)]
    assert len(names) == 9 and names[-1] == "lm_head.MatMul.weight"
    assert decoder_weights(1, is_tied=False)[-1].parameters == ("lm_head.weight",)
