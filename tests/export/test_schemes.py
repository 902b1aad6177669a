"""Every scheme that a bundle can be written with: written, proven, run, proven again, refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgestream.edge.bundle_text import inspection_lines
from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.decoder_examples import answered, decoder_hessians
from edgestream.export.decoder_onnx import weights_of, write_decoder
from edgestream.export.graphs import Graph, Schemes
from edgestream.export.int8_static import static_from_float
from edgestream.export.int8_vision import stored_int8
from edgestream.export.proof_data import proof_data
from edgestream.export.prove import prove
from edgestream.export.reprove import reproven
from edgestream.export.stored_tensors import StoredTensors
from edgestream.models.families import load_checkpoint
from edgestream.quant.llm_words import decoder_words
from edgestream.quant.numerics import quantize_int4_blocks
from edgestream.quant.packing import packed_blocks
from edgestream.quant.schemes import SCHEMES
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import SchemeUnknown
from edgestream.runtime.golden_check import check_golden
from edgestream.runtime.json_fields import plain

from ..checkpoints import random_live_checkpoint
from .test_build import change_tensor, one_scale, silent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory):
    return random_live_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", has_gate=True)


@pytest.fixture(scope="module")
def checkpoint(checkpoint_folder):
    return load_checkpoint(checkpoint_folder)


@pytest.fixture(scope="module")
def examples(checkpoint):
    return proof_data(checkpoint, calibration_for(checkpoint, None), is_for_fitting=True)


def exported(checkpoint_folder, target, vision="int8", llm="int4", kv="fp32"):
    choice = ExportChoice(schemes=Schemes.named(vision, llm, kv), name="tiny")
    made = export_bundle(checkpoint_folder, target, choice, silent)
    return made, open_bundle(target)


@pytest.fixture(scope="module")
def calibrated(checkpoint_folder, tmp_path_factory):
    """GPTQ, an exception and static ranges at once."""
    target = tmp_path_factory.mktemp("bundles") / "tiny"
    return exported(checkpoint_folder, target, "int8-static-minmax", "int4-32-gptq,head=int8")


def test_a_calibrated_and_mixed_bundle_says_what_it_is_and_runs(calibrated):
    made, bundle = calibrated
    assert made.report.passed
    assert all(result.passed for result in check_golden(bundle, backend_for))
    variants = {role: variant for role, variant in bundle.manifest.variants()}
    assert plain(variants["decoder"].scheme) == {
        "weights": "int4", "block": 32, "symmetric": True, "activations": "int8", "method": "gptq",
        "except": [{"tensors": "head/*", "weights": "int8", "block": 32, "symmetric": True,
                    "activations": "int8"}],
    }  # fmt: skip
    assert variants["vision"].scheme["ranges"] == "minmax"
    assert variants["decoder"].id == "cpu-int4-32-gptq-head-int8-32"
    told = "\n".join(inspection_lines(bundle, None))
    assert "int4 block 32 gptq act int8 but head/* int8 block 32" in told
    assert "int8 act int8 static (minmax)" in told
    gains = [check for check in made.report.checks if check.name.endswith("against rounding")]
    assert len(gains) == 3 * 7 and all(check.value > 0 for check in gains)


def test_its_proof_repeats_from_the_checkpoint_alone(calibrated, checkpoint_folder):
    _, bundle = calibrated
    report = reproven(bundle, checkpoint_folder)
    assert report.passed
    stored = [check for check in report.checks if check.name.startswith("stored")]
    assert len(stored) > 3 * 4 + 1 and not any(check.value for check in stored)


@pytest.fixture(scope="module")
def decoder_graph(calibrated, checkpoint, examples):
    bundle = calibrated[1]
    variant = bundle.manifest.part("decoder").variants[0]
    scheme, exceptions = decoder_words("int4-32-gptq,head=int8")
    hessians = decoder_hessians(checkpoint, examples)
    path = bundle.path(variant.file)
    return Graph("decoder", variant.id, path, scheme, None, exceptions, hessians)


def one_code(codes):
    codes.flat[11] ^= 1


@pytest.mark.parametrize(
    ("tensor", "change"),
    [
        ("layers.1.mlp.down_proj.MatMul.weight_scales", one_scale),
        ("layers.0.attn.qkv_proj.MatMul.weight_Q4", one_code),
        ("lm_head.MatMul.weight_Q8", one_code),
    ],
)
def test_one_changed_number_of_a_calibrated_decoder_is_found(
    decoder_graph, checkpoint, tmp_path, tensor, change
):
    for file in decoder_graph.files():
        shutil.copy(file, tmp_path)
    moved = replace(decoder_graph, path=tmp_path / decoder_graph.path.name)
    change_tensor(moved.path, tensor, change)
    data = proof_data(checkpoint, calibration_for(checkpoint, None))
    proof = prove(checkpoint, [moved], data, 1, silent)
    failed = [check.name for check in proof.checks if not check.passed and not check.is_advisory]
    assert f"stored model.{tensor}".rpartition("_")[0].replace("model.lm", "lm") in failed


@pytest.mark.parametrize("ranges", ["minmax", "entropy", "percentile"])
def test_static_ranges_hold_every_matrix_as_dynamic_ones_do(checkpoint, examples, tmp_path, ranges):
    from edgestream.export.int8_vision import int8_from_float
    from edgestream.export.onnx_from_torch import onnx_from_torch
    from edgestream.export.part_inputs import examples_of, traced_parts

    part = traced_parts(checkpoint)["connector"]
    names, example = list(part.inputs), list(part.inputs.values())
    onnx_from_torch(part.module, example, names, part.outputs, tmp_path / "float.onnx")
    int8_from_float(tmp_path / "float.onnx", tmp_path / "dynamic.onnx")
    given = examples_of("connector", names, examples)
    static_from_float(tmp_path / "float.onnx", tmp_path / "static.onnx", ranges, given)
    dynamic, static = (
        stored_int8(onnx.load(str(tmp_path / f"{name}.onnx"))) for name in ("dynamic", "static")
    )
    assert dynamic.keys() == static.keys() and dynamic
    for name, (codes, scales) in dynamic.items():
        np.testing.assert_array_equal(static[name][0], codes)
        np.testing.assert_array_equal(static[name][1], scales)
    with (
        OrtBackend("cpu").open(tmp_path / "float.onnx") as exact,
        OrtBackend("cpu").open(tmp_path / "static.onnx") as engine,
    ):
        wanted, found = (one.run(given[0])["embeds"] for one in (exact, engine))
    cosine = (wanted * found).sum() / np.linalg.norm(wanted) / np.linalg.norm(found)
    assert cosine > 0.99


def test_half_the_cache_is_proven_after_evictions(checkpoint_folder, tmp_path):
    made, bundle = exported(checkpoint_folder, tmp_path / "tiny", "fp32", "int8", "fp16")
    variant = bundle.manifest.part("decoder").variants[0]
    assert (variant.kv_dtype, variant.id) == ("float16", "cpu-int8-32-kv16")
    names = [check.name for check in made.report.checks if "evictions" in check.name]
    assert len(names) == 2 and all(result.passed for result in check_golden(bundle, backend_for))
    assert bundle.manifest.memory.kv_bytes == 2 * 3 * 2 * 2 * 16 * 512
    assert reproven(bundle, checkpoint_folder).passed


@pytest.mark.parametrize("name", ["int4-32", "int8-64"])
def test_a_graph_holds_what_the_builder_itself_would_have_quantized(
    checkpoint, checkpoint_folder, tmp_path, name
):
    """Bytes, operators and their words are those of onnxruntime's own quantizer."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    scheme, tokenizer = SCHEMES[name], checkpoint_folder / "tokenizer.json"
    write_decoder(checkpoint.decoder, tokenizer, SCHEMES["fp32"], tmp_path, "exact")
    write_decoder(checkpoint.decoder, tokenizer, scheme, tmp_path, "ours")
    bits = 4 if scheme.weights == "int4" else 8
    theirs = MatMulNBitsQuantizer(
        onnx.load(str(tmp_path / "exact.onnx")), bits=bits, block_size=scheme.block,
        is_symmetric=True, accuracy_level=4,
    )  # fmt: skip
    theirs.process()
    wanted, ours = theirs.model.model, onnx.load(str(tmp_path / "ours.onnx"))

    def words(node):
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        return node.name, node.op_type, list(node.input), list(node.output), attributes

    assert [words(node) for node in ours.graph.node] == [words(n) for n in wanted.graph.node]
    made = {one.name: numpy_helper.to_array(one) for one in ours.graph.initializer}
    for tensor in wanted.graph.initializer:
        np.testing.assert_array_equal(made.pop(tensor.name), numpy_helper.to_array(tensor))
    assert not made


