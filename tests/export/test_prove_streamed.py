"""A decoder that stays in its files: the same bundle and the same proof as one in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgestream.calibration.decoder_calls import Stretch
from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.graphs import Schemes, is_for_builder, write_graphs
from edgestream.export.proof_data import ProofData, proof_data
from edgestream.export.prove_decoder import prove_decoder
from edgestream.export.prove_streamed import prove_streamed
from edgestream.export.streamed_decoder import Sequences, layer_tensors
from edgestream.models import decoder_weights
from edgestream.models.adapters import merge_adapter
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.models.families import load_checkpoint
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import CheckpointInvalid

from ..checkpoints import random_live_checkpoint
from ..text_decoders import KINDS, tiny_text_decoder

PROMPTS = 3


@pytest.mark.parametrize("kind", KINDS)
def test_layer_by_layer_gives_what_the_whole_decoder_gives(kind):
    decoder = tiny_text_decoder(kind)
    weights, random = ModuleWeights(decoder), np.random.default_rng(0)
    embeds = [
        random.standard_normal((count, weights.shape.width)).astype(np.float32)
        for count in (12, 5, 12, 19)
    ]
    through = Sequences(decoder, weights.shape, [Stretch(one) for one in embeds])
    for layer in range(weights.shape.layers):
        through.through_layer(layer, layer_tensors(weights, layer))
    gain = torch.from_numpy(weights.tensor("model.norm.weight"))
    states = through.normed(gain, [1, 2, 3, 4])
    for one, given, last in zip(states, embeds, (1, 2, 3, 4), strict=True):
        with torch.inference_mode():
            out = decoder(inputs_embeds=torch.from_numpy(given)[None], logits_to_keep=last)
        expected = out if isinstance(out, torch.Tensor) else out.logits
        torch.testing.assert_close(decoder.lm_head(one), expected[0], atol=2e-5, rtol=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_live_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def in_files(folder, monkeypatch):
    """The same checkpoint, its decoder taken for too large."""
    monkeypatch.setattr(decoder_weights, "LARGEST_IN_MEMORY", 1000)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.stored_decoder is not None
    assert all(one.is_meta for one in checkpoint.decoder.parameters())
    return checkpoint


def some(data: ProofData) -> ProofData:
    return replace(data, prefixes=data.prefixes[:8], prompts=data.prompts[:PROMPTS])


def proven(checkpoint, scheme, folder, prove_it):
    """Gate and name → figure of all checks; what is written of the decoder."""
    folder.mkdir()
    schemes = Schemes.named("fp32", scheme)
    tokenizer = folder.parent / "tokenizer.json"
    checkpoint.tokenizer.save(str(tokenizer))
    graphs = write_graphs(checkpoint, schemes, tokenizer, folder, lambda part: None)
    graph = next(graph for graph in graphs if graph.role == "decoder")
    data = some(proof_data(checkpoint, calibration_for(checkpoint, None)))
    with OrtBackend("cpu").open(graph.path) as engine:
        checks, golden = prove_it(checkpoint, graph, engine, data)
    assert len(golden) == 2
    return {(check.gate, check.name): check for check in checks}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int4-32", "fp32"])
def test_the_streamed_proof_finds_what_the_proof_in_memory_finds(
    folder, in_files, scheme, tmp_path
):
    whole = replace(load_whole(folder), stored_decoder=None)
    assert is_for_builder(whole) and not is_for_builder(in_files)
    left = proven(whole, scheme, tmp_path / "whole", prove_decoder)
    right = proven(in_files, scheme, tmp_path / "files", prove_streamed)
    assert all(right[key].passed or right[key].is_advisory for key in right)
    assert left.keys() <= right.keys()
    for key in left:
        if key[1] not in ("teacher-forced agreement", "rise of the loss"):
            assert right[key].value == pytest.approx(left[key].value, abs=2e-3), key
            assert (right[key].must, right[key].note) == (left[key].must, left[key].note)


def load_whole(folder):
    """As `load_checkpoint`, whatever a test says of what is too large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_weights, "LARGEST_IN_MEMORY", 1 << 40)
        return load_checkpoint(folder)


@pytest.mark.slow
def test_a_code_that_is_not_the_schemes_is_found(in_files, tmp_path):
    def damaged(checkpoint, graph, engine, data):
        file = graph.path.with_name(graph.path.name + ".data")
        content = bytearray(file.read_bytes())
        content[-4096] ^= 1  # inside the head's codes or scales
        file.write_bytes(content)
        return prove_streamed(checkpoint, graph, engine, data)

    checks = proven(in_files, "int4-32", tmp_path / "damaged", damaged)
    failed = [check for check in checks.values() if not (check.passed or check.is_advisory)]
    assert [check.name for check in failed] == ["stored lm_head.MatMul.weight"]


@pytest.mark.slow
def test_an_export_of_it_opens_and_verifies_and_takes_no_adapter(folder, in_files, tmp_path):
    choice = ExportChoice(schemes=Schemes.named("int8", "int4"), name="large")
    made = export_bundle(folder, tmp_path / "bundle", choice, lambda stage, part: None)
    assert made.report.passed
    bundle = open_bundle(tmp_path / "bundle")
    table = load_whole(folder).embeddings.numpy()
    assert (bundle.embeddings() == table.astype(np.float16)).all()
    assert main(["verify", str(tmp_path / "bundle"), "--against", str(folder)]) == 0
    with pytest.raises(CheckpointInvalid, match="too many to merge an adapter"):
        merge_adapter(in_files, tmp_path)
