"""A bundle at work: its own engines behind the stages, and what happens when a rung breaks."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.decoder_rungs import DecoderRungs
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.engines.ladder import Rung
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.errors import (
    EngineFailed,
    EngineUnusable,
    SettingsInvalid,
    UntrainedModel,
)
from edgestream.runtime.manifest import CacheShape, Positions, Variant
from edgestream.runtime.recall import RecallRules
from edgestream.runtime.speaking import SpeakingRules, TokenGateRules
from edgestream.runtime.token_rows import TokenRows
from edgestream.runtime.values import Frame, GateDecision, Observed, Question, Turn

from ..scripted_decoder import HEAD, HIDDEN, VOCABULARY, ScriptedDecoder

ONE_THREAD = EngineRules(threads=1)
SPEAKS = SpeakingRules(allow_random_weights=True)


def asked(text, time_s):
    return Turn("t1", "question", time_s, "answer", question=Question("q1", text, time_s))


def frames_of(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        Frame(index, index / 2, random.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        for index in range(count)
    ]


def answer(bundle_folder, rules, frames, question="What is there now?"):
    with attached(open_bundle(bundle_folder), ONE_THREAD, rules) as at_work:
        for frame in frames:
            features = at_work.encoder.encode(frame)
            embeds = at_work.connector.step(features, GateDecision(frame.time_s))
            at_work.memory.step(features, embeds, GateDecision(frame.time_s))
            if at_work.passes_frames:
                moment = Observed(features, embeds)
                assert not list(at_work.session.take(moment, lambda: False, print))
        turn = asked(question, frames[-1].time_s)
        told = []
        said = list(at_work.session.take(turn, lambda: False, told.append))
        assert not told
        return said[-1]


@pytest.mark.slow
@pytest.mark.timeout(900)  # the checkpoint may have to be trained first
@pytest.mark.parametrize("context", ["recent", "continuous"])
def test_a_trained_bundle_names_what_it_sees(trained_bundle, context):
    from ..painted_streams import painted

    random = np.random.default_rng(7)
    names = [("red", "circle"), ("blue", "square"), ("green", "cross"), ("white", "bar")]
    right = 0
    for name in names:
        pictures = [Frame(i, i / 2, painted(*name, random)) for i in range(3)]
        final = answer(trained_bundle, SpeakingRules(context=context), pictures)
        right += all(word in final.text for word in name)
        assert final.context == context and not final.is_cut
    assert right >= 3, "trained to .9 and more; a wiring fault leaves next to nothing"


@pytest.mark.slow
def test_threads_split_or_shared_say_the_same(random_bundle):
    frames = frames_of(6)
    finals = [
        answer(random_bundle, replace(SPEAKS, context="continuous"), frames),
        answer(random_bundle, replace(SPEAKS, context="continuous", cache_slots=200), frames),
    ]
    assert finals[0].text == finals[1].text  # no eviction in either: the size changes nothing


@pytest.mark.slow
def test_weights_that_look_random_do_not_speak_unless_they_are_told_to(random_bundle):
    bundle = open_bundle(random_bundle)
    assert bundle.manifest.weights_look_random
    with pytest.raises(UntrainedModel, match="look random"), attached(bundle, ONE_THREAD):
        pass
    with attached(bundle, ONE_THREAD, SPEAKS) as at_work:
        assert [note.body["code"] for note in at_work.notes] == ["weights-look-random"]


@pytest.mark.slow
def test_rules_that_do_not_fit_the_model_are_refused(random_bundle):
    bundle = open_bundle(random_bundle)
    gate = TokenGateRules()
    for rules, words in (
        (replace(SPEAKS, token_gate=gate), "continuous"),
        (replace(SPEAKS, cache_slots=512), "at most the 256"),
        (replace(SPEAKS, recall=RecallRules(router="indexer")), "has no indexer part"),
        (replace(SPEAKS, cache_slots=40), "shortest question about one frame"),
    ):
        with pytest.raises(SettingsInvalid, match=words), attached(bundle, ONE_THREAD, rules):
            pass


@pytest.mark.slow
def test_a_decoder_that_computes_something_else_is_no_rung(random_bundle, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(random_bundle, folder)
    bundle = open_bundle(folder)
    data = folder / "decoder.cpu-fp32.onnx.data"
    content = bytearray(data.read_bytes())
    content[-4096:] = np.full(1024, 3.0, np.float32).tobytes()
    data.write_bytes(content)  # after the hashes were checked: another build of the engine, say
    with pytest.raises(EngineUnusable, match="golden"), attached(bundle, ONE_THREAD, SPEAKS):
        pass


# The rungs of the decoder, scripted.


def variant(name, kv_dtype="float32"):
    return Variant(name, "cpu", f"{name}.onnx", "passed", "float32", (), (), kv_dtype)


def rungs_of(engines):
    """A ladder of these engines, best first; failed ones are passed over."""

    def open_rung(failed):
        for name, engine in engines.items():
            if name not in failed:
                dtype = engine.inputs[2].dtype
                return Rung(engine, variant(name, dtype), ())
        raise EngineUnusable("no rung is left")

    return DecoderRungs(open_rung)


FAULT = EngineFailed("it broke off")


class Facts:
    """What `model` reads of a manifest."""

    cache = CacheShape(1, 1, HEAD, 64)
    positions = Positions(axes=1, theta=10000.0)


def opened(rungs):
    rows = TokenRows(np.zeros((VOCABULARY, HIDDEN), np.float32))
    return rungs.model(Facts, rows, OpenLane(), None)


def test_the_next_rung_keeps_the_cache_where_its_dtype_is_the_same():
    engines = {name: ScriptedDecoder(lambda text: {}) for name in ("best", "second")}
    rungs, told, resets = rungs_of(engines), [], []
    model = opened(rungs)
    model.append(np.ones((3, HIDDEN), np.float32))
    assert rungs.next_rung(model, FAULT, lambda: resets.append(1), told.append)
    assert model.arena.length == 3 and not resets
    assert [one.body["code"] for one in told] == ["next-rung"] and "second" in str(told[0].body)
    model.append(np.ones((1, HIDDEN), np.float32))
    assert engines["second"].runs == 1
    assert engines["best"].is_closed and not engines["second"].is_closed
    assert not rungs.next_rung(model, FAULT, lambda: None, told.append)  # and then there is none


def test_the_next_rung_with_another_cache_begins_anew():
    engines = {
        "best": ScriptedDecoder(lambda text: {}),
        "half": ScriptedDecoder(lambda text: {}, dtype="float16"),
    }
    rungs, resets = rungs_of(engines), []
    model = opened(rungs)
    model.append(np.ones((3, HIDDEN), np.float32))
    assert rungs.next_rung(model, FAULT, lambda: resets.append(1), lambda record: None)
    assert model.arena.length == 0 and resets == [1] and model.arena.dtype == "float16"


def test_a_rung_that_cannot_be_bound_is_passed_over():
    class Unbound(ScriptedDecoder):
        def bind(self, inputs, outputs):
            raise EngineUnusable("its memory is elsewhere")

    engines = {"far": Unbound(lambda text: {}), "near": ScriptedDecoder(lambda text: {})}
    model = opened(rungs_of(engines))
    model.append(np.ones((1, HIDDEN), np.float32))
    assert engines["near"].runs == 1
    with pytest.raises(EngineUnusable, match="elsewhere"):
        opened(rungs_of({"far": Unbound(lambda text: {})}))
    assert EngineFailed("x").exit_code == 4
