"""Laws of a session that hold whatever happens: any order of frames, questions, cuts and faults."""

from __future__ import annotations

import random
from itertools import count

import numpy as np
import pytest

from edgestream.runtime.context_recent import RecentContext, RecentRules
from edgestream.runtime.decoder import Decoding
from edgestream.runtime.errors import DeviceMemoryExhausted, EngineError, EngineFailed
from edgestream.runtime.eviction import EvictionPolicy
from edgestream.runtime.recent import RecentMemory
from edgestream.runtime.session import LanguageSession
from edgestream.runtime.token_gate import TokenGate
from edgestream.runtime.values import GateDecision, Observed

from ..scripted_decoder import (
    LAYOUT,
    SILENT,
    ScriptedDecoder,
    decode,
    encode,
    observed,
    scripted_model,
)
from .test_session import continuous, event, question, script

FAULTS = (EngineFailed("x"), None, KeyboardInterrupt(), DeviceMemoryExhausted("m"))
STEPS = 40


def random_session(chance: random.Random) -> tuple[LanguageSession, RecentMemory | None]:
    """A session of random rules, over an engine that breaks off now and then."""
    faults = {chance.randrange(1, 60): chance.choice(FAULTS) for _ in range(chance.randrange(5))}
    silence = {number: chance.random() for number in range(STEPS)}
    answer = chance.choice(["", "y", "yes it is a very long answer"])
    engine = ScriptedDecoder(script(silence, default=answer), faults)
    capacity = chance.choice([40, 64, 96, 128, 256])
    if chance.random() < 0.3:
        memory = RecentMemory(max_frames=6)
        model = scripted_model(engine, capacity, chunk_tokens=chance.choice([1, 5, 16]))
        rules = RecentRules(chance.choice([1, 3]), chance.choice([0.0, 1.0]), 2, 16)
        context = RecentContext(model, LAYOUT, encode, memory.view, rules)
        return LanguageSession(model, context, LAYOUT, decode, Decoding()), memory
    gates = [None, TokenGate((SILENT,)), TokenGate((SILENT,), once_per_stretch=False)]
    policy = EvictionPolicy(
        chance.choice([0, 20, capacity // 2]), chance.choice([1, capacity // 8]), 0
    )
    session = continuous(
        engine,
        capacity=capacity,
        on_branch=chance.random() < 0.5,
        gate=chance.choice(gates),
        policy=policy,
        protected_slots=chance.choice([0, capacity // 8]),
    )
    return session, None


def moment_of(chance: random.Random, step: int, memory: RecentMemory | None):
    kind = chance.choice("ffffqqe")
    if kind == "q":
        return question("q" * chance.choice([1, 5, 30]), step / 2, f"t{step}")
    if kind == "e":
        return event(step / 2, f"t{step}")
    one = observed(step)
    if memory is not None:
        memory.step(one.features, one.embeds, GateDecision(one.features.time_s))
    return one


def assert_sound(session: LanguageSession) -> None:
    """The cache is zero beyond its length, and the context knows what is in every slot of it."""
    arena = session.model.arena
    assert all(not array[:, :, arena.length :].any() for array in arena.tensors().values())
    assert np.array_equal(arena.positions[0, : arena.length], np.arange(arena.length))
    spans = getattr(session.context, "spans", None)
    assert spans is None or sum(span.slots for span in spans) == arena.length


@pytest.mark.medium
@pytest.mark.parametrize("first_seed", range(0, 240, 60))
def test_every_turn_has_one_final_and_the_cache_stays_sound(first_seed):
    for seed in range(first_seed, first_seed + 60):
        chance = random.Random(seed)
        session, memory = random_session(chance)
        session.next_rung = lambda fault, tell, chance=chance: chance.random() < 0.5
        for step in range(STEPS):
            moment = moment_of(chance, step, memory)
            polls, cut_after = count(), chance.choice([0, 1, 3, 99, 99])
            closes_at = chance.choice([None, None, None, 0, 2])
            told, said = [], []
            responses = session.take(
                moment, lambda polls=polls, most=cut_after: next(polls) >= most, told.append
            )
            try:
                for index, response in enumerate(responses):
                    said.append(response)
                    if index == closes_at:
                        responses.close()
                        break
            except KeyboardInterrupt:
                pass
            except EngineError:
                break  # it never worked: the run is over
            finals = sum(one.is_final for one in said) + sum(one.type == "final" for one in told)
            assert finals <= 1 and (finals == 1 or isinstance(moment, Observed)), (seed, step)
            assert_sound(session)
