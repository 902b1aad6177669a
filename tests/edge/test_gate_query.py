"""`gate.query`: what a gate looks for, as a user says it, and what refuses it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgestream.edge.cli import main
from edgestream.edge.gate_queries import queries_without_camera, with_query_of
from edgestream.edge.gate_rules import with_gate_of
from edgestream.edge.settings import load_settings
from edgestream.edge.settings_tables import Settings
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import SettingsInvalid

from .service.serving import BUNDLE

RED, BLUE = "Two objects: red", "Is it dark?"


def loaded(tmp_path, *sets, **flags):
    return load_settings(None, sets, flags, {}, folder=tmp_path)


def test_a_camera_has_its_own_query_or_that_of_all(tmp_path):
    sets = ["gate.query=a person", "gate.queries.door=a parcel", "gate.queries.yard="]
    settings = loaded(tmp_path, *sets).settings
    asked = {name: with_query_of(settings, name).gate.query for name in ("door", "yard", "hall")}
    assert asked == {"door": "a parcel", "yard": "", "hall": "a person"}
    assert queries_without_camera(["door", "yard"], settings.gate) == ""
    assert "names yard, expected one of the cameras: door" in queries_without_camera(
        ["door"], settings.gate
    )


def test_the_flag_is_named_where_the_value_came_from(tmp_path):
    resolved = loaded(tmp_path, **{"gate.query": "a person", "gate.kind": "learned"})
    assert resolved.origins["gate.query"] == "flag --gate-query"
    assert resolved.origins["gate.kind"] == "flag --gate"


def chosen(**gate):
    settings = Settings()
    return settings.model_copy(update={"gate": settings.gate.model_copy(update=gate)})


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"query": "red"}, r"gate\.query is 'red', but the bundle .* reads no query"),
        ({"queries": {"door": "red"}}, r"gate\.queries\.door is 'red', but the bundle"),
    ],
)
def test_a_bundle_whose_gate_reads_none_refuses_a_query(gate, words):
    manifest = open_bundle(BUNDLE, check="manifest").manifest
    with pytest.raises(SettingsInvalid, match=words):
        with_gate_of(chosen(**gate), manifest)
    assert with_gate_of(chosen(), manifest).gate.kind == "learned"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bundle", str(BUNDLE), "--gate-query", "red"], "has a gate that reads no query"),
        (["--gate-query", "red"], "--gate-query needs the bundle whose gate reads it"),
        (["--set", "gate.query=red"], "which the gate of a model reads; got no model"),
        (["--set", "gate.queries.door=red"], "gate.queries.door is 'red'"),
    ],
)
def test_a_run_refuses_a_query_that_nobody_reads(words, told, capsys):
    assert main(["run", "test:sample", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and "Traceback" not in err


def test_a_service_refuses_a_query_that_nobody_reads(capsys):
    pytest.importorskip("uvicorn", reason="the service needs the extra `serve`")
    asked = ["--set", "gate.queries.door=red", "--port", "0"]
    assert main(["serve", "door=test:sample", "--bundle", str(BUNDLE), *asked]) == 2
    assert "gate.queries.door is 'red', but the bundle reference" in capsys.readouterr().err


def test_inspect_says_nothing_of_a_query_where_there_is_none(capsys):
    assert main(["inspect", str(BUNDLE)]) == 0
    assert "query" not in capsys.readouterr().out


def records_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(bundle, out, *words):
    clip = ["test:sample", "--bundle", str(bundle), "--jsonl", str(out)]
    low = ["--set", "gate.open_above={cut=0.3, dark=0.3, speak=0.999}"]
    code = main(["run", *clip, *low, *words])
    events = [one for one in records_of(out) if one["type"] in ("opened", "closed")]
    return code, [(one["type"], one["event"], one["time_s"], one["scores"]) for one in events]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "query"),
    [
        (["--gate-query", RED], RED),
        (["--set", f"gate.queries.sample={RED}", "--set", f"gate.query={BLUE}"], RED),
        ([], None),
    ],
)
def test_a_run_is_asked_by_flag_or_camera(asked_bundle, tmp_path, words, query):
    """The network itself says what it looked for: into the state that it leaves."""
    state = tmp_path / "state"
    code, events = run(asked_bundle, tmp_path / "log", *words, "--state", str(state))
    assert code == 0 and events
    with np.load(state / "1" / "gate.npz", allow_pickle=False) as saved:
        values = json.loads(saved["values"].tobytes())
    assert values.get("query") == query


@pytest.mark.slow
def test_a_state_goes_on_under_its_query_alone(asked_bundle, tmp_path):
    state = ["--state", str(tmp_path / "state")]
    warned = []
    for number, query in enumerate((RED, RED, BLUE, BLUE, "")):
        out = tmp_path / f"{number}.jsonl"
        words = ["--gate-query", query] if query else []
        assert run(asked_bundle, out, *words, *state)[0] == 0
        codes = {one["code"]: one["message"] for one in records_of(out) if one["type"] == "warning"}
        warned.append(codes.get("gate-started-anew"))
    assert [one is not None for one in warned] == [False, False, True, False, True]
    assert warned[2].endswith(f"another gate than learned that looks for {BLUE!r}")
    assert warned[4].endswith("another gate than learned without a query")


@pytest.mark.slow
def test_another_gate_than_its_own_does_not_read_it(asked_bundle, capsys):
    asked = ["--gate-query", RED, "--gate", "change"]
    assert main(["run", "test:sample", "--bundle", str(asked_bundle), *asked]) == 2
    assert "which the gate learned reads; got gate.kind change" in capsys.readouterr().err


@pytest.mark.slow
def test_the_other_commands_take_such_a_bundle(asked_bundle, capsys):
    for words in (["verify"], ["doctor"], ["bench", "--rounds", "1", "--seconds", "1"]):
        assert main([*words[:1], str(asked_bundle), *words[1:]]) == 0, capsys.readouterr()
        assert "gate" in capsys.readouterr().out
    assert main(["inspect", str(asked_bundle)]) == 0
    assert "reads a query of 64 numbers" in capsys.readouterr().out.replace("\n" + " " * 12, " ")


@pytest.mark.slow
def test_each_camera_of_a_service_looks_for_its_own(asked_bundle):
    pytest.importorskip("uvicorn", reason="the service needs the extra `serve`")
    from .service.serving import CLIP, serving, until

    asked = ["--set", f"gate.queries.red={RED}", "--set", f"gate.query={BLUE}"]
    cameras = [f"{name}={CLIP}" for name in ("red", "blue")]
    with serving(*cameras, "--bundle", str(asked_bundle), *asked) as service:

        def traced(name):
            trace = service.get(f"/v1/cameras/{name}/trace")
            return trace if len(trace["frames"]) >= 8 else None

        red, blue = (until(lambda name=name: traced(name)) for name in ("red", "blue"))
    assert (red["query"], blue["query"]) == (RED, BLUE)
    both = {one["time_s"]: one["scores"] for one in red["frames"]}
    same = [(both[one["time_s"]], one["scores"]) for one in blue["frames"] if one["time_s"] in both]
    assert same and all(left != right for left, right in same)


@pytest.mark.slow
def test_the_folder_that_leaves_says_so_too(asked_bundle, tmp_path):
    assert main(["unpack", str(asked_bundle), "--out", str(tmp_path / "folder")]) == 0
    told = json.loads((tmp_path / "folder" / "gate.json").read_text())
    assert told["query_dim"] == 64