def test_gptq_writes_other_codes_with_the_scales_of_rounding(checkpoint, examples, calibrated):
    _, bundle = calibrated
    tensors = StoredTensors(bundle.path(bundle.manifest.part("decoder").variants[0].file))
    parameters = dict(checkpoint.decoder.named_parameters())
    weight = next(one for one in weights_of(checkpoint.decoder) if "o_proj" in one.name)
    codes, scales = tensors.matrix_rows(weight, SCHEMES["int4-32-gptq"])
    nearest = quantize_int4_blocks(parameters[weight.parameters[0]].detach().numpy(), 32)
    np.testing.assert_array_equal(scales, nearest.scales)
    share = (codes != packed_blocks(nearest.codes, 32)).mean()
    assert 0.02 < share < 0.9


def test_what_gptq_reads_is_of_other_frames_and_ends_with_answers(checkpoint, examples):
    proven = proof_data(checkpoint, calibration_for(checkpoint, None))
    seen = {pixels.tobytes() for pixels in proven.pixels}
    assert not any(pixels.tobytes() in seen for pixels in examples.pixels)
    prompts = examples.prompts[:3]
    longer = answered(checkpoint, prompts)
    for whole in longer:
        prompt = next(p for p in prompts if np.array_equal(whole.embeds[: len(p)], p.embeds))
        assert len(prompt) <= len(whole) <= len(prompt) + 24
    hessians = decoder_hessians(checkpoint, examples)
    found = hessians.of("model.layers.2.mlp.gate_proj.weight")
    assert found.shape == (64, 64) and np.linalg.eigvalsh(found).min() > -1e-9


