"""The reference numerics are what onnxruntime writes and multiplies with, to the last bit."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from edgestream.export.int8_vision import int8_from_float
from edgestream.quant.numerics import (
    dequantize_blocks,
    dequantize_int8_per_channel,
    quantize_int4_blocks,
    quantize_int8_blocks,
    quantize_int8_per_channel,
)
from edgestream.quant.packing import codes_from_packed, packed_blocks
from edgestream.quant.plan import stored_bytes
from edgestream.quant.schemes import SCHEMES

from .engine_weights import dynamically_quantized, graph_of, in_blocks, stored_blocks

QUANTIZE = {4: quantize_int4_blocks, 8: quantize_int8_blocks}
BITS = {"int4": 4, "int8": 8}
IN_BLOCKS = [
    scheme
    for scheme in SCHEMES.values()
    if scheme.block and scheme.weights in BITS and not scheme.is_calibrated
]


def same(left: np.ndarray, right: np.ndarray) -> None:
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    assert left.tobytes() == right.tobytes()


def weights_of(kind: str, shape: tuple[int, int]) -> np.ndarray:
    random = np.random.default_rng(len(kind))
    weights = random.standard_normal(shape)
    if kind == "heavy tails":
        weights = random.standard_t(3, shape)
    elif kind == "ties":  # half steps of scales that are powers of two, both peaks
        weights = (
            random.integers(-256, 257, shape) / 2.0 * 2.0 ** random.integers(-9, 9, (shape[0], 1))
        )
        weights[:, 0], weights[:, 1] = 128.0, -128.0
    elif kind == "zeros":
        weights *= random.random(shape) < 0.02
        weights[random.random(shape) < 0.5] *= -1  # zeros of both signs
        weights[0] = 0.0
        weights[1] = -0.0
    elif kind == "denormal":
        weights *= np.array([1e-37, 1e-38, 1e-39, 1e-42, 1e-44])[
            random.integers(0, 5, (shape[0], 1))
        ]
        weights *= random.random(shape) < 0.5
    elif kind == "largest":
        weights = np.clip(weights * 2e38, -3.4e38, 3.4e38)
    elif kind == "bfloat16":
        weights = (weights.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    return weights.astype(np.float32)


KINDS = ["Gaussian", "heavy tails", "ties", "zeros", "denormal", "largest", "bfloat16"]
SHAPES = [(96, 256), (33, 200), (5, 48), (64, 1000)]  # in-dims with and without a short last block


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", IN_BLOCKS, ids=lambda scheme: scheme.name)
def test_blocks_are_those_of_matmulnbits(scheme, kind, shape):
    weights, bits = weights_of(kind, shape), BITS[scheme.weights]
    (engine,) = stored_blocks(in_blocks(weights, scheme.block, bits)).values()
    assert not engine.has_zero_points and (engine.bits, engine.block) == (bits, scheme.block)
    ours = QUANTIZE[bits](weights, scheme.block)
    same(ours.scales, engine.scales)
    same(ours.codes, codes_from_packed(engine.packed, engine.in_dim, bits))
    same(packed_blocks(ours.codes, scheme.block, bits), engine.packed)
    assert stored_bytes(shape, scheme) == engine.packed.nbytes + engine.scales.nbytes


def test_the_last_code_of_an_odd_row_is_right_too():
    """There upstream leaves the half of the byte behind it at whatever it was."""
    weights = weights_of("Gaussian", (7, 77))
    (engine,) = stored_blocks(in_blocks(weights, 32, 4)).values()
    same(quantize_int4_blocks(weights, 32).codes, codes_from_packed(engine.packed, 77))


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm", "Gemm of a transposed weight"])
@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_those_of_quantize_dynamic(kind, op_type, tmp_path):
    weights = weights_of(kind, (96, 200))
    is_transposed = op_type.endswith("weight")
    attributes = {"transB": 1} if is_transposed else {}
    given = weights if is_transposed else np.ascontiguousarray(weights.T)
    constants = dynamically_quantized(op_type.split()[0], given, tmp_path, **attributes)
    (codes,) = [value for name, value in constants.items() if name.endswith("_quantized")]
    (scales,) = [value for name, value in constants.items() if name.endswith("_scale")]
    (zero_points,) = [value for name, value in constants.items() if name.endswith("_zero_point")]
    ours = quantize_int8_per_channel(weights)
    same(ours.codes.T.copy(), codes)
    same(ours.scales, scales)
    same(quantize_int8_per_channel(weights.T, axis=1).codes, codes)
    assert zero_points.dtype == np.int8 and not zero_points.any()
    stored = codes.nbytes + scales.nbytes + zero_points.nbytes
    assert stored_bytes(weights.shape, SCHEMES["int8"]) == stored


def run(model, x: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, ["CPUExecutionProvider"]
    )
    (y,) = session.run(["y"], {"x": x})
    return y


@pytest.mark.parametrize("scheme", IN_BLOCKS, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("in_dim", [256, 200])
def test_the_kernel_multiplies_with_what_we_dequantize(scheme, in_dim):
    """Float32 activations: nothing but the order of the sum may differ."""
    weights, bits = weights_of("Gaussian", (32, in_dim)), BITS[scheme.weights]
    x = np.random.default_rng(9).standard_normal((4, in_dim)).astype(np.float32)
    model = in_blocks(weights, scheme.block, bits)
    expected = x @ dequantize_blocks(QUANTIZE[bits](weights, scheme.block), scheme.block).T
    np.testing.assert_allclose(run(model.SerializeToString(), x), expected, atol=2e-4)


def test_the_integer_product_is_that_of_our_codes(tmp_path):
    """Activations that 8 bits hold exactly: 0 .. 255 with a scale of 1."""
    weights = weights_of("Gaussian", (32, 64))
    x = np.random.default_rng(8).integers(0, 256, (4, 64)).astype(np.float32)
    x[0, :2] = 0, 255
    onnx.save(graph_of("MatMul", np.ascontiguousarray(weights.T)), tmp_path / "float.onnx")
    int8_from_float(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    expected = x @ dequantize_int8_per_channel(quantize_int8_per_channel(weights)).T
    np.testing.assert_allclose(run(tmp_path / "int8.onnx", x), expected, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Llama of two layers; no layer is as wide as the vocabulary, which the builder would take
    for the head. The last block of the rows of down_proj (208) is short."""
    pytest.importorskip("onnxruntime_genai")
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=128,
        intermediate_size=208,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    letters = {letter: n + 2 for n, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokens = Tokenizer(models.BPE(vocab={"<s>": 0, "</s>": 1, **letters}, merges=[]))
    PreTrainedTokenizerFast(
        tokenizer_object=tokens, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    return folder, weights


def built(folder, out, precision: str, *options: str):
    """The decoder graph, by the builder in a process of its own, without a network."""
    import os
    import subprocess
    import sys

    import onnx

    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", folder, "-o", out]
    command += ["-p", precision, "-e", "cpu", "-c", out / "cache", "--extra_options"]
    command += ["hf_token=false", "exclude_embeds=true", "prune_lm_head=true", *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return onnx.load(out / "model.onnx")


def rows_of(node: str, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The original weights (out, in) behind one node of the builder's graph."""
    if "lm_head" in node:
        return weights["lm_head.weight"]
    _, _, layer, block, kind, *_ = node.split("/")
    members = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }.get(kind, [kind])
    module = {"attn": "self_attn", "mlp": "mlp"}[block]
    return np.concatenate([weights[f"model.{layer}.{module}.{each}.weight"] for each in members])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "options", "scheme"),
    [
        ("int4", ["fuse_mlp_gate_up=true", "block_size=32"], "int4-32"),
        ("int4", ["fuse_mlp_gate_up=true", "block_size=64"], "int4-64"),
        ("int4", ["fuse_mlp_gate_up=true", "block_size=128"], "int4-128"),
        ("int8", ["fuse_mlp_gate_up=true"], "int8-32"),  # what it takes when not asked
        ("int8", ["block_size=64"], "int8-64"),
        ("int8", ["block_size=128"], "int8-128"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_blocks_are_those_of_the_genai_builder(checkpoint, tmp_path, precision, options, scheme):
    folder, weights = checkpoint
    scheme, bits = SCHEMES[scheme], BITS[precision]
    nodes = stored_blocks(built(folder, tmp_path, precision, *options))
    # per layer: packed q, k, v; o; gate and up, fused or not; down. And the head.
    assert len(nodes) == (9 if "fuse_mlp_gate_up=true" in options else 11)
    for name, engine in nodes.items():
        assert not engine.has_zero_points and (engine.bits, engine.block) == (bits, scheme.block)
        ours = QUANTIZE[bits](rows_of(name, weights), scheme.block)
        same(ours.scales, engine.scales)
        same(packed_blocks(ours.codes, scheme.block, bits), engine.packed)
