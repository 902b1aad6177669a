"""TensorRT's decoder graph: the CPU's decoder over the same codes, for every build and scheme."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from edgestream.calibration.decoder_calls import Stretch, empty_cache, next_logits
from edgestream.export.decoder_onnx import decoder_weights
from edgestream.export.exact_backends import ExactBackend
from edgestream.export.layer_writer import write_layers
from edgestream.export.prove_trt import exact_products
from edgestream.export.static_decoder import StaticDecoder
from edgestream.export.stored_tensors import StoredTensors
from edgestream.export.trt_decoder import (
    check_trt_schemes,
    whole_block,
    write_trt_decoder,
)
from edgestream.export.trt_variants import LARGEST_TWICE, decoder_phases
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import SCHEMES
from edgestream.runtime.arena import Arena
from edgestream.runtime.errors import SchemeUnknown
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions
from edgestream.runtime.prompt_layout import ids_of
from edgestream.runtime.token_rows import TokenRows

from ..text_decoders import KINDS, VOCABULARY, tiny_text_decoder

REFERENCE = Path(__file__).parents[2] / "assets" / "reference-checkpoint"
CAPACITY, COUNT = 64, 40
STANDARD = {
    "Shape", "ReduceSum", "Sub", "Squeeze", "Range", "Add", "Reshape", "LessOrEqual", "Greater",
    "And", "Identity", "Cast", "Mul", "Cos", "Sin", "Split", "RMSNormalization", "MatMul",
    "DequantizeLinear", "Transpose", "RotaryEmbedding", "TensorScatter", "Attention", "Sigmoid",
    "Slice", "Unsqueeze",
}  # fmt: skip
PARTS = ((0, 17), (17, 18), (18, 39), (39, 40))
"""Chunks and single tokens, as a run reads them."""


def written(folder: Path, weights: ModuleWeights, name: str, dtype: str) -> Path:
    """The CPU's graph as cpu.onnx, and TensorRT's."""
    scheme, path = SCHEMES[name], folder / f"trt.{dtype}.onnx"
    if not (folder / "cpu.onnx").exists():
        write_layers(weights, scheme, folder, "cpu")
    matrices = decoder_weights(weights.shape.layers, is_tied=weights.shape.is_tied)
    schemes = {one: scheme for matrix in matrices for one in matrix.parameters}
    write_trt_decoder(weights, schemes, folder / "cpu.onnx", path, CAPACITY, dtype)
    onnx.checker.check_model(str(path))
    return path


def stretch_of(shape, seed=0) -> Stretch:
    random = np.random.default_rng(seed)
    embeds = random.standard_normal((COUNT, shape.width)).astype(np.float32)
    if shape.axes == 1:
        return Stretch(embeds)
    positions = np.tile(np.arange(COUNT), (shape.axes, 1))
    rows, columns = np.divmod(np.arange(8), 4)  # a frame of 2 by 4 at base 5
    positions[:, 5:13] = 5 + np.stack([np.zeros(8, int), rows, columns])
    positions[:, 13:] = 9 + np.arange(COUNT - 13)
    return Stretch(embeds, positions)


def both_logits(folder: Path, graph: Path, stretch: Stretch):
    """Logits after each of PARTS: of the CPU's variant, and of the graph."""
    with exact_products(folder / "cpu.onnx") as exact:
        cpu, trt = ExactBackend().open(exact), ExactBackend().open(graph)
    with cpu, trt:
        cache, static, found = empty_cache(cpu, CAPACITY), StaticDecoder(trt), []
        for first, end in PARTS:
            expected, cache = next_logits(cpu, stretch.part(first, end), cache)
            found.append((expected, static.logits(stretch.part(first, end))))
    return tuple(np.stack(one) for one in zip(*found, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["fp32", "int4-32", "int8-64"])
def test_typed_float32_it_is_the_decoder_of_the_cpu(kind, scheme, tmp_path):
    weights = ModuleWeights(tiny_text_decoder(kind))
    graph = written(tmp_path, weights, scheme, "float32")
    expected, found = both_logits(tmp_path, graph, stretch_of(weights.shape))
    assert np.abs(expected - found).max() <= 1e-3 and np.abs(expected).max() > 0.3
    kinds = {node.op_type for node in onnx.load(str(graph), load_external_data=False).graph.node}
    assert kinds <= STANDARD


@pytest.mark.parametrize("kind", ["qwen2", "qwen3_vl"])
@pytest.mark.parametrize("scheme", ["fp32", "int4-64", "int4-128", "int8-32"])
def test_typed_float16_it_differs_by_that_rounding(kind, scheme, tmp_path):
    weights = ModuleWeights(tiny_text_decoder(kind))
    graph = written(tmp_path, weights, scheme, "float16")
    expected, found = both_logits(tmp_path, graph, stretch_of(weights.shape))
    assert 1e-5 < np.abs(expected - found).max() <= 2e-2
    model = onnx.load(str(graph), load_external_data=False).graph
    caches = {one.name: one.type.tensor_type for one in (*model.input, *model.output)}
    assert caches["past_key_values.0.key"].elem_type == TensorProto.FLOAT16
    assert caches["inputs_embeds"].elem_type == caches["logits"].elem_type == TensorProto.FLOAT
    assert not {one.data_type for one in model.initializer} & {TensorProto.UINT8, TensorProto.UINT4}


@pytest.mark.medium
@given(seed=st.integers(0, 1 << 32), bits=st.sampled_from([4, 8]), zeros=st.booleans())
@settings(max_examples=8, deadline=None)
def test_codes_and_scales_are_those_of_the_cpu(seed, bits, zeros, tmp_path_factory):
    """c · s of one file is what the other restores, and what it adds for negative scales."""
    folder, random = tmp_path_factory.mktemp("codes"), np.random.default_rng(seed)
    decoder = tiny_text_decoder("qwen2", seed % 7)
    weight = decoder.model.layers[0].mlp.down_proj.weight
    weight.data[:] = weight.data.new_tensor(random.standard_normal(weight.shape))
    if zeros:  # whose scale is 0
        weight.data[:, :64] = 0
    weights, scheme = ModuleWeights(decoder), SCHEMES[f"int{bits}-32"]
    tensors = StoredTensors(written(folder, weights, scheme.name, "float32"))
    name = "model.layers.0.mlp.down_proj.MatMul.weight"
    stored = StoredTensors(folder / "cpu.onnx")
    packed, scales = stored.array(f"{name}_Q{bits}"), stored.array(f"{name}_scales")
    numbers = packed.reshape(len(packed), -1)
    if bits == 4:
        numbers = np.stack([numbers & 15, numbers >> 4], -1).reshape(len(packed), -1)
    expected = (numbers.astype(np.float64) - 2 ** (bits - 1)) * np.repeat(scales, 32, 1)
    model = onnx.load(str(folder / "trt.float32.onnx")).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in model.initializer}
    codes = arrays[f"{name}_codes"].astype(np.float64)
    found = codes * np.repeat(arrays[f"{name}_scales"], 32, 0)
    if bits == 8:
        assert (tensors.array(f"{name}_scales") > 0).all()
        found += np.repeat(arrays[f"{name}_steps"], 32, 0)
    np.testing.assert_allclose(found.T, expected, rtol=1e-6, atol=1e-12)


