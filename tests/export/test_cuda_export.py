"""A bundle with CUDA variants: proven as far as a CPU can, and at work as if there were a GPU."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgestream.calibration.decoder_calls import empty_cache, next_logits
from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.cuda_graphs import remove_twins, write_cuda_graphs
from edgestream.export.graphs import Graph, Schemes
from edgestream.export.proof_data import proof_data
from edgestream.export.prove_cuda import prove_cuda, typing_check
from edgestream.export.reprove import reproven
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import scheme_named
from edgestream.runtime.arena import Arena
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineFailed, EngineUnusable
from edgestream.runtime.golden_check import check_golden
from edgestream.runtime.held_block import HeldBlock
from edgestream.runtime.language_model import LanguageModel

from ..cuda_on_cpu import FALLS_BACK, cuda_on_cpu
from ..reference_checkpoints import small_reference_checkpoint

pytestmark = pytest.mark.slow

ASSETS = Path(__file__).parents[2] / "assets"
CUDA = EngineRules(providers=("cuda", "cpu"), threads=1)
LEAST_SPREAD = 1.0


class Reference:
    """The trained reference: its CUDA graphs, their twins, and what they are compared on."""

    def __init__(self, place):
        for file in (ASSETS / "reference").glob("decoder.*"):
            shutil.copy(file, place)
        self.bundle = open_bundle(ASSETS / "reference")
        self.checkpoint = load_checkpoint(ASSETS / "reference-checkpoint")
        path = place / "decoder.cpu-int8-32.onnx"
        decoder = Graph("decoder", "cpu-int8-32", path, scheme_named("int8", "decoder"))
        self.graphs = write_cuda_graphs(self.checkpoint, [decoder], place, lambda part: None)
        self.data = proof_data(self.checkpoint, calibration_for(self.checkpoint, None))

    def model(self, which):
        """A language model of `graph` or `twin`, its cache held by the engine."""
        decoder, evict = (
            OrtBackend().open(getattr(one, which).path)
            for role in ("decoder", "evict")
            for one in self.graphs
            if one.graph.role == role
        )
        manifest = self.bundle.manifest
        block = HeldBlock(manifest.cache, manifest.positions, evict)
        arena = Arena(manifest.cache, manifest.positions, dtype=block.dtype, block=block)
        return LanguageModel(decoder, arena, self.bundle.token_rows(), OpenLane())


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    made = Reference(tmp_path_factory.mktemp("reference"))
    yield made
    remove_twins(made.graphs)


def test_the_trained_reference_passes_every_gate(reference):
    proof = prove_cuda(reference.checkpoint, reference.graphs, reference.data, 1, lambda part: None)
    assert [check.sentence() for check in proof.checks if not check.passed] == [
        check.sentence() for check in proof.checks if check.is_advisory and not check.passed
    ]
    figures = {(check.part, check.name): check.value for check in proof.checks}
    assert figures["decoder (cuda)", "float16: same next token"] >= 0.99
    assert figures["decoder (cuda)", "teacher-forced agreement"] >= 0.99
    assert max(value for (_, name), value in figures.items() if "float16 noise" in name) <= 2e-2
    parts = {check.part for check in proof.checks}
    assert parts >= {f"{role} (cuda)" for role in ("vision", "gate", "connector", "evict")}
    assert {(call.role, call.variant) for call in proof.golden} == {
        (one.graph.role, one.graph.variant) for one in reference.graphs
    }


def test_float16_says_what_float32_says_across_evictions(reference):
    errors, same = [], []
    exact, half = reference.model("twin"), reference.model("graph")
    for prompt in reference.data.prompts[:6]:
        for model in (exact, half):
            if model.arena.length > 100:
                model.evict(np.r_[0:16, 60 : model.arena.length])
        pairs = [(exact.append(prompt.embeds).copy(), half.append(prompt.embeds).copy())]
        for _ in range(24):
            token = int(pairs[-1][0].argmax())
            pairs.append((exact.step(token).copy(), half.step(token).copy()))
        errors += [np.abs(one - other).max() / max(LEAST_SPREAD, one.std()) for one, other in pairs]
        same += [one.argmax() == other.argmax() for one, other in pairs]
    assert exact.arena.length == half.arena.length
    assert exact.arena.length < sum(map(len, reference.data.prompts[:6])) + len(same) - 40
    assert max(errors) <= 2e-2 and np.mean(same) >= 0.99


def test_a_typing_that_loses_numbers_is_refused():
    exact = np.random.default_rng(0).standard_normal((4, 100))
    assert typing_check("decoder", "logits", exact, exact + 0.01).passed
    assert not typing_check("decoder", "logits", exact, exact + 0.03).passed
    lost = exact.copy()
    lost[0, 0] = np.inf
    assert not typing_check("decoder", "logits", exact, lost).passed


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(checkpoint, bundle) with variants for both."""
    place = tmp_path_factory.mktemp("small")
    checkpoint = small_reference_checkpoint(place / "checkpoint", looks_trained=True)
    choice = ExportChoice(
        schemes=Schemes.named("int8", "int4-32"), name="small", capacity=256, target="cuda"
    )
    export_bundle(checkpoint, place / "bundle", choice, lambda stage, part: None)
    return checkpoint, place / "bundle"


