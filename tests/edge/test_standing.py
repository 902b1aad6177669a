"""`run --tell` with the reference assistant: told once when it comes true, and not before."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from edgestream.edge.cli import main
from edgestream.edge.settings import load_settings
from edgestream.edge.standing_rules import standing_of, untaught
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import StandingRefused
from edgestream.runtime.scripted import Cut, Light, Story
from edgestream.runtime.scripted_world import pictures

from ..video_files import write_video

BUNDLE = Path(__file__).parents[2] / "assets" / "reference"
REQUEST = "Tell me when it gets dark"
DARK_S, BRIGHT_S, DARK_AGAIN_S, LENGTH_S = 6.0, 10.0, 14.0, 18.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A street; the light goes, comes back, and goes again."""
    pytest.importorskip("onnxruntime", reason="the assistant runs on it")
    lights = (Light(DARK_S, 0.3), Light(BRIGHT_S, 1.0), Light(DARK_AGAIN_S, 0.3))
    story = Story(LENGTH_S, Cut(0.0, "street", 0.45, 0.8), cues=lights, noise=1.0)
    frames = [picture for _, picture in pictures(story, 4.0, 0, (180, 320))]
    path = tmp_path_factory.mktemp("clips") / "street.mkv"
    return write_video(path, frames, fps=4, codec="ffv1", pix_fmt="bgr0")


def run_on(clip, *more):
    chosen = ["--bundle", str(BUNDLE), "--tell", REQUEST, "--set", "standing.check_s=1", *more]
    return main(["run", str(clip), *chosen])


def records_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.medium
def test_it_is_told_once_when_it_gets_dark_and_not_again_within_the_refractory_time(clip, capsys):
    assert run_on(clip, "--jsonl", "-") == 0
    records = records_of(capsys)
    (fired,) = [one for one in records if one["type"] == "standing"]
    assert DARK_S <= fired["about_s"][1] <= DARK_S + 1.25 and fired["time_s"] <= DARK_S + 1.5
    assert (fired["request"], fired["text"], fired["is_met"]) == (REQUEST, "Yes.", True)
    finals = [one for one in records if one["type"] == "final"]
    assert finals and all(one["cause"] == "event" for one in finals), "no check goes out"
    assert records[-1]["turns"] == len(finals)
    assert not [one for one in records if one["type"] == "warning"]


@pytest.mark.medium
def test_it_is_told_again_when_that_time_is_over_and_it_was_bright_in_between(clip, capsys):
    assert run_on(clip, "--jsonl", "-", "--set", "standing.refractory_s=2") == 0
    times_s = [one["about_s"][1] for one in records_of(capsys) if one["type"] == "standing"]
    assert len(times_s) == 2
    assert 0 <= times_s[0] - DARK_S <= 1.25 and 0 <= times_s[1] - DARK_AGAIN_S <= 1.25


@pytest.mark.medium
def test_the_console_has_a_line_for_it_and_checks_do_not_enter_the_dialogue(clip, capsys, tmp_path):
    state = tmp_path / "state"
    asks = ["--ask", "12:Is it dark?", "--state", str(state)]
    assert run_on(clip, *asks) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if REQUEST in line]
    assert line.endswith(f"{REQUEST} → Yes.") and line.startswith("   0:0")
    talk = [json.loads(line) for line in (state / "dialogue.jsonl").read_text().splitlines()]
    assert [turn["question"] for turn in talk] == ["Is it dark?"]


@pytest.mark.medium
def test_checks_change_nothing_else_that_is_told(clip, capsys):
    def told(*more):
        assert main(["run", str(clip), "--bundle", str(BUNDLE), "--jsonl", "-", *more]) == 0
        kinds = ("opened", "closed", "final")
        return [
            (one["type"], one["about_s"], one.get("event"), one.get("text"))
            for one in records_of(capsys)
            if one["type"] in kinds
        ]

    ask = ["--ask", "12:What happened last?"]
    assert told(*ask, "--tell", REQUEST, "--set", "standing.check_s=0.5") == told(*ask)


@pytest.mark.medium
def test_a_request_that_the_model_was_not_taught_is_asked_and_warned_about(clip, capsys):
    assert run_on(clip, "--jsonl", "-", "--tell", "Tell me when a cat sleeps") == 0
    (note,) = [one for one in records_of(capsys) if one["type"] == "warning"]
    assert note["code"] == "standing-untaught"
    assert "'Is it true now: a cat sleeps? Answer yes or no.'" in note["message"]


@pytest.mark.medium
def test_what_cannot_be_held_is_refused(clip, capsys):
    assert main(["run", str(clip), "--tell", REQUEST]) == 2
    assert "--tell needs a model that can be asked" in capsys.readouterr().err
    assert run_on(clip, "--set", "standing.most=0") == 2
    assert "error[standing-refused]: 0 standing requests are held" in capsys.readouterr().err
    assert run_on(clip, "--tell", " ") == 2
    assert "error[standing-invalid]" in capsys.readouterr().err


def test_the_settings_are_the_rules_and_without_a_model_events_alone_can_be_waited_for():
    load = partial(load_settings, None, flags={}, environ={}, folder=Path("/"))
    sets = ["check_s=3", "refractory_s=4", "most=5", "met_after=2", "unmet_after=6"]
    settings = load(sets=[f"standing.{one}" for one in sets]).settings
    rules = standing_of((), settings, None).rules
    assert (rules.check_s, rules.refractory_s, rules.most) == (3.0, 4.0, 5)
    assert (rules.met_after, rules.unmet_after) == (2, 6)
    with pytest.raises(StandingRefused):
        standing_of([REQUEST], settings, None)
    manifest = open_bundle(BUNDLE).manifest
    texts = [REQUEST, "Tell me when a red object appears", "Tell me when a pink object appears"]
    standing = standing_of(texts, settings, manifest)
    assert [one.request.question for one in standing.list()] == [
        "Is it dark?",
        "Is there a red object?",
        "Is it true now: a pink object appears? Answer yes or no.",
    ]
    assert len(untaught(texts, manifest)) == 1
