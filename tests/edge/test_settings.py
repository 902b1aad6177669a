"""Settings: order of the sources of a value, origins, refusals, and how they are shown."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgestream.edge.cli import main
from edgestream.edge.commands.settings import lines_of
from edgestream.edge.gate_rules import (
    change_rules,
    check_gate,
    learned_rules_of,
    watching_gate,
    with_gate_of,
)
from edgestream.edge.settings import load_settings, toml_text
from edgestream.edge.settings_tables import Settings, properties, setting_rows
from edgestream.runtime.errors import SettingsInvalid
from edgestream.runtime.gate import NeverGate
from edgestream.runtime.gate_change import CHANGE_EVENTS, ChangeGate, ChangeRules
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.manifest import GateFacts
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.phases import PhaseRules

KEYS = [row.key for row in setting_rows()]


def load(tmp_path, toml=None, sets=(), flags=None, environ=None):
    if toml is not None:
        (tmp_path / "edgestream.toml").write_text(toml)
    return load_settings(None, list(sets), flags or {}, environ or {}, folder=tmp_path)


def refusal(*arguments, **keywords):
    with pytest.raises(SettingsInvalid) as caught:
        load(*arguments, **keywords)
    return caught.value


def test_a_later_source_of_a_value_wins_and_is_named(tmp_path):
    toml = "[source]\nfps = 5"
    variable = {"EDGESTREAM_SOURCE__FPS": "6"}
    flag, sets = {"source.fps": 7.0}, ["source.fps=8", "source.fps=9"]
    file = f"file {tmp_path / 'edgestream.toml'}"

    def found(**sources):
        resolved = load(tmp_path, **sources)
        return resolved.settings.source.fps, resolved.origins["source.fps"]

    assert found() == (4.0, "default")
    assert found(toml=toml) == (5.0, file)
    assert found(environ=variable) == (6.0, "variable EDGESTREAM_SOURCE__FPS")
    assert found(environ=variable, flags=flag) == (7.0, "flag --fps")
    assert found(environ=variable, flags={"source.fps": None})[0] == 6.0
    assert found(environ=variable, flags=flag, sets=sets) == (9.0, "flag --set")


def test_the_flag_of_a_kind_has_the_name_of_its_table(tmp_path):
    assert load(tmp_path, flags={"gate.kind": "never"}).origins["gate.kind"] == "flag --gate"


def test_every_setting_has_an_origin_a_unit_in_its_name_and_a_meaning(tmp_path):
    assert list(load(tmp_path).origins) == KEYS
    for row in setting_rows():
        assert row.meaning.endswith(".") and len(row.meaning) > 40
        for unit in ("s", "px", "tokens", "slots", "frames", "turns", "threads"):
            assert not row.key.endswith((f"_{unit}", f".{unit}")) or row.unit == unit


def test_one_file_is_read_the_first_that_is_there(tmp_path):
    home = tmp_path / "home"
    usual, xdg_folder = home / ".config" / "edgestream", home / "x" / "edgestream"
    for folder, fps in ((tmp_path, 5), (usual, 6), (xdg_folder, 7)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "edgestream.toml").write_text(f"source.fps = {fps}")
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text("source.fps = 8")
    other.write_text("source.fps = 9")
    environ = {"HOME": str(home)}
    xdg = {**environ, "XDG_CONFIG_HOME": str(home / "x")}

    def fps(file=None, environ=environ, folder=tmp_path):
        return load_settings(file, [], {}, environ, folder=folder).settings.source.fps

    assert fps() == 5.0
    assert fps(folder=home) == 6.0
    assert fps(folder=home, environ=xdg) == 7.0
    assert fps(environ={**xdg, "EDGESTREAM_SETTINGS": str(named)}) == 8.0
    assert fps(other, environ={**xdg, "EDGESTREAM_SETTINGS": str(named)}) == 9.0
    assert fps(folder=home, environ={}) == 4.0


def test_tables_of_event_types_are_replaced_whole_or_by_entry(tmp_path):
    toml = "[gate.open_above]\ncut = 0.4\ndark = 0.3"
    variable = {"EDGESTREAM_GATE__OPEN_ABOVE__CUT": "0.2"}
    assert load(tmp_path, toml, environ=variable).settings.gate.open_above == {
        "cut": 0.2,
        "dark": 0.3,
    }
    whole = load(tmp_path, toml, sets=["gate.open_above={pan = 0.6}", "gate.open_above.cut=0.1"])
    assert whole.settings.gate.open_above == {"pan": 0.6, "cut": 0.1}
    assert whole.origins["gate.open_above"] == "flag --set"


@pytest.mark.parametrize(
    ("sets", "words", "hint"),
    [
        ("source.fsp=8", "no setting source.fsp (flag --set)", "source.fps"),
        ("fps=8", "no setting fps", "source.fps"),
        ("weather.rain=1", "no setting weather.rain", "edgestream settings"),
        ("source.fps.x=1", "no setting source.fps.x", "source.fps"),
        ("source=8", "source is 8, expected a table", "[source]"),
        ("source.fps=0", "source.fps is 0, expected a number above 0 and at most 120, in 1/s", ""),
        ("source.fps=120.5", "source.fps is 120.5, expected", ""),
        ("source.fps=nan", "source.fps is NaN, expected", ""),
        ("source.fps=inf", "source.fps is Infinity, expected", ""),
        ("source.fps=4\nx = 5", 'source.fps is "4\\nx = 5", expected', ""),
        ("source.fps=true", "source.fps is true, expected a number", ""),
        ("source.fps=fast", 'source.fps is "fast", expected a number', ""),
        ("source.fps=", 'source.fps is "", expected a number', ""),
        ("source.max_side_px=1280.5", "a whole number from 16 to 8192, in px", ""),
        ("source.realtime=yes", 'source.realtime is "yes", expected true or false', ""),
        ("gate.kind=every:0", "one of the form auto, change, learned, every:10, token, never", ""),
        (
            "engine.provider=tpu",
            'engine.provider is "tpu", expected one of auto, tensorrt, tensorrt-rtx, cuda, cpu',
            "",
        ),
        ("session.question_on_branch=true", "is true, expected one of layout, yes, no", ""),
        ("session.describe_prompt=5", "is 5, expected a text in quotes, of at most 1000", ""),
        ("session.seed=-1", "expected a whole number from 0 to 4294967295 (", ""),
        ("session.top_p=0", "expected a number above 0 and at most 1 (", ""),
        ("context.dialog_turns=1", "no setting context.dialog_turns", "context.dialogue_turns"),
        ("gate.open_above=1", "expected a table of event types, each with a number above 0", ""),
        ("gate.open_above.cut=2", "gate.open_above.cut is 2, expected a number above 0", ""),
        ("gate.hold_s.cut=-1", "gate.hold_s.cut is -1, expected a number from 0 to 3600, in s", ""),
        ("privacy.zones=1", "expected a table of cameras, each with a text in quotes, of at", ""),
        ("privacy.zones.door=1", "privacy.zones.door is 1, expected a text in quotes", ""),
        ("source.fps", "got --set source.fps, expected KEY=VALUE", "source.fps=8"),
        ("=5", "got --set =5, expected KEY=VALUE", "source.fps=8"),
        (" =5", "got --set  =5, expected KEY=VALUE", "source.fps=8"),
        ("session.foo=1", "no setting session.foo", "`edgestream settings` shows all"),
        ("session.sad=1", "no setting session.sad", "`edgestream settings` shows all"),
        ("gate.foo=1", "no setting gate.foo", "`edgestream settings` shows all"),
        ("foo=1", "no setting foo", "`edgestream settings` shows all"),
        ("sorce.fps=1", "no setting sorce.fps", "did you mean source.fps?"),
        ("sesion.temperatur=1", "no setting sesion.temperatur", "mean session.temperature?"),
        ("session.fps=1", "no setting session.fps", "did you mean source.fps?"),
        ("temprature=1", "no setting temprature", "did you mean session.temperature?"),
    ],
)
def test_a_refusal_says_got_expected_where_and_try(tmp_path, sets, words, hint):
    error = refusal(tmp_path, sets=[sets])
    assert words in error.message and hint in error.hint


def test_a_refusal_names_the_file_or_the_variable(tmp_path):
    assert "(variable EDGESTREAM_SOURCE__FSP)" in (
        refusal(tmp_path, environ={"EDGESTREAM_SOURCE__FSP": "8"}).message
    )
    assert "edgestream.toml)" in refusal(tmp_path, "[source]\nfps = 'x'").message
    assert "edgestream.toml is no TOML: " in refusal(tmp_path, "[source").message
    assert "(at line 2, column 7)" in refusal(tmp_path, "[source]\nfps = \n").message


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), (b"\xff\xfe", "is no TOML")], ids=str
)
def test_a_file_that_was_asked_for_must_be_one(tmp_path, content, words):
    file = tmp_path / "x.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=words):
        load_settings(file, [], {}, {})


def test_variables_without_two_underscores_are_no_settings(tmp_path):
    load(tmp_path, environ={"EDGESTREAM_CLIPS": "x", "EDGESTREAM_SETTINGS": "", "PATH": "y"})


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().source.fps = 8.0
    with pytest.raises(ValidationError):
        Settings().source = Settings().source


@pytest.mark.medium
@given(
    st.floats(1e-6, 120),
    st.integers(16, 8192),
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
def test_what_is_shown_can_be_read_again(fps, side, realtime, prompt):
    values = {
        "source.fps": fps,
        "source.max_side_px": side,
        "source.realtime": realtime,
        "session.describe_prompt": prompt,
    }
    sets = [f"{key}={toml_text(value)}" for key, value in values.items()]
    resolved = load_settings(None, sets, {}, {}, folder=Path("nowhere"))
    assert {key: resolved.value(key) for key in values} == values


@pytest.mark.medium
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_is_taken_or_refused_and_nothing_else(key, value):
    try:
        load_settings(
            None, [f"{key}={value}", f"source.fps={value}"], {}, {}, folder=Path("nowhere")
        )
    except SettingsInvalid as error:
        assert error.message


@pytest.mark.medium
@given(st.from_regex(properties()["gate.kind"]["pattern"].replace("$", r"\Z"), fullmatch=True))
def test_every_kind_that_the_settings_take_is_a_gate(kind):
    settings = Settings()
    settings = settings.model_copy(update={"gate": settings.gate.model_copy(update={"kind": kind})})
    if kind == "learned":
        with pytest.raises(SettingsInvalid, match=r"gate\.kind is learned"):
            with_gate_of(settings, None)
        return
    gate = watching_gate(with_gate_of(settings, None).gate)
    assert isinstance(gate, NeverGate) == (kind in ("never", "token"))
    assert kind != "auto" or isinstance(gate, ChangeGate)


@pytest.mark.parametrize(
    ("sets", "has_language_model", "hint"),
    [
        ([], False, None),
        (["gate.kind=token"], False, "--bundle"),
        (["gate.kind=token"], True, "--set context.kind=continuous"),
        (["gate.kind=token", "context.kind=continuous"], False, "--bundle"),
        (["gate.kind=token", "context.kind=continuous"], True, None),
        (["gate.kind=learned"], False, "--bundle"),
        (["gate.kind=learned"], True, None),
    ],
)
def test_a_gate_that_needs_a_model_says_so(tmp_path, sets, has_language_model, hint):
    settings = load(tmp_path, sets=sets).settings
    if hint is None:
        check_gate(settings, has_language_model=has_language_model)
        return
    with pytest.raises(SettingsInvalid, match=r"gate\.kind is (token|learned)") as caught:
        check_gate(settings, has_language_model=has_language_model)
    assert hint in caught.value.hint


def test_defaults_that_the_runtime_has_too_are_the_same():
    settings = Settings()
    for kind, name, value in (
        (Inbox, "capacity", settings.session.questions_waiting),
        (Outlet, "capacity", settings.records.outlet_capacity),
        (Metrics, "stats_every_s", settings.records.stats_every_s),
    ):
        assert inspect.signature(kind).parameters[name].default == value


def test_chosen_rules_lie_over_the_gate_own():
    gate = Settings().gate
    assert change_rules(gate) == ChangeRules()
    chosen = gate.model_copy(update={"open_above": {"cut": 0.25}, "hold_s": {"cut": 2.0}})
    rules, own = change_rules(chosen).phases, ChangeRules().phases
    assert (rules["cut"].open_above, rules["cut"].closes_under, rules["cut"].hold_s) == (
        0.25,
        0.2,
        2.0,
    )
    assert all(rules[name] == own[name] for name in CHANGE_EVENTS if name != "cut")


def test_chosen_rules_lie_over_those_of_a_model():
    facts = GateFacts("learned", ("cut", "fall"), {"speak": 0.6, "fall": 0.3}, close_ratio=0.5)
    network = SimpleNamespace(names=("speak", "cut", "fall"))
    chosen = {"open_above": {"fall": 0.4, "speak": 0.9}, "hold_s": {"cut": 2.0}}
    rules = learned_rules_of(Settings().gate.model_copy(update=chosen), network, facts)
    assert rules.speak == PhaseRules(0.9)
    assert rules.events == {"cut": PhaseRules(0.5, 0.25, hold_s=2.0), "fall": PhaseRules(0.4)}
    wrong = Settings().gate.model_copy(update={"open_above": {"motion": 0.4}})
    with pytest.raises(SettingsInvalid, match="expected one of speak, cut, fall"):
        learned_rules_of(wrong, network, facts)


def test_an_event_type_that_is_none_is_refused():
    gate = Settings().gate.model_copy(update={"hold_s": {"motions": 2.0}})
    with pytest.raises(
        SettingsInvalid, match=r"gate.hold_s names the event type 'motions'"
    ) as caught:
        change_rules(gate)
    assert caught.value.hint == "did you mean motion?"


@pytest.mark.parametrize("columns", [None, 60, 80, 100, 120, 200])
def test_the_table_shows_everything_within_its_width(tmp_path, columns):
    lines = lines_of(load(tmp_path, sets=["gate.open_above.cut=0.4"]), columns)
    text = re.sub(r"\s+", " ", " ".join(lines))
    for row in setting_rows():
        assert row.key in text
    assert "{cut = 0.4}" in text and "flag --set" in text
    words = text.split()
    assert all(word in words for row in setting_rows() for word in row.meaning.split())
    if columns is None:
        assert len(lines) == len(KEYS) + 1
        assert all(
            line.endswith(row.meaning) for line, row in zip(lines[1:], setting_rows(), strict=True)
        )
    else:
        assert max(map(len, lines)) <= max(columns, 74)  # the first four columns are never cut


def test_the_command_prints_one_json_line_that_fits_the_schema(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["settings", "--json", "--set", "source.fps=8"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    shown = json.loads(line)
    assert shown["settings"]["source"]["fps"] == 8.0
    assert shown["origins"]["source.fps"] == "flag --set"
    Settings.model_validate(shown["settings"])


def test_a_table_of_texts_takes_names_with_dots_and_is_shown_as_it_is_written(tmp_path):
    sets = ["privacy.zones.front.door=0,0 0.5,1", "privacy.zones.*=0,0 1,0.1"]
    zones = load(tmp_path, sets=sets).settings.privacy.zones
    assert zones == {"front.door": "0,0 0.5,1", "*": "0,0 1,0.1"}
    shown = toml_text(zones)
    assert shown == '{"front.door" = "0,0 0.5,1", "*" = "0,0 1,0.1"}'
    assert load(tmp_path, f"[privacy]\nzones = {shown}\n").settings.privacy.zones == zones
