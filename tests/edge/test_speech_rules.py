"""Every setting of engines and of speaking reaches the runtime, with the runtime's own defaults."""

from __future__ import annotations

import pytest

from edgestream.edge.settings_tables import Settings, properties
from edgestream.edge.speech_rules import engine_rules, speaking_rules, with_memory_of
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.manifest_values import MemoryPlan
from edgestream.runtime.speaking import SpeakingRules, TokenGateRules

# These are for the run itself: its inbox and its pipeline.
OF_THE_RUN = {"session.questions_waiting", "session.question_cuts_event"}
KEYS = [
    key
    for key in properties()
    if key.startswith(("engine.", "encoder.", "context.", "session.")) and key not in OF_THE_RUN
]


def changed(key, value):
    table, name = key.split(".")
    tables = Settings()
    stage = getattr(tables, table).model_copy(update={name: value})
    return tables.model_copy(update={table: stage})


def another_value(schema):
    if "enum" in schema:
        return next(value for value in schema["enum"] if value != schema["default"])
    kinds = {"boolean": not schema["default"], "string": "What happens?"}
    return kinds.get(schema["type"], schema.get("maximum"))


def rules_of(settings):
    return engine_rules(settings), speaking_rules(settings)


def test_defaults_are_those_of_the_runtime():
    assert rules_of(Settings()) == (EngineRules(), SpeakingRules())


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_changes_what_the_runtime_is_told(key):
    schema = properties()[key]
    value = another_value(schema)
    if value == schema["default"]:
        value = schema["exclusiveMinimum"] + 0.5
    assert rules_of(changed(key, value)) != rules_of(Settings())


def test_the_gate_token_is_the_session_s():
    settings = changed("gate.kind", "token")
    assert speaking_rules(settings).token_gate == TokenGateRules()
    gate = settings.gate.model_copy(update={"speak_below": 0.5, "speak_once": False})
    rules = speaking_rules(settings.model_copy(update={"gate": gate}))
    assert rules.token_gate == TokenGateRules(0.5, False)


@pytest.mark.parametrize(("chosen", "on_branch"), [("layout", None), ("yes", True), ("no", False)])
def test_the_layout_is_asked_where_nothing_is_chosen(chosen, on_branch):
    settings = changed("session.question_on_branch", chosen)
    assert speaking_rules(settings).on_branch is on_branch


def test_a_bundle_says_how_it_was_taught_to_remember():
    plan = MemoryPlan(0, 0, 0, 0, topk=16, clip_len=2)
    rules = speaking_rules(with_memory_of(Settings(), plan))
    assert rules.recall.topk == 16 and rules.memory.key_frames.clip_len == 2
    chosen = with_memory_of(changed("memory.topk", 3), plan)
    assert (chosen.memory.topk, chosen.memory.clip_len) == (3, 2)
    for nothing in (None, MemoryPlan(0, 0, 0, 0)):
        assert speaking_rules(with_memory_of(Settings(), nothing)) == SpeakingRules()
