"""`edgestream train synthesize` and `train features`, from captions to what training reads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgestream.edge.cli import main
from edgestream.training.dialogues import read_dialogues
from edgestream.training.synthesis import KINDS

from ..training.chat_server import chat_server
from ..video_files import moving_texture, write_video

CUES = (
    "WEBVTT\n\n00:01.000 --> 00:02.000\nA square comes in.\n\n00:03.500 --> 00:04.000\nIt stops.\n"
)


@pytest.fixture
def clips(tmp_path):
    """A folder of two clips of five seconds with subtitles."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("one", "two"):
        write_video(folder / f"{name}.mp4", list(moving_texture(20, (64, 48))), fps=4)
        (folder / f"{name}.vtt").write_text(CUES)
    return folder


def told(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.medium
def test_a_folder_of_clips_with_subtitles_becomes_dialogues(clips, tmp_path, capsys):
    out = tmp_path / "all.jsonl"
    assert main(["train", "synthesize", str(clips), "--out", str(out)]) == 0
    assert f"dialogues {out}: 8 of 2 videos" in capsys.readouterr().out
    found = read_dialogues(out)
    assert [one.id for one in found] == [
        f"{name}:{kind}" for name in ("one", "two") for kind in KINDS
    ]
    first = out.read_bytes()
    assert main(["train", "synthesize", str(clips), "--out", str(out)]) == 8
    assert "--force" in capsys.readouterr().err and out.read_bytes() == first
    assert main(["train", "synthesize", str(clips), "--out", str(out), "--force", "--json"]) == 0
    made = told(capsys)
    assert made["count"] == 8 and made["videos"] == 2 and made["left_out"] == 0
    assert out.read_bytes() == first


@pytest.mark.medium
def test_kinds_and_moments_can_be_chosen(clips, tmp_path, capsys):
    out = tmp_path / "all.jsonl"
    given = ["train", "synthesize", str(clips / "one.vtt"), "--out", str(out), "--kinds", "unasked"]
    assert main(given) == 0
    assert [turn.time_s for turn in read_dialogues(out)[0].turns] == [2.0, 4.0]
    assert main([*given, "--at-start", "--force"]) == 0
    assert [turn.time_s for turn in read_dialogues(out)[0].turns] == [1.0, 3.5]


@pytest.mark.medium
def test_a_language_model_behind_an_endpoint_writes(clips, tmp_path, capsys):
    def fluent(body):
        wanted = body["messages"][1]["content"].split("Lines:\n")[1].splitlines()
        return json.dumps({line.split(".")[0]: "Something is there." for line in wanted})

    out, key = tmp_path / "all.jsonl", tmp_path / "key"
    key.write_text("s3cret\n")
    given = [
        "train",
        "synthesize",
        str(clips),
        "--out",
        str(out),
        "--model",
        "small",
        "--chats",
        "2",
    ]
    with chat_server(fluent) as server:
        assert main([*given, "--endpoint", server.url, "--key-file", str(key), "--json"]) == 0
        assert told(capsys)["count"] == 4 and len(server.asked) == 4
        assert server.asked[0][1]["Authorization"] == "Bearer s3cret"
        assert main([*given, "--endpoint", server.url, "--force", "--kinds", "unasked"]) == 0
        assert len(server.asked) == 4, "what was answered is kept"
    ids = [one.id for one in read_dialogues(out)]
    assert ids == [
        "one:unasked",
        "two:unasked",
        "one:chat-0",
        "one:chat-1",
        "two:chat-0",
        "two:chat-1",
    ]
    with chat_server(lambda body: 401) as server:
        fresh = [*given, "--endpoint", server.url, "--seed", "1", "--force"]
        before = out.read_bytes()
        assert main(fresh) == 7 and "error[endpoint-failed]" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.medium
@pytest.mark.parametrize("held", ["sk-AAA\r\nX: y\n", "two words", "", "sch\u00fcssel"])
def test_a_key_that_is_none_is_refused_and_never_shown(held, clips, tmp_path, capsys):
    key, out = tmp_path / "key", tmp_path / "all.jsonl"
    key.write_text(held)
    given = ["train", "synthesize", str(clips), "--out", str(out), "--key-file", str(key)]
    assert main([*given, "--endpoint", "http://127.0.0.1:9/v1", "--model", "m"]) == 2
    err = capsys.readouterr().err
    assert "holds no key" in err and "Traceback" not in err
    assert not held.split() or held.split()[0] not in err


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--kinds", "songs"], 2, "expected some of unasked,narrate,when,ask"),
        (["--kinds", ","], 2, "expected some of"),
        (["--model", "small"], 2, "without --endpoint"),
        (["--endpoint", "http://127.0.0.1:1/v1"], 2, "without --model"),
        (["--endpoint", "ftp://host/v1", "--model", "m"], 2, "expected http"),
        (
            ["--endpoint", "http://h/v1", "--model", "m", "--key-file", "/none"],
            2,
            "/none cannot be",
        ),
        (["--endpoint", "http://me:pw@h/v1", "--model", "m"], 2, "expected http"),
        (["--endpoint", "http://[::1/v1", "--model", "m"], 2, "expected http"),
        (["--videos", "/none"], 6, "got --videos /none, no such folder"),
    ],
)
def test_it_says_what_it_does_not_take(options, code, said, clips, tmp_path, capsys):
    out = tmp_path / "all.jsonl"
    assert main(["train", "synthesize", str(clips), "--out", str(out), *options]) == code
    err = capsys.readouterr().err
    assert said in err and "try:" in err
    assert not out.exists()