def test_the_manifest_tells_which_variants_wait_for_a_device(made):
    bundle = open_bundle(made[1])
    found = {(role, one.id): one for role, one in bundle.manifest.variants()}
    assert list(found) == [
        ("vision", "cpu-int8"), ("vision", "cuda-fp16"), ("gate", "cpu-fp32"),
        ("gate", "cuda-fp16"), ("connector", "cpu-int8"), ("connector", "cuda-fp16"),
        ("decoder", "cpu-int4-32"), ("decoder", "cuda-int4-32"), ("evict", "cpu-fp32"),
        ("evict", "cuda-fp16"),
    ]  # fmt: skip
    for (role, name), one in found.items():
        assert one.is_proven == name.startswith("cpu") and one.provider == name[: len(one.provider)]
        if one.provider == "cuda":
            assert one.scheme["activations"] == "float16" and one.io_dtype == "float32"
            assert one.kv_dtype == ("float16" if role in ("decoder", "evict") else None)
    assert not [file for file in made[1].iterdir() if "float" in file.name]  # twins are gone
    decoder = found["decoder", "cpu-int4-32"]
    assert bundle.variant("decoder").id == decoder.id  # a CPU asks for its own


def test_here_cuda_is_skipped_and_the_cpu_verified(made, capsys):
    assert main(["verify", str(made[1])]) == 0
    told = capsys.readouterr().out
    assert "skipped: cuda-int4-32 (pending-device)" in told
    assert reproven(open_bundle(made[1]), made[0]).passed


def test_golden_calls_pass_and_the_cache_stays_on_the_device(made):
    bundle = open_bundle(made[1])
    with cuda_on_cpu() as cuda:
        results = [one for one in check_golden(bundle, backend_for) if one.provider == "cuda"]
        assert len(results) == 5 and all(one.passed for one in results)
        assert all(cuda.strict) and all("enable_cuda_graph" in one for one in cuda.asked)
        with attached(bundle, CUDA) as work:
            assert {one.provider for one in work.variants.values()} == {"cuda"}
            assert not work.refusals and isinstance(work.session.model.arena.block, HeldBlock)
            found = said_by(work.session.model)
            ids = [one for one in cuda.runs if one != "-1"]
            assert ids  # steps and chunks are recorded, and replayed under their own ids
    with attached(bundle, EngineRules(providers=("cpu",), threads=1)) as work:
        expected = said_by(work.session.model)
    cosines = [np.dot(one, two) / np.linalg.norm(one) / np.linalg.norm(two)
               for one, two in zip(found, expected, strict=True)]  # fmt: skip
    assert min(cosines) >= 0.99  # int8 activations against float16