class OpenLane:
    """Everybody may run."""

    @contextlib.contextmanager
    def speak(self):
        yield


def said(engine, weights, table, dtype, prompt, count=64) -> list[int]:
    """A prompt and so many tokens, greedily, through the runtime; half-way slots are evicted."""
    shape = weights.shape
    cache = CacheShape(shape.layers, shape.kv_heads, shape.head_dim, CAPACITY)
    arena = Arena(cache, Positions(1, shape.theta), dtype=dtype)
    model = LanguageModel(engine, arena, TokenRows(table), OpenLane())
    tokens = [int(model.append(prompt).argmax())]
    while len(tokens) < count:
        if arena.length + 1 >= CAPACITY:
            model.evict(np.r_[0:6, 20 : arena.length])
        tokens.append(int(model.step(tokens[-1]).argmax()))
    return tokens


@pytest.mark.parametrize("scheme", ["fp32", "int4-32"])
def test_it_says_the_same_across_evictions(scheme, tmp_path):
    decoder = tiny_text_decoder("llama")
    weights = ModuleWeights(decoder)
    table = decoder.model.embed_tokens.weight.detach().numpy()
    prompt = stretch_of(weights.shape, seed=3).embeds[:30]
    graph = written(tmp_path, weights, scheme, "float32")
    with exact_products(tmp_path / "cpu.onnx") as exact, ExactBackend().open(exact) as cpu:
        expected = said(cpu, weights, table, "float32", prompt)
    with ExactBackend().open(graph) as trt:
        assert said(trt, weights, table, "float32", prompt) == expected
    assert len(set(expected)) > 5 and max(expected) < VOCABULARY


