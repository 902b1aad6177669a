"""The ladder with a scripted TensorRT on top: what runs, what is refused and why, what falls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgestream.export.write_bundle import bundle_writer
from edgestream.runtime import engine_pool
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.engines import trt_module
from edgestream.runtime.engines.trt import TrtBackend
from edgestream.runtime.errors import BackendMissing
from edgestream.runtime.golden import GoldenCall, read_golden, write_golden
from edgestream.runtime.speaking import SpeakingRules
from edgestream.runtime.values import Frame, Observed, Question, Turn

from ..bundles import with_outputs
from ..scripted_tensorrt import HostDevice, scripted_tensorrt

REFERENCE = Path(__file__).parents[2] / "assets" / "reference"
pytestmark = pytest.mark.slow
RULES = EngineRules(threads=1)
CAPACITY = 512
SIZES = {
    "batch_size": [1, 1, 1],
    "sequence_length": [1, 16, 16],
    "total_sequence_length": [1, CAPACITY, CAPACITY],
    "past_sequence_length": [0, CAPACITY, CAPACITY],
}
ON_TOP = ("vision", "gate", "connector", "decoder")
"""Parts that have a variant of TensorRT; `evict` is the CPU's."""


def write_with_trt(target, change=lambda call: call):
    """The reference bundle whose parts have a variant of TensorRT too, with the same golden calls.

    Args:
        change: golden calls of TensorRT's variants, each to what it becomes.
    """
    facts = json.loads((REFERENCE / "manifest.json").read_text())
    files, calls = facts.pop("files"), list(read_golden(REFERENCE / "golden.npz"))
    for part in facts["parts"]:
        if part["role"] in ON_TOP:
            own = part["variants"][0]
            trt = {**own, "id": "trt", "provider": "tensorrt", "proof": "pending-device"}
            part["variants"].append({**trt, "sizes": SIZES})
            calls += [
                change(
                    GoldenCall(one.role, "trt", one.name, one.inputs, one.outputs, one.tolerances)
                )
                for one in calls
                if (one.role, one.variant) == (part["role"], own["id"])
            ]
    with bundle_writer(target) as writer:
        for name in files:
            if name != "golden.npz":
                writer.copy(name, REFERENCE / name)
        write_golden(writer.path("golden.npz"), calls)
        writer.finish(facts)
    return target


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return open_bundle(write_with_trt(tmp_path_factory.mktemp("ladder") / "bundle"))


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A scripted TensorRT that the pool finds; its device."""
    device = HostDevice()
    trt = scripted_tensorrt(device)
    # This decoder names the cache that comes out after the mask, whatever the length of the array.
    trt.sizes_of = lambda known: (
        {"total_sequence_length": CAPACITY} if known.get("past_sequence_length") == CAPACITY else {}
    )
    monkeypatch.setattr(trt_module, "_LOGS", {})
    shared = TrtBackend("tensorrt", tmp_path / "engines", trt=trt, device=device)

    def backends(provider, **how):
        if provider != "tensorrt":
            return backend_for(provider, **how)
        if device.is_gone:
            raise BackendMissing("the NVIDIA driver gives no GPU: it is lost")
        return shared

    monkeypatch.setattr(engine_pool, "backend_for", backends)
    return device


def frames(count=6, seed=0):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (count, 7, 7, 3), np.uint8)  # each is another scene
    return [
        Frame(at, at / 4, np.kron(one, np.ones((16, 16, 1), np.uint8)))
        for at, one in enumerate(coarse)
    ]


def said(model, tell, before=lambda at: None, count=6):
    """Embeds of a stream and two answers about it; `before` may break something at a frame."""
    heard = []
    for frame in frames(count):
        before(frame.index)
        features = model.encoder.encode(frame)
        decision = model.quiet(features, 0.25)
        embeds = model.connector.step(features, decision)
        heard.append(embeds)
        if model.passes_frames:
            list(model.session.take(Observed(features, embeds), lambda: False, tell))
        else:
            model.memory.step(features, embeds, decision)
    texts = []
    for at, words in enumerate(("Is it dark?", "What happened last?")):
        turn = Turn(f"t{at}", "question", 1.5, "answer", Question(f"q{at}", words, 1.5))
        *_, final = model.session.take(turn, lambda: False, tell)
        texts.append(final.text)
    return np.concatenate(heard), texts


def alone(bundle, rules):
    with attached(bundle, EngineRules(threads=1, providers=("cpu",)), rules) as model:
        return said(model, lambda record: None)


@pytest.mark.parametrize("context", ["recent", "continuous"])
def test_the_device_says_what_the_cpu_says(bundle, gpu, context):
    rules = SpeakingRules(context=context)
    with attached(bundle, RULES, rules) as model:
        told = []
        embeds, texts = said(model, told.append)
        used = model.gauges()["engines"]()
    assert {role: one["provider"] for role, one in used["used"].items()} == {
        **dict.fromkeys(ON_TOP, "tensorrt"),
        "evict": "cpu",
    }
    assert used["refused"] == [] and not told and not model.notes
    expected, expected_texts = alone(bundle, rules)
    assert np.array_equal(embeds, expected) and texts == expected_texts
    assert gpu.log.count("launch") > 0, "a frame and a step of the gate are recorded"
    assert not gpu.blocks and not gpu.streams, "all is given back"


def test_a_device_that_is_lost_in_the_middle_costs_no_word(bundle, gpu):
    rules, told, noticed = SpeakingRules(context="recent"), [], []

    def breaks(at):
        if at == 3:
            gpu.is_gone = True

    with attached(bundle, RULES, rules) as model:
        model.rungs.tell = noticed.append
        embeds, texts = said(model, told.append, breaks)
        used = model.gauges()["engines"]()
    expected, expected_texts = alone(bundle, rules)
    assert np.array_equal(embeds, expected) and texts == expected_texts
    assert {one["provider"] for one in used["used"].values()} == {"cpu"}
    assert {one["variant"] for one in used["refused"]} == {"trt"}
    assert "the GPU is lost" in used["refused"][0]["why"]
    roles = [one.body["message"].split()[0] for one in noticed]
    assert roles == ["vision", "gate", "connector"]
    assert all(one.body["code"] == "next-rung" for one in noticed)
    assert [one.body["code"] for one in told] == ["engine-failed", "next-rung"]


def test_a_stream_goes_on_though_its_cache_is_lost(bundle, gpu):
    rules, told = SpeakingRules(context="continuous"), []

    def breaks(at):
        gpu.is_gone = gpu.is_gone or at == 3

    with attached(bundle, RULES, rules) as model:
        _, texts = said(model, told.append, breaks)
        assert model.session.model.arena.mirror is None
    assert all(texts) and "next-rung" in [one.body["code"] for one in told]


def test_wrong_numbers_are_the_next_rung_with_the_reason(tmp_path, gpu):
    def change(call):
        if call.role != "vision":
            return call
        return with_outputs(call, tokens=call.outputs["tokens"] + 1)

    bundle = open_bundle(write_with_trt(tmp_path / "off", change))
    with attached(bundle, RULES, SpeakingRules()) as model:
        used = model.gauges()["engines"]()
        notes = [note.body for note in model.notes]
    assert used["used"]["vision"]["provider"] == "cpu"
    assert used["used"]["decoder"]["provider"] == "tensorrt"
    (refused,) = used["refused"]
    assert "golden call" in refused["why"] and "tokens off by 1" in refused["why"]
    assert notes[0]["code"] == "variant-refused" and "tokens off by 1" in notes[0]["message"]


def test_a_provider_that_is_not_here_is_refused_in_a_sentence(bundle, gpu):
    gpu.is_gone = True
    with attached(bundle, RULES, SpeakingRules()) as model:
        used = model.gauges()["engines"]()
    assert {one["provider"] for one in used["used"].values()} == {"cpu"}
    assert used["refused"][0]["why"] == "the NVIDIA driver gives no GPU: it is lost"


def test_a_cache_that_was_made_shorter_still_runs(bundle, gpu):
    """The engine's cache may have one length alone; a shorter arena is then the next rung's."""
    with attached(bundle, RULES, SpeakingRules(cache_slots=300)) as model:
        _, texts = said(model, lambda record: None)
    assert all(texts)
