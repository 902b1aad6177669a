"""`edgestream train gate`: what it refuses, and the road from clips to a bundle that is asked."""

from __future__ import annotations

import json

import pytest

from edgestream.edge.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base, two clips and what is to be said of them when asked."""
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from ..reference_checkpoints import small_reference_checkpoint
    from ..video_files import moving_texture, write_video

    folder = tmp_path_factory.mktemp("road")
    small_reference_checkpoint(folder / "base", looks_trained=True)
    lines = []
    for seed in range(2):
        before, after = (moving_texture(6, (112, 112), seed + more) for more in (0, 50))
        write_video(folder / f"{seed}.mp4", [*before, *after], fps=4)
        turns = [{"time_s": 0.0, "role": "user", "text": "The scene changes."},
                 {"time_s": 1.5, "role": "assistant", "text": "Now."}]  # fmt: skip
        lines.append(json.dumps({"format": 1, "video": f"{seed}.mp4", "turns": turns}) + "\n")
    (folder / "clips.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--head", "oracle"], 2, "expected one of linear, narrow, mlp"),
        (["--speak-weight", "1"], 2, "expected between 0 and 1"),
        (["--rate", "nan"], 2, "expected above 0"),
        (["--device", "tpu"], 2, "expected cpu, cuda or auto"),
        (["--row-frames", "1"], 2, "row-frames"),
        (["--distil", "16"], 2, "reads the state of its gate"),
        (["--head", "llm-4"], 2, "expected 4 or more"),
    ],
)
def test_it_says_what_it_does_not_take(options, code, said, place, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["train", "gate", str(place / "clips.jsonl"), "--base", str(place / "base")]
    assert main([*given, "--out", str(out), "--cache", str(place / "cache"), *options]) == code
    assert said in capsys.readouterr().err
    assert not (out / "gate.json").exists()


def test_the_command_names_the_heads_that_there_are():
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from edgestream.edge.commands.train_gate import HEADS
    from edgestream.training.gate_build import HEADS as MADE

    assert tuple(MADE) == HEADS


def test_what_is_trained_on_is_not_held_out_too(place, tmp_path, capsys):
    (again := tmp_path / "again.jsonl").write_text(
        "".join(
            json.dumps({**json.loads(line), "video": str(place / json.loads(line)["video"])}) + "\n"
            for line in (place / "clips.jsonl").read_text().splitlines()[1:]
        )
    )
    given = ["train", "gate", str(place / "clips.jsonl"), "--base", str(place / "base")]
    assert main([*given, "--out", str(tmp_path / "out"), "--evaluate-on", str(again)]) == 2
    err = capsys.readouterr().err
    assert f"got {again}:1, which is trained on too" in err and "clips.jsonl:2" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("last_spoke", [[], ["--last-spoke"]])
def test_a_trained_gate_goes_into_a_bundle_that_is_asked(place, tmp_path, capsys, last_spoke):
    gate, bundle = tmp_path / "gate", tmp_path / "bundle"
    given = ["train", "gate", str(place / "clips.jsonl"), "--base", str(place / "base")]
    given += ["--out", str(gate), "--cache", str(place / "cache"), "--head", "llm-1",
              "--epochs", "8", "--rows", "1", "--json", *last_spoke]  # fmt: skip
    assert main(given) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reads_query"] and told["steps"] == {"gate": 8}
    assert told["reads_spoken"] == bool(last_spoke)
    assert main(["export", str(place / "base"), "--gate", str(gate), "--out", str(bundle)]) == 0
    capsys.readouterr()
    run = [
        "run",
        str(place / "0.mp4"),
        "--bundle",
        str(bundle),
        "--gate",
        "learned",
        "--jsonl",
        "-",
    ]
    assert main([*run, "--gate-query", "The scene changes."]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(one["type"] == "stats" or one["type"] == "end" for one in records)
