"""The layer-wise writer: PyTorch's logits for every build, the builder's graph where it has one."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgestream.calibration.parity import cosines
from edgestream.export.decoder_onnx import decoder_weights, write_decoder
from edgestream.export.external_data import ExternalData
from edgestream.export.kept_rows import kept_rows
from edgestream.export.layer_writer import write_layers
from edgestream.export.stored_tensors import StoredTensors
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.quant.numerics import fake_quantized
from edgestream.quant.schemes import scheme_named
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import BundleError, WeightsInvalid

from ..small_tokenizer import TEXT, trained_tokenizer
from ..text_decoders import CAUSAL, KINDS, VOCABULARY, last_logits, tiny_text_decoder

SCHEMES = ("int8-32", "int8-64", "int8-128", "int4-32", "int4-64", "int4-128")
PREFILL, STEPS = 24, 3


@pytest.fixture(scope="module", params=KINDS)
def decoder(request):
    return tiny_text_decoder(request.param)


def engine_of(folder, decoder, scheme="fp32"):
    weights = ModuleWeights(decoder)
    write_layers(weights, scheme_named(scheme, "decoder"), folder, "decoder")
    return OrtBackend("cpu").open(folder / "decoder.onnx"), weights


def inputs_of(shape, seed=0, count=PREFILL + STEPS):
    """Embeds (count, width) and positions [axes, count], those of a frame among them."""
    random = np.random.default_rng(seed)
    embeds = random.standard_normal((count, shape.width)).astype(np.float32)
    positions = np.tile(np.arange(count), (shape.axes, 1))
    if shape.axes > 1:  # a frame of 2 by 4 at base 5; what follows begins at 1 + max
        rows, columns = np.divmod(np.arange(8), 4)
        positions[:, 5:13] = 5 + np.stack([np.zeros(8, int), rows, columns])
        positions[:, 13:] = 9 + np.arange(count - 13)
    return embeds, positions


def run(engine, embeds, positions, cache):
    held = next(iter(cache.values())).shape[2]
    inputs = {
        "inputs_embeds": embeds[None],
        "attention_mask": np.ones((1, held + len(embeds)), np.int64),
        **cache,
    }
    if len(positions) > 1:
        inputs["position_ids"] = np.ascontiguousarray(positions[:, None])
    outputs = engine.run(inputs)
    logits = outputs.pop("logits")
    return logits, {
        name.replace("present", "past_key_values"): array for name, array in outputs.items()
    }


def empty_cache(shape):
    return {
        f"past_key_values.{layer}.{one}": np.zeros((1, shape.kv_heads, 0, shape.head_dim), "f4")
        for layer in range(shape.layers)
        for one in ("key", "value")
    }


def engine_logits(engine, shape, embeds, positions):
    """Of the last position after a prefill and after each step, (1 + STEPS, vocabulary)."""
    found, cache = [], empty_cache(shape)
    parts = [slice(PREFILL), *(slice(at, at + 1) for at in range(PREFILL, len(embeds)))]
    for part in parts:
        logits, cache = run(engine, embeds[part], positions[:, part], cache)
        assert logits.shape == (1, 1, shape.vocabulary)
        found.append(logits[0, 0])
    return np.stack(found)


def torch_logits(decoder, embeds, positions):
    return np.stack(
        [
            last_logits(
                decoder, torch.from_numpy(embeds[:end]), torch.from_numpy(positions)[:, :end]
            )
            for end in range(PREFILL, len(embeds) + 1)
        ]
    )


def test_a_float_graph_has_the_logits_of_pytorch(decoder, tmp_path):
    engine, weights = engine_of(tmp_path, decoder)
    with engine:
        embeds, positions = inputs_of(weights.shape)
        found = engine_logits(engine, weights.shape, embeds, positions)
    expected = torch_logits(decoder, embeds, positions)
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, float(expected.std()))
    assert expected.std() > 0.1 and len({row.argmax() for row in expected}) > 1


def dequantized(decoder, scheme_of):
    """The same decoder over what is left of its matrices; its head has its own weight."""
    left = copy.deepcopy(decoder)
    left.lm_head.weight = torch.nn.Parameter(left.lm_head.weight.detach().clone())
    with torch.no_grad():
        for name, weight in left.named_parameters():
            if name.endswith(("proj.weight", "lm_head.weight")):
                weight.copy_(
                    torch.from_numpy(fake_quantized(weight.numpy(), scheme_of(name), name))
                )
    return left


@pytest.mark.parametrize("scheme", ["int8-32", "int4-64"])
def test_a_quantized_graph_has_the_logits_of_pytorch_over_what_is_left(decoder, scheme, tmp_path):
    engine, weights = engine_of(tmp_path, decoder, scheme)
    with engine:
        embeds, positions = inputs_of(weights.shape)
        found = engine_logits(engine, weights.shape, embeds, positions)
    expected = torch_logits(
        dequantized(decoder, lambda name: scheme_named(scheme)), embeds, positions
    )
    assert cosines(expected, found).min() >= 0.99


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_matrix_is_kept_as_the_scheme_says(scheme, tmp_path):
    weights = ModuleWeights(tiny_text_decoder("qwen3_vl"))
    chosen = scheme_named(scheme)
    write_layers(weights, chosen, tmp_path, "decoder")
    model = onnx.load(str(tmp_path / "decoder.onnx"))
    stored = StoredTensors(tmp_path / "decoder.onnx")
    matrices = decoder_weights(weights.shape.layers, is_tied=weights.shape.is_tied)
    assert sum(node.op_type == "MatMulNBits" for node in model.graph.node) == len(matrices)
    for matrix in matrices:
        codes, scales = stored.matrix_rows(matrix, chosen)
        made = [
            rows.stored
            for parameter in matrix.parameters
            for rows in kept_rows(weights, parameter, chosen, portion=1000)
        ]
        assert len(made) > 4, "read in small portions, written in large ones"
        assert (codes == np.concatenate([one[0] for one in made])).all()
        assert (scales == np.concatenate([one[1] for one in made])).all()


def test_each_matrix_may_have_a_scheme_of_its_own(tmp_path):
    decoder = tiny_text_decoder("qwen2")
    weights = ModuleWeights(decoder)
    plan = dict.fromkeys(weights.shape.parameters(), scheme_named("int4-32"))
    plan["lm_head.weight"] = scheme_named("int8-32")
    plan["model.layers.1.mlp.down_proj.weight"] = scheme_named("fp32")
    write_layers(weights, plan, tmp_path, "decoder")
    left = dequantized(decoder, lambda name: plan[name])
    embeds, positions = inputs_of(weights.shape)
    with OrtBackend("cpu").open(tmp_path / "decoder.onnx") as engine:
        found = engine_logits(engine, weights.shape, embeds, positions)
    assert cosines(torch_logits(left, embeds, positions), found).min() >= 0.99
    nodes = onnx.load(str(tmp_path / "decoder.onnx"), load_external_data=False).graph.node
    bits = [one.i for node in nodes for one in node.attribute if one.name == "bits"]
    assert sorted(bits) == [4] * 11 + [8]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(kind, scheme) → the builder's graph and ours, for the decoders that the builder knows."""
    pytest.importorskip("onnxruntime_genai", reason="the builder is what is compared with")
    tokenizer = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    trained_tokenizer(TEXT).save(str(tokenizer))

    def make(kind, scheme):
        folder = tmp_path_factory.mktemp(f"{kind}-{scheme}")
        decoder, chosen = tiny_text_decoder(kind), scheme_named(scheme, "decoder")
        write_decoder(decoder, tokenizer, chosen, folder, "builder")
        write_layers(ModuleWeights(decoder), chosen, folder, "ours")
        return folder, ModuleWeights(decoder).shape

    return make


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["fp32", "int8-32", "int4-64"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_builders_graph_and_ours_hold_the_same_and_say_the_same(built, kind, scheme):
    folder, shape = built(kind, scheme)
    theirs, ours = (onnx.load(str(folder / f"{name}.onnx")) for name in ("builder", "ours"))
    held = {one.name: numpy_helper.to_array(one) for one in ours.graph.initializer}
    for tensor in theirs.graph.initializer:
        if tensor.name not in ("cos_cache", "sin_cache"):
            assert (numpy_helper.to_array(tensor) == held[tensor.name]).all(), tensor.name
    kinds = [
        sorted(node.op_type for node in model.graph.node if node.op_type != "Constant")
        for model in (theirs, ours)
    ]
    assert kinds[0] == kinds[1]
    embeds, positions = inputs_of(shape)
    logits = []
    for name in ("builder", "ours"):
        with OrtBackend("cpu").open(folder / f"{name}.onnx") as engine:
            logits.append(engine_logits(engine, shape, embeds, positions))
    spread = float(logits[0].std())
    assert np.abs(logits[0] - logits[1]).max() <= (1e-5 if scheme == "fp32" else 1e-3) * spread


def test_borders_are_those_of_the_builders_graph(tmp_path):
    weights = ModuleWeights(tiny_text_decoder("qwen2_5_vl"))
    write_layers(weights, scheme_named("fp32"), tmp_path, "decoder")
    with OrtBackend("cpu").open(tmp_path / "decoder.onnx") as engine:
        given = {spec.name: (spec.dtype, list(spec.shape)) for spec in engine.inputs}
        told = {spec.name: (spec.dtype, list(spec.shape)) for spec in engine.outputs}
    assert given["inputs_embeds"] == ("float32", ["batch_size", "sequence_length", 64])
    assert given["position_ids"] == ("int64", [3, "batch_size", "sequence_length"])
    assert told["logits"] == ("float32", ["batch_size", 1, VOCABULARY])
    assert told["present.2.value"] == ("float32", ["batch_size", 2, "total_sequence_length", 16])


def test_nothing_is_written_of_damaged_weights(tmp_path):
    decoder = tiny_text_decoder("llama")
    with torch.no_grad():
        decoder.model.layers[2].mlp.up_proj.weight[3, 4] = float("nan")
    with pytest.raises(WeightsInvalid, match=r"layers\.2\.mlp\.up_proj.*\(3, 4\)"):
        write_layers(ModuleWeights(decoder), scheme_named("int4-64"), tmp_path, "decoder")
    assert not (tmp_path / "decoder.onnx").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_act": "gelu"}, "'gelu'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "'linear'",
        ),
    ],
)
def test_a_part_that_the_writer_does_not_know_is_refused_by_name(change, told):
    config_class, model_class, sizes = CAUSAL["llama"]
    config = tiny_text_decoder("llama").config.to_dict()
    with pytest.raises(BundleError, match=told):
        ModuleWeights(model_class(config_class(**{**config, **sizes, **change})))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_tensors_come_back_as_they_were_added(tmp_path_factory, sizes, seed):
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal((size, 2)).astype(np.float32) for size in sizes]
    folder = tmp_path_factory.mktemp("data")
    with ExternalData(folder / "graph.data") as data:
        for number, array in enumerate(arrays):
            pieces = np.array_split(array, 3)
            if number % 2:
                data.add(f"t{number}", array)
            else:
                data.add_pieces(f"t{number}", array.dtype, array.shape, pieces)
    for tensor, array in zip(data.tensors, arrays, strict=True):
        assert (numpy_helper.to_array(tensor, str(folder)) == array).all()


def test_pieces_that_do_not_make_the_tensor_are_refused(tmp_path):
    with ExternalData(tmp_path / "graph.data") as data:
        with pytest.raises(ValueError, match="got 8 bytes"):
            data.add_pieces("t", np.dtype("f4"), (3,), [np.zeros(2, "f4")])
        with pytest.raises(ValueError, match="got float64"):
            data.add_pieces("t", np.dtype("f4"), (2,), [np.zeros(2)])
