"""Adapters in a session: chosen per answer, and what another one read is read again, no more."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from edgestream.runtime.adapters import Adapters
from edgestream.runtime.errors import AdapterUnknown, InputMismatch

from ..scripted_decoder import ScriptedDecoder
from .test_session import memory_of, question, recent, script, take

CALM, BRIEF = ({"q.lora_A": np.full((2, 1), value, np.float32)} for value in (1.0, 2.0))


class AdaptedDecoder(ScriptedDecoder):
    """A scripted decoder that takes `q.lora_A`, and says which one each run had."""

    def __init__(self, *args, **more) -> None:
        super().__init__(*args, **more)
        self.chosen: list[float | None] = []

    def bind(self, inputs, outputs):
        if any(name.endswith("lora_B") for name in inputs):
            raise InputMismatch("got the input q.lora_B")
        return super().bind(inputs, outputs)

    def step(self, inputs, outputs) -> None:
        adapter = inputs.get("q.lora_A")
        self.chosen.append(None if adapter is None else float(adapter[0, 0]))
        super().step(inputs, outputs)


def adapted(engine):
    session = recent(engine, memory_of(6), dialogue_turns=0)  # what was said makes no difference
    session.adapters = Adapters(MappingProxyType({"calm": CALM, "brief": BRIEF}))
    return session


def read(session, engine, adapter, number):
    """(tokens read, adapters in use, the answer) of one question about the same frames."""
    engine.tokens, engine.chosen, session.adapter = 0, [], adapter
    final, _ = take(session, question("what?", 2.5, f"t{number}"))
    return engine.tokens, set(engine.chosen), final


def test_a_swap_reads_the_prompt_again_and_the_same_adapter_does_not():
    engine = AdaptedDecoder(script({}, {"what?": "a cat"}))
    session = adapted(engine)
    whole, chosen, final = read(session, engine, None, 0)
    assert chosen == {None} and final.adapter is None
    again, _, _ = read(session, engine, None, 1)
    assert again < whole, "the prefix is in the cache"
    for number, (name, value) in enumerate((("calm", 1.0), ("brief", 2.0), ("base", None)), 2):
        swapped, chosen, final = read(session, engine, name, number)
        assert swapped == whole, "keys and values of another adapter are no prefix of this one"
        assert chosen == {value}
        assert final.adapter == (None if name == "base" else name)
        kept, _, _ = read(session, engine, name, number)
        assert kept == again
        assert final.text == "a cat"


def test_an_unknown_adapter_changes_nothing():
    engine = AdaptedDecoder(script({}, {"what?": "a cat"}))
    session = adapted(engine)
    read(session, engine, "calm", 0)
    session.adapter = "loud"
    with pytest.raises(AdapterUnknown, match="base, calm, brief"):
        take(session, question("what?", 2.5, "t2"))
    tokens, chosen, _ = read(session, engine, "calm", 3)
    assert chosen == {1.0} and tokens < 20


def test_an_adapter_that_the_graph_does_not_take_leaves_the_old_one():
    engine = AdaptedDecoder(script({}, {"what?": "a cat"}))
    session = adapted(engine)
    read(session, engine, "calm", 0)
    with pytest.raises(InputMismatch):
        session.model.use({"q.lora_B": CALM["q.lora_A"]})
    _, chosen, _ = read(session, engine, "calm", 1)
    assert chosen == {1.0}


def test_another_engine_goes_on_with_the_adapter():
    engine = AdaptedDecoder(script({}, {"what?": "a cat"}))
    session = adapted(engine)
    read(session, engine, "brief", 0)
    other = AdaptedDecoder(script({}, {"what?": "a cat"}))
    assert session.model.replace_engine(other)
    _, chosen, final = read(session, other, "brief", 1)
    assert chosen == {2.0} and final.adapter == "brief"
