"""The decoder for CUDA: the CPU's numbers, its codes not written twice, no node for the CPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime_genai", reason="decoders are made by the export side")

from edgestream.export.cuda_decoder import counted, half_of, typed, write_cuda_decoder
from edgestream.export.decoder_onnx import write_decoder
from edgestream.export.layer_writer import write_layers
from edgestream.export.prove_trt import exact_products
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.quant.llm_words import decoder_words
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineError

from ..tiny_decoder import random_embeds, tiny_decoder

SLOTS = 64


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_decoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def int4(tiny):
    """The same decoder with matrices of int4 and a cache of int8's room: as export writes it."""
    folder = tiny.graph.parent
    scheme, _ = decoder_words("int4-32")
    write_decoder(tiny.model, folder / "tokenizer.json", scheme, folder, "int4")
    return folder / "int4.onnx"


def said(engine, embeds, lengths, dtype, *, total=None, is_counted=True):
    """Logits after each stretch; `total` slots are told of, or as many as are in use."""
    caches = {
        spec.name: np.zeros((1, spec.shape[1], SLOTS, spec.shape[3]), dtype)
        for spec in engine.inputs
        if spec.name.startswith("past")
    }
    held, logits = 0, []
    for length in lengths:
        mask = np.ones((1, held + length), np.int64)
        inputs = {"inputs_embeds": embeds[None, held : held + length], "attention_mask": mask}
        inputs |= caches
        if is_counted:
            inputs = counted(inputs)
            if total is not None:
                inputs["total_sequence_length"] = np.array([total], np.int32)
        outputs = engine.run(inputs)
        caches = {
            f"past_key_values.{name[8:]}": array
            for name, array in outputs.items()
            if name.startswith("present.")
        }
        held += length
        logits.append(outputs["logits"][0, 0])
    return np.stack(logits)


@pytest.mark.medium
def test_typed_float32_it_is_the_cpu_graph_to_the_bit(tiny, tmp_path_factory):
    target = tiny.graph.parent / "twin.onnx"
    write_cuda_decoder(tiny.graph, target, "float32")
    embeds = random_embeds(0, 30, tiny.hidden)
    lengths = (16, 12, 1, 1)
    with tiny.engine() as cpu, OrtBackend().open(target) as twin:
        expected = said(cpu, embeds, lengths, "float32", is_counted=False)
        np.testing.assert_array_equal(said(twin, embeds, lengths, "float32"), expected)


@pytest.mark.parametrize("which", ["fp32", "int4-32"])
def test_a_decoder_that_was_written_layer_by_layer_is_the_cpu_graph_too(tiny, which, tmp_path):
    """As those of models that see are, and all large ones."""
    scheme, _ = decoder_words(which)
    write_layers(ModuleWeights(tiny.model), scheme, tmp_path, "cpu")
    with exact_products(tmp_path / "cpu.onnx") as source:
        for kind in ("float32", "float16"):
            write_cuda_decoder(source, tmp_path / f"{kind}.onnx", kind)
        embeds, lengths = random_embeds(2, 30, tiny.hidden), (16, 12, 1, 1)
        with OrtBackend().open(source) as cpu:
            expected = said(cpu, embeds, lengths, "float32", is_counted=False)
    with OrtBackend().open(tmp_path / "float32.onnx") as twin:
        assert {"seqlens_k", "total_sequence_length"} < {one.name for one in twin.inputs}
        assert "attention_mask" not in {one.name for one in twin.inputs}
        near = said(twin, embeds, lengths, "float32")
    np.testing.assert_allclose(near, expected, rtol=1e-4, atol=1e-4)
    with OrtBackend().open(tmp_path / "float16.onnx") as half:
        found = said(half, embeds, lengths, "float16", total=SLOTS)
    assert np.abs(found - expected).max() <= 2e-2 * max(1.0, expected.std())


@pytest.mark.parametrize("which", ["fp32", "int4-32", "int8-32", "nf4-64"])
def test_float16_is_near_and_a_total_of_all_slots_changes_nothing(tiny, which):
    source = tiny.graph
    if which != "fp32":
        folder, (scheme, _) = tiny.graph.parent, decoder_words(which)
        write_decoder(tiny.model, folder / "tokenizer.json", scheme, folder, f"of.{which}")
        source = folder / f"of.{which}.onnx"
    twin, half = (source.with_name(f"{which}.{kind}.onnx") for kind in ("twin", "half"))
    write_cuda_decoder(source, twin, "float32")
    write_cuda_decoder(source, half, "float16")
    embeds = random_embeds(1, 30, tiny.hidden)
    lengths = (16, 12, 1, 1)
    with OrtBackend().open(twin) as exact_engine, OrtBackend().open(half) as engine:
        exact = said(exact_engine, embeds, lengths, "float32")
        found = said(engine, embeds, lengths, "float16")
        static = said(engine, embeds, lengths, "float16", total=SLOTS)
    assert np.abs(found - exact).max() <= 2e-2 * max(1.0, exact.std())
    np.testing.assert_array_equal(static, found)


def test_no_node_is_left_that_a_strict_session_would_give_to_the_cpu(int4):
    target = int4.with_name("strict.onnx")
    write_cuda_decoder(int4, target, "float16")
    graph = onnx.load(str(target), load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"Shape", "ReduceSum", "Size"} and "GroupQueryAttention" in kinds
    names = [value.name for value in graph.input]
    assert names[:3] == ["inputs_embeds", "seqlens_k", "total_sequence_length"]
    assert "attention_mask" not in names
    levels = [one.name for node in graph.node for one in node.attribute]
    assert "accuracy_level" not in levels  # it would round what a matrix reads


def test_codes_stay_in_the_file_of_the_cpu_variant(int4):
    target = int4.with_name("shared.onnx")
    write_cuda_decoder(int4, target, "float16")
    places = {
        (tensor.data_type == onnx.TensorProto.UINT8): entry.value
        for tensor in onnx.load(str(target), load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {True: "int4.onnx.data", False: "shared.onnx.data"}
    own, others = (int4.with_name(name).stat().st_size for name in
                   ("shared.onnx.data", "int4.onnx.data"))  # fmt: skip
    assert own < others / 2
    assert typed(onnx.load(str(target), load_external_data=False)) == "float16"


def test_a_weight_that_float16_cannot_hold_is_refused():
    assert half_of(np.array([65504.0, 1e-9], np.float32)).tolist() == [65504.0, 0.0]
    with pytest.raises(EngineError, match=r"weight of 7e\+04, expected at most 65504"):
        half_of(np.array([1.0, -7e4], np.float32))


def test_another_graph_is_refused(tiny):
    with pytest.raises(EngineError, match="without GroupQueryAttention"):
        write_cuda_decoder(tiny.evict, tiny.evict.with_name("no.onnx"), "float16")
    assert not tiny.evict.with_name("no.onnx").exists()
