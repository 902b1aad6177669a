"""`edgestream eval dialogues`: a device is measured against what is written of videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgestream.edge.cli import main
from edgestream.edge.dialogue_evaluation import scored_run, truths_of
from edgestream.training.dialogues import Dialogue, Turn, write_dialogues

ASSETS = Path(__file__).parents[2] / "assets"
SAMPLE, BUNDLE = ASSETS / "sample.mp4", ASSETS / "reference"


def test_what_answers_a_question_is_no_trigger():
    turns = (Turn(1.0, "assistant", "A."), Turn(2.0, "user", "What?"), Turn(2.0, "assistant", "B."),
             Turn(2.0, "assistant", "C."), Turn(3.0, "user", "Tell me when."),
             Turn(4.0, "assistant", "D."), Turn(5.0, "assistant", "E.", learn=False))  # fmt: skip
    unasked, answers = truths_of(Dialogue(SAMPLE, turns))
    assert [turn.text for turn in unasked] == ["A.", "C.", "D."]
    assert answers == ["B.", None]


def final(cause, text, moment_s):
    return {"cause": cause, "text": text, "about_s": [0.0, moment_s]}


def test_vetoes_and_what_lies_outside_the_part_are_not_counted():
    turns = (Turn(3.0, "assistant", "A."), Turn(4.0, "user", "What?"), Turn(4.0, "assistant", "B."))
    finals = [final("event", "Early.", 1.0), final("event", "A.", 3.5), final("event", " ", 3.75),
              final("question", "B.", 4.0), final("event", "Late.", 9.0)]  # fmt: skip
    part = scored_run(Dialogue(SAMPLE, turns, 2.0, 8.0), finals, 39.0)
    assert (part.true, part.spoken, part.watched_s) == ([(3.0, "A.")], [(3.5, "A.")], 6.0)
    assert part.answers == [("B.", "B.")]
    whole = scored_run(Dialogue(SAMPLE, turns), finals, 39.0)
    assert len(whole.spoken) == 3 and whole.watched_s == 39.0


def test_a_dialogue_of_answers_alone_says_nothing_of_moments():
    turns = (Turn(4.0, "user", "What?"), Turn(4.0, "assistant", "B."))
    finals = [final("event", "A.", 3.5), final("question", "C.", 4.0)]
    found = scored_run(Dialogue(SAMPLE, turns), finals, 39.0)
    assert not found.spoken and found.watched_s == 0.0 and found.answers == [("B.", "C.")]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the reference assistant says along the sample, and its answer to a question."""
    records = tmp_path_factory.mktemp("said") / "records.jsonl"
    asked = ["--ask", "12:What happened last?"]
    command = ["run", str(SAMPLE), "--bundle", str(BUNDLE), "--fps", "4", "--jsonl", str(records)]
    assert main([*command, *asked]) == 0
    bodies = [json.loads(line) for line in records.read_text().splitlines()]
    return [body for body in bodies if body["type"] == "final"]


def measured(turns, folder, capsys, *options):
    path = folder / "all.jsonl"
    write_dialogues(path, [Dialogue(SAMPLE, tuple(turns))])
    capsys.readouterr()
    assert main(["eval", "dialogues", str(path), "--bundle", str(BUNDLE), "--json", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    return {one["name"]: one["value"] for one in result["metrics"]}


@pytest.mark.slow
def test_a_device_that_says_what_is_written_is_right_and_late_by_what_it_is_late(
    said, tmp_path, capsys
):
    events = [(body["about_s"][1], body["text"]) for body in said
              if body["cause"] == "event" and body["text"].strip()]  # fmt: skip
    (answer,) = [body["text"] for body in said if body["cause"] == "question"]
    assert len(events) > 4
    question = [Turn(12.0, "user", "What happened last?"), Turn(12.0, "assistant", answer)]

    def turns(later_s):
        told = [Turn(max(0.0, at + later_s), "assistant", text) for at, text in events]
        return sorted([*told, *question], key=lambda turn: turn.time_s)

    found = measured(turns(0.0), tmp_path, capsys)
    assert found["trigger_f1_500ms"] == found["sentence_exact"] == found["answer_exact"] == 1.0
    assert found["trigger_off_s"] == 0.0 == found["false_speech_per_minute"]
    early = measured(turns(-0.75), tmp_path, capsys)
    assert early["trigger_f1_1000ms"] == 1.0 > early["trigger_f1_500ms"]
    some = measured(turns(0.0)[:2], tmp_path, capsys)
    assert some["trigger_recall_500ms"] == 1.0 > some["trigger_precision_500ms"]


def test_it_is_refused_before_anything_is_opened(tmp_path, capsys):
    path = tmp_path / "all.jsonl"
    write_dialogues(path, [Dialogue(SAMPLE, (Turn(400.0, "assistant", "Too late."),))])
    assert main(["eval", "dialogues", str(path), "--bundle", str(BUNDLE)]) == 6
    assert f"{path}:1: turns: got 400 s" in capsys.readouterr().err
