"""`edgestream verify`: hashes and golden calls, one line per part, and the right exit code."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edgestream.edge.bundle_text import result_lines
from edgestream.edge.cli import main
from edgestream.edge.verification import verify_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.errors import BackendMissing

from ..bundles import with_outputs, write_small_bundle
from .test_cli import on_a_terminal

SCHEMA = Path(__file__).parents[2] / "runtime" / "schemas" / "result.json"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_small_bundle(tmp_path_factory.mktemp("verify") / "small")


@pytest.mark.parametrize("option", ["--gate", "--adapter", "--calibration"])
def test_what_only_against_reads_is_refused_without_it(bundle, option, capsys):
    assert main(["verify", str(bundle), option, "x"]) == 2
    assert f"{option} needs --against" in capsys.readouterr().err


def off(calls):
    """One decoder output, off by a little."""
    return [
        with_outputs(one, **{"present.0.key": one.outputs["present.0.key"] + np.float32(1e-2)})
        if one.name == "decode at 6"
        else one
        for one in calls
    ]


def broken(calls):
    """A call that the graph breaks off at."""
    wrong = np.ones((1, 4), np.int64)
    return [
        dataclasses.replace(one, inputs={**one.inputs, "attention_mask": wrong})
        if one.name == "prefill 6"
        else one
        for one in calls
    ]


def test_a_right_bundle_is_one_line_per_part_and_0(bundle, capsys):
    assert main(["verify", str(bundle)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert [line.split()[0] for line in lines] == [
        *("hashes", "vision", "gate", "connector", "decoder", "bundle")
    ]
    assert "10 files" in lines[0] and "as they were written" in lines[0]
    assert all(line.split()[1] == "passed:" for line in lines[1:-1])
    assert lines[-1].split() == ["bundle", "passed"]


@pytest.mark.parametrize(
    ("change", "exit_code", "words"),
    [
        (off, 6, "present.0.key of decode at 6 off by 0.01 (≤ 1e-05)"),
        (broken, 4, "decoder.onnx broke off: "),
        (lambda calls: calls[:-2], 6, "no golden call"),
        (lambda calls: off(broken(calls)), 4, "decoder.onnx broke off: "),
    ],
)
def test_a_wrong_part_is_named_with_its_figures(tmp_path, capsys, change, exit_code, words):
    folder = write_small_bundle(tmp_path / "small", change_calls=change)
    assert main(["verify", str(folder)]) == exit_code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["passed:"] * 3 + ["failed:", "failed"]
    assert words in lines[-2]


@pytest.mark.medium
def test_a_flipped_byte_is_3_and_runs_nothing(tmp_path, capsys):
    folder = write_small_bundle(tmp_path / "small")
    for name in ("decoder.onnx", "golden.npz", "MODEL_CARD.md", "manifest.json.sha256"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert main(["verify", str(folder)]) == 3
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error[bundle-hash-mismatch]: small/")
        (folder / name).write_bytes(content)


def valid(line):
    schema = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    assert [error.message for error in schema.iter_errors(line)] == []
    return line


@pytest.mark.medium
def test_programs_get_one_line_that_fits_the_schema(bundle, capsys, tmp_path):
    assert main(["verify", "--json", str(bundle)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = valid(json.loads(line))
    assert told["passed"] and told["command"] == "verify"
    assert told["machine"]["providers"] == {"cpu": "proven"}
    assert [one["role"] for one in told["variants"]] == ["vision", "gate", "connector", "decoder"]
    for change, exit_code in ((off, 6), (broken, 4)):
        folder = write_small_bundle(tmp_path / str(exit_code), change_calls=change)
        assert main(["verify", "--json", str(folder)]) == exit_code
        (line,) = capsys.readouterr().out.splitlines()
        told = valid(json.loads(line))
        assert not told["passed"]
        assert [one["passed"] for one in told["metrics"]] == [True, True, True, False]


def test_an_infinite_difference_is_no_number_in_json(tmp_path):
    def another_shape(calls):
        return [
            with_outputs(one, **{"present.0.key": np.zeros((1, 2), "f4")}) for one in calls[-1:]
        ]

    folder = write_small_bundle(tmp_path / "small", change_calls=another_shape)
    found = verify_bundle(folder)
    told = valid(json.loads(json.dumps(found.as_json(), allow_nan=False)))
    assert [one["max_abs"] for one in told["variants"][-1]["outputs"]].count(None) == 1
    assert "present.0.key of decode at 6 has another shape or type" in "\n".join(
        result_lines(found.results[-1], None)
    )


def add_cuda(facts):
    (variant,) = facts["parts"][0]["variants"]
    other = {**variant, "id": "cuda-fp16", "provider": "cuda", "proof": "pending-device"}
    facts["parts"][0]["variants"].append(other)


def without(provider):
    def backends(asked):
        if asked == provider:
            raise BackendMissing(f"there is no {provider} here")
        return backend_for(asked)

    return backends


def test_a_variant_for_another_device_is_skipped(tmp_path):
    folder = write_small_bundle(tmp_path / "small", change_facts=add_cuda)
    found = verify_bundle(folder, backends=without("cuda"))
    assert found.exit_code == 0
    (line,) = result_lines(found.results[1], None)
    assert "skipped: cuda-fp16 (pending-device), nothing here runs it" in line
    told = valid(found.as_json())
    assert told["metrics"][1]["passed"] is None and told["metrics"][1]["value"] is None
    assert told["machine"]["providers"]["cuda"] == "refused: there is no cuda here"


def test_a_part_that_nothing_runs_is_4(bundle):
    found = verify_bundle(bundle, backends=without("cpu"))
    assert found.exit_code == 4 and not found.as_json()["passed"]
    assert found.unrunnable == ("vision", "gate", "connector", "decoder")


@pytest.mark.medium
@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_on_a_terminal_of_80_columns(bundle, command):
    text = on_a_terminal([command, str(bundle)], NO_COLOR="1")
    lines = [line for line in text.splitlines() if "sha256" not in line and "\033" not in line]
    assert max(map(len, lines)) <= 80


@pytest.mark.medium
def test_colour_is_in_the_verdicts(bundle):
    text = on_a_terminal(["verify", str(bundle)])
    assert "\033[32mpassed:\033[0m" in text and "\033[1;32mpassed\033[0m" in text


@pytest.mark.medium
def test_without_onnx_runtime_it_says_what_to_install(bundle, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no such engine')\n")
    done = subprocess.run(
        [sys.executable, "-m", "edgestream.edge.cli", "verify", str(bundle)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert "no variant of decoder runs here" in done.stdout


@pytest.mark.medium
def test_neither_command_loads_what_the_device_does_not_have(bundle):
    code = (
        "import sys\n"
        "from edgestream.edge.cli import main\n"
        f"assert main(['verify', {str(bundle)!r}]) == 0\n"
        f"assert main(['inspect', {str(bundle)!r}]) == 0\n"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