def said_by(model):
    """Logits along 60 tokens with an eviction in between."""
    ids = np.random.default_rng(0).integers(4, 40, 60)
    logits = [model.append(model.rows(ids[:40])).copy()]
    logits += [model.step(int(token)).copy() for token in ids[40:50]]
    model.evict(np.r_[0:8, 20:50])
    return logits + [model.step(int(token)).copy() for token in ids[50:]]


def test_a_decoder_that_breaks_off_on_the_device_goes_on_where_it_can(made):
    bundle, told, resets = open_bundle(made[1]), [], []
    with cuda_on_cpu(), attached(bundle, CUDA) as work:
        model = work.session.model
        model.append(model.rows([5, 6, 7]))
        fault = EngineFailed("the device is gone")
        assert work.session.next_rung(fault, told.append)
        assert model.arena.dtype == "float32" and not isinstance(model.arena.block, HeldBlock)
        assert model.arena.length == 0 and not resets
        assert "cpu-int4-32" in str(told[0].body)
        assert np.isfinite(model.append(model.rows([5, 6, 7]))).all()


def test_a_provider_that_is_listed_and_fails_is_passed_over_with_its_reason(made):
    bundle = open_bundle(made[1])
    with cuda_on_cpu(refuses=FALLS_BACK), attached(bundle, CUDA) as work:
        assert {one.provider for one in work.variants.values()} == {"cpu"}
        assert {one.provider for one in work.refusals} == {"cuda"}
        assert all("does not run all of it here" in one.why for one in work.refusals)
    with (
        cuda_on_cpu(refuses=FALLS_BACK),
        pytest.raises(EngineUnusable, match="cuda does not run all"),
        attached(bundle, replace(CUDA, providers=("cuda",))),
    ):
        pass


def test_wrong_numbers_of_a_device_are_no_rung(made, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(made[1], folder)
    bundle = open_bundle(folder)
    graph = onnx.load(str(folder / "decoder.cuda-int4-32.onnx"), load_external_data=False)
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16 and tensor.raw_data:
            tensor.raw_data = np.frombuffer(tensor.raw_data, np.float16)[::-1].tobytes()
    # After the hashes were checked: as another build of the engine would compute.
    onnx.save(graph, str(folder / "decoder.cuda-int4-32.onnx"))
    with cuda_on_cpu(), attached(bundle, CUDA) as work:
        assert work.variants["decoder"].id == "cpu-int4-32"
        assert [one.variant for one in work.refusals] == ["cuda-int4-32"]
        assert "golden call" in work.refusals[0].why


def test_what_cannot_be_is_refused_at_once(made, tmp_path, capsys):
    out = str(tmp_path / "bundle")
    assert main(["export", str(made[0]), "--out", out, "--target", "toaster"]) == 2
    assert "expected one of cpu, cuda" in capsys.readouterr().err
    assert main(["export", str(made[0]), "--out", out, "--target", "cuda", "--search"]) == 2
    assert "measures the CPU of this machine alone" in capsys.readouterr().err
    both = ["--target", "cuda", "--adapters", f"one={tmp_path}"]
    assert main(["export", str(made[0]), "--out", out, *both]) == 2
    assert "--adapters with --target cuda, whose decoder takes none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_prefixes_read_by_either_typing_end_the_same(reference):
    """The plain road, without held arrays: what the export itself compares."""
    one = next(one for one in reference.graphs if one.graph.role == "decoder")
    from edgestream.export.prove_cuda import _Counting

    with OrtBackend().open(one.twin.path) as exact, OrtBackend().open(one.graph.path) as half:
        for prefix in reference.data.prefixes[:8]:
            logits = [
                next_logits(_Counting(engine), prefix, empty_cache(engine, len(prefix)))[0]
                for engine in (exact, half)
            ]
            error = np.abs(logits[0] - logits[1]).max()
            assert error <= 2e-2 * max(LEAST_SPREAD, logits[0].std())
