"""Engines of one bundle for several streams: opened once, and none hears of another."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from edgestream.runtime.assembly import attached_to
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine_pool import EnginePool, EngineRules, engine_pool
from edgestream.runtime.errors import EngineFailed, EngineUnusable
from edgestream.runtime.speaking import SpeakingRules
from edgestream.runtime.values import Frame, Question, Turn

REFERENCE = Path(__file__).parents[2] / "assets" / "reference"
ONE_THREAD = EngineRules(threads=1)


def frames(seed, count=5):
    random = np.random.default_rng(seed)
    return [
        Frame(at, at / 4, random.integers(0, 255, (112, 112, 3), np.uint8)) for at in range(count)
    ]


def said_of(model, seed):
    """Summaries, embeds and an answer of one stream, step by step."""
    heard = []
    for frame in frames(seed):
        features = model.encoder.encode(frame)
        decision = model.quiet(features, 0.25)
        embeds = model.connector.step(features, decision)
        model.memory.step(features, embeds, decision)
        heard.append(embeds)
        yield None
    turn = Turn("t1", "question", 1.0, "answer", Question("q1", "Is it dark?", 1.0))
    *_, final = model.session.take(turn, lambda: False, lambda record: None)
    yield np.concatenate(heard), final.text


@pytest.fixture
def pool():
    with engine_pool(open_bundle(REFERENCE), ONE_THREAD) as opened:
        yield opened


@pytest.mark.medium
def test_streams_that_take_turns_say_what_each_says_alone(pool):
    with ExitStack() as stack:
        models = [stack.enter_context(attached_to(pool, SpeakingRules())) for _ in range(3)]
        streams = [said_of(model, seed) for seed, model in enumerate(models)]
        *_, together = zip(*streams, strict=True)
    for seed, (embeds, text) in enumerate(together):
        with (
            engine_pool(open_bundle(REFERENCE), ONE_THREAD) as own,
            attached_to(own, SpeakingRules()) as model,
        ):
            alone_embeds, alone_text = list(said_of(model, seed))[-1]
        assert np.array_equal(embeds, alone_embeds) and text == alone_text


@pytest.mark.medium
def test_streams_in_threads_say_the_same(pool):
    results, alone = {}, {}
    with ExitStack() as stack:
        models = [stack.enter_context(attached_to(pool, SpeakingRules())) for _ in range(3)]
        threads = [
            threading.Thread(
                target=lambda s=seed, m=model: results.update({s: list(said_of(m, s))[-1]})
            )
            for seed, model in enumerate(models)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed in results:
        with attached_to(pool, SpeakingRules()) as model:
            alone[seed] = list(said_of(model, seed))[-1]
        assert np.array_equal(results[seed][0], alone[seed][0])
        assert results[seed][1] == alone[seed][1]
    assert len(results) == 3


def test_each_part_is_opened_once(pool, monkeypatch):
    opened = []
    from edgestream.runtime import engine_pool as module

    real = module.proven_engine
    monkeypatch.setattr(
        module, "proven_engine", lambda *args, **kw: opened.append(args[1]) or real(*args, **kw)
    )
    for _ in range(2):
        with attached_to(pool, SpeakingRules()), attached_to(pool, SpeakingRules()):
            pass
    assert sorted(opened) == ["connector", "decoder", "evict", "gate", "vision"]


def test_an_engine_that_broke_off_goes_when_its_last_stream_does(pool):
    one, other = pool.lease("decoder").engine, pool.lease("decoder").engine
    variant = pool.lease("decoder")
    variant.engine.give_back()
    with pytest.raises(EngineUnusable, match="broke off"):
        pool.lease("decoder", (variant.variant.id,))
    one.__exit__(None, None, None)
    with pytest.raises(EngineFailed, match="given back"):
        one.bind({}, {})
    assert other.inputs and other._held().inputs  # still runs for the other stream
    inner = other._held()
    other.give_back()
    with pytest.raises(EngineFailed, match="closed"):
        inner.run({})
    again = pool.lease("decoder").engine  # it may be well again
    assert again._held() is not inner


def test_giving_back_twice_counts_once(pool):
    first, second = pool.lease("vision").engine, pool.lease("vision").engine
    first.give_back()
    first.give_back(is_broken=True)
    inner = second._held()
    second.give_back()
    assert pool.lease("vision").engine._held() is inner


def test_nothing_runs_after_the_pool():
    pool = EnginePool(open_bundle(REFERENCE), ONE_THREAD)
    engine = pool.lease("vision").engine
    pool.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.run({})
    engine.give_back()