@pytest.mark.parametrize(
    ("llm", "said"),
    [
        ("int4,*.layers.7.*=int8", r"\*/\*\.layers\.7\.\*=int8-32 matches no matrix"),
        ("int4-32,*.layers.0.self_attn.q_proj.*=int8", "they need one scheme"),
        ("int4-32,head=int4-128", r"lm_head\.weight cannot be int4-128"),
        ("nf4,head=int4-128", "narrower than a block of 128"),
    ],
)
def test_plans_that_a_graph_cannot_hold_are_refused(checkpoint_folder, tmp_path, llm, said):
    with pytest.raises(SchemeUnknown, match=said) as caught:
        exported(checkpoint_folder, tmp_path / "tiny", llm=llm)
    assert caught.value.exit_code == 2 and not list(tmp_path.iterdir())


def test_the_command_takes_the_words_and_writes_nf4(checkpoint_folder, tmp_path, capsys):
    words = ["--llm", "nf4,head=int8", "--vision", "fp32", "--kv", "fp32", "--json"]
    out = tmp_path / "bundle"
    assert main(["export", str(checkpoint_folder), "--out", str(out), *words]) == 0
    assert main(["inspect", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "nf4 block 64 act float32 slow, for comparisons but head/* int8 block 32" in told
    variant = open_bundle(out).manifest.part("decoder").variants[0]
    graph = onnx.load(str(out / variant.file), load_external_data=False)
    kinds = [node.op_type for node in graph.graph.node if "MatMul" in node.op_type]
    assert kinds == ["MatMulBnb4"] * 12 + ["MatMulNBits"]
    refused = ["export", str(checkpoint_folder), "--out", str(tmp_path / "other")]
    assert main([*refused, "--kv", "int4"]) == 2
    assert main([*refused, "--llm", "int4,head"]) == 2