@pytest.mark.slow
def test_the_trained_reference_says_the_same_64_tokens_across_evictions(tmp_path):
    checkpoint = load_checkpoint(REFERENCE)
    weights = checkpoint.decoder_weights()
    table = checkpoint.token_rows(range(weights.shape.vocabulary))
    prompt = checkpoint.token_rows(ids_of(checkpoint.tokenizer, "User: What happened last?" * 3))
    graph = written(tmp_path, weights, "int4-64", "float32")
    with exact_products(tmp_path / "cpu.onnx") as exact, ExactBackend().open(exact) as cpu:
        expected = said(cpu, weights, table, "float32", prompt[:30])
    with ExactBackend().open(graph) as trt:
        assert said(trt, weights, table, "float32", prompt[:30]) == expected
    assert len(set(expected)) > 3
    half = written(tmp_path, weights, "int4-64", "float16")
    stretch = Stretch(table[np.random.default_rng(0).integers(0, len(table), COUNT)])
    logits, found = both_logits(tmp_path, half, stretch)
    assert np.abs(logits - found).max() <= 2e-2 * max(1.0, float(logits.std()))


def test_what_tensorrt_has_no_operator_for_is_refused():
    shape = ModuleWeights(tiny_text_decoder("llama")).shape
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(SchemeUnknown, match=r"q_proj.weight is nf4-64.*NF4"):
        check_trt_schemes(shape, {name: SCHEMES["nf4-64"]})
    odd = replace(shape, intermediate=168)
    down = "model.layers.0.mlp.down_proj.weight"
    with pytest.raises(SchemeUnknown, match="rows of 168, expected a multiple of 16"):
        check_trt_schemes(odd, {down: SCHEMES["int4-32"]})
    check_trt_schemes(odd, {down: SCHEMES["fp32"]})


@given(width=st.integers(1, 64).map(lambda count: 16 * count), block=st.sampled_from([32, 64, 128]))
def test_a_row_is_whole_blocks_that_lie_in_one_of_the_schemes(width, block):
    found = whole_block(SCHEMES[f"int4-{block}"], width)
    assert width % found == 0 and block % found == 0 and found >= 16


@given(n_bytes=st.integers(0, 1 << 34), capacity=st.integers(64, 1 << 20))
def test_phases_admit_every_chunk_and_large_weights_are_held_once(n_bytes, capacity):
    phases = decoder_phases(n_bytes, capacity)
    ranges = [phase.sizes["tokens"] for phase in phases]
    assert all(least <= usual <= most <= capacity for least, usual, most in ranges)
    for tokens in range(1, min(64, capacity) + 1):
        assert any(least <= tokens <= most for least, _, most in ranges)
    assert (len(phases) == 1) == (n_bytes > LARGEST_TWICE)