@pytest.mark.medium
def test_what_does_not_fit_is_refused_or_left_out_and_said(clips, tmp_path, capsys):
    late = clips / "two.vtt"
    late.write_text(CUES + "\n00:07.000 --> 00:08.000\nToo late.\n")
    given = ["train", "synthesize", str(clips), "--out", str(tmp_path / "all.jsonl")]
    assert main(given) == 6
    err = capsys.readouterr().err
    assert f"{late}:9: got 8 s, expected at most 5 s, where two.mp4 ends" in err
    assert main([*given, "--skip"]) == 0
    captured = capsys.readouterr()
    assert f"left out: {late}:9" in captured.err and "8 of 2 videos" in captured.out


@pytest.mark.medium
def test_where_nothing_is_left_it_says_why(clips, tmp_path, capsys):
    late = clips / "two.vtt"
    late.write_text("WEBVTT\n\n00:07.000 --> 00:08.000\nToo late.\n")
    out = tmp_path / "all.jsonl"
    assert main(["train", "synthesize", str(late), "--out", str(out), "--skip"]) == 6
    err = capsys.readouterr().err
    assert f"left out: {late}:3: got 8 s, expected at most 5 s" in err and "(1 left out)" in err
    assert not out.exists()


@pytest.mark.slow
def test_features_are_extracted_once_and_dialogues_are_counted(clips, tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from ..reference_checkpoints import small_reference_checkpoint

    out, cache = tmp_path / "all.jsonl", tmp_path / "cache"
    base = small_reference_checkpoint(tmp_path / "base")
    assert main(["train", "synthesize", str(clips), "--out", str(out), "--kinds", "unasked"]) == 0
    capsys.readouterr()
    given = ["train", "features", str(out), "--base", str(base), "--cache", str(cache), "--json"]
    assert main(given) == 0
    made = told(capsys)
    # Twenty frames of each clip; all but the last decision of each sentence's stretch are silence.
    expected = {"videos": 2, "frames": 40, "dialogues": 2, "sentences": 4, "decisions": 40,
                "to_speak": 4}  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    entries = sorted(cache.iterdir())
    assert len(entries) == len({one.read_bytes() for one in clips.glob("*.mp4")})
    before = [entry.stat().st_mtime_ns for entry in entries]
    assert main(given) == 0 and told(capsys) == made
    assert [entry.stat().st_mtime_ns for entry in entries] == before

    line = json.loads(out.read_text().splitlines()[0])
    line["turns"][0]["time_s"] = 99.0
    out.write_text(out.read_text() + json.dumps(line) + "\n")
    assert main(given) == 6
    assert f"{out}:3: turns: got" in capsys.readouterr().err


@pytest.mark.medium
def test_a_device_is_told_what_features_need(clips, tmp_path, capsys, monkeypatch):
    out = tmp_path / "all.jsonl"
    assert main(["train", "synthesize", str(clips), "--out", str(out)]) == 0
    monkeypatch.setitem(sys.modules, "torch", None)
    given = ["train", "features", str(out), "--base", "none", "--cache", str(tmp_path / "cache")]
    assert main(given) == 4
    err = capsys.readouterr().err
    assert "this needs torch" in err and "edgestream[train]" in err
    assert not (tmp_path / "cache").exists()


@pytest.mark.medium
@pytest.mark.parametrize("command", ["synthesize", "features"])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\n"
        "from edgestream.edge.cli import main\n"
        f"assert main(['train', '{command}', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'numpy', 'rich.progress'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.medium
def test_synthesis_needs_no_pytorch(clips, tmp_path):
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from edgestream.edge.cli import main\n"
        f"clips, out = {str(clips)!r}, {str(tmp_path / 'out.jsonl')!r}\n"
        "sys.exit(main(['train', 'synthesize', clips, '--out', out]))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
