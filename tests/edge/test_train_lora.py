"""`edgestream train lora`: what it refuses, and the road from clips to what the device says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgestream.edge.cli import main

DIALOGUE = (
    '{"format": 1, "video": "0.mp4", '
    '"turns": [{"time_s": %s, "role": "assistant", "text": "%s"}]}\n'
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base, two clips and what is to be said of them."""
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from ..reference_checkpoints import small_reference_checkpoint
    from ..video_files import moving_texture, write_video

    folder = tmp_path_factory.mktemp("road")
    small_reference_checkpoint(folder / "base", looks_trained=True)
    lines = []
    for seed in range(2):
        before, after = (moving_texture(6, (112, 112), seed + more) for more in (0, 50))
        write_video(folder / f"{seed}.mp4", [*before, *after], fps=4)
        line = json.loads(DIALOGUE % (1.5, "The scene changes."))
        lines.append(json.dumps({**line, "video": f"{seed}.mp4"}) + "\n")
    (folder / "clips.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--rate", "0"], 2, "expected above 0"),
        (["--stream-weight", "inf"], 2, "got --stream-weight inf, expected a finite number"),
        (["--standby", "inf"], 2, "got --standby inf"),
        (["--stream-weight", "nan"], 2, "--stream-weight"),
        (["--targets", ","], 2, "expected linear layers"),
        (["--targets", "q_proj,lm_head"], 2, "say --connector"),
        (["--targets", "c_attn"], 3, "no linear layer of that name"),
        (["--device", "tpu"], 2, "expected cpu, cuda or auto"),
        (["--rank", "0"], 2, "rank"),
        (["--standby", "1"], 2, "no token for standby"),
        (["--row-tokens", "9999"], 2, "has 2048 positions"),
        (["--round-to", "int4-gptq"], 2, "expected one of int4, int4-128, int4-32"),
        (["--round-to", "int3"], 2, "got 'int3'"),
        (["--round-to", "int4-128"], 2, "rows of 64 weights and a block 128"),
        (["--round-to", "int4", "--qlora"], 2, "with --qlora, expected one of both"),
        (["--round-to", "int4", "--fsdp"], 2, "with --fsdp, expected one of both"),
        (["--decoder-only", "--targets", "q_proj,lm_head"], 2, "can share a base"),
    ],
)
def test_it_says_what_it_does_not_take(options, code, said, place, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["train", "lora", str(place / "clips.jsonl"), "--base", str(place / "base")]
    assert main([*given, "--out", str(out), "--cache", str(place / "cache"), *options]) == code
    assert said in capsys.readouterr().err
    assert not (out / "adapter_config.json").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (DIALOGUE % (1.0, "A giraffe."), "bad.jsonl:1: turns: the word"),
        (DIALOGUE % (99.0, "It gets dark."), "bad.jsonl:1"),
        ('{"format": 1, "video": "none.mp4", "turns": []}\n', "bad.jsonl:1"),
    ],
)
def test_bad_data_is_refused_with_its_line_before_anything_is_made(
    line, said, place, tmp_path, capsys
):
    bad = place / "bad.jsonl"
    bad.write_text(line)
    given = ["train", "lora", str(bad), "--base", str(place / "base")]
    assert main([*given, "--out", str(tmp_path / "out")]) == 6
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_trained_on_is_not_held_out_too(place, tmp_path, capsys):
    (again := tmp_path / "again.jsonl").write_text(
        "".join(
            json.dumps({**json.loads(line), "video": str(place / json.loads(line)["video"])}) + "\n"
            for line in (place / "clips.jsonl").read_text().splitlines()[1:]
        )
    )
    given = ["train", "lora", str(place / "clips.jsonl"), "--base", str(place / "base")]
    assert main([*given, "--out", str(tmp_path / "out"), "--evaluate-on", str(again)]) == 2
    err = capsys.readouterr().err
    assert f"got {again}:1, which is trained on too" in err and "clips.jsonl:2" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_from_clips_to_what_the_device_says(place, capsys):
    """It is taught to say one sentence at a cut, merged, exported, and says it there."""
    clips, base, out, bundle = (
        str(place / name) for name in ("clips.jsonl", "base", "adapter", "bundle")
    )
    targets = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj,lm_head"
    given = ["--base", base, "--out", out, "--epochs", "60", "--rows", "2", "--rate", "1e-2",
             "--held-out", "0", "--targets", targets, "--dropout", "0", "--rehearse", "0",
             "--connector", "--json"]  # fmt: skip
    assert main(["train", "lora", clips, *given]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["adapter"] == out and told["steps"] == told["kept_step"] == 60
    schemes = ["--vision", "fp32", "--llm", "fp32", "--capacity", "256"]
    assert main(["export", base, "--adapter", out, "--out", bundle, *schemes]) == 0
    for seed in range(2):
        log = place / f"log-{seed}.jsonl"
        assert main(["run", str(place / f"{seed}.mp4"), "--bundle", bundle, "--gate", "token",
                     "--set", "context.kind=continuous", "--jsonl", str(log)]) == 0  # fmt: skip
        records = [json.loads(line) for line in log.read_text().splitlines()]
        said = [(one["time_s"], one["text"]) for one in records if one["type"] == "final"]
        assert said == [(1.5, "The scene changes.")]


@pytest.mark.medium
@pytest.mark.medium
def test_help_says_what_is_usual(capsys):
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from edgestream.training.lora_recipe import REFERENCE, Usual

    assert main(["train", "lora", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    usual = Usual()
    for here, other in (
        (REFERENCE.epochs, usual.epochs), (REFERENCE.rows, usual.rows),
        (REFERENCE.rehearse, usual.rehearse), ("2e-3", "1e-3"), ("int4", "fp32"),
    ):  # fmt: skip
        assert f"Left out: {here} for a reference assistant, {other} for others" in told
    assert (REFERENCE.rate, usual.rate) == (2e-3, 1e-3)
    assert (REFERENCE.round_to, usual.round_to) == ("int4-64", "")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from edgestream.edge.cli import main\n"
        "assert main(['train', 'lora', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'peft', 'onnxruntime', 'numpy', 'rich.progress'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
