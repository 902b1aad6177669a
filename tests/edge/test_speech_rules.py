"""Every setting of engines and of speaking reaches the runtime, with the runtime's own defaults."""

from __future__ import annotations

import pytest

from edgestream.edge.settings_tables import Settings, properties
from edgestream.edge.speech_rules import engine_rules, speaking_rules
from edgestream.runtime.assembly import EngineRules
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
