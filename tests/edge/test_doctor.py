"""doctor: what it finds on this machine, what it calls a problem, and what it never says."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edgestream.edge import provider_probe
from edgestream.edge.commands.doctor import lines_of
from edgestream.edge.doctor import Report, examine, problems_of, runtime_wheels, video_report
from edgestream.edge.machine import gpu_from_query, this_machine
from edgestream.edge.provider_probe import ADDITION, PROVEN, EngineReport, reason_in

SCHEMA = Path(__file__).parents[2] / "runtime" / "schemas" / "result.json"
ORT_NOISE = (
    "\033[1;31m2026-11-20 10:57:10.0 [E:onnxruntime:Default, bridge.cc:2458 operator()] "
    "/build/core/bridge.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load "
    "library /home/ada/venv/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot "
    "open shared object file\n\033[m\n[W:onnxruntime] Failed to create CUDAExecutionProvider\n"
)


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("onnxruntime")
    return examine()


def test_the_addition_is_one_on_the_cpu():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(ADDITION, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("a", [2], "tensor(float)"),
        ("b", [2], "tensor(float)"),
    ]
    one, two = np.array([1, 2], np.float32), np.array([0.5, -2], np.float32)
    assert session.run(None, {"a": one, "b": two})[0].tolist() == [1.5, 0.0]


@pytest.mark.medium
def test_the_cpu_is_proven_by_a_run(found):
    assert found.engine.providers["cpu"] == PROVEN
    assert found.engine.version and found.engine.refusal is None


def test_a_service_in_the_list_is_no_device(found):
    assert "azure" not in found.engine.providers


def test_a_provider_that_is_not_there_is_refused_not_believed():
    pytest.importorskip("onnxruntime")
    answer, noise = provider_probe.answer_of_process("CUDAExecutionProvider")
    verdict = provider_probe._verdict("CUDAExecutionProvider", answer, noise)
    if this_machine().gpu is None:
        assert verdict.startswith("refused: ") and len(verdict) > len("refused: ") + 5


@pytest.mark.parametrize(
    ("answer", "noise", "verdict"),
    [
        ({"ran_on": "XExecutionProvider", "sum": [4.0, 6.0]}, "chatter", PROVEN),
        ({"ran_on": "XExecutionProvider", "sum": [4.0, 7.0]}, "", "refused: 1 + 3 and 2 + 4 gave"),
        ({"ran_on": "CPUExecutionProvider", "sum": [4.0, 6.0]}, "", "refused: it stepped aside"),
        (
            {"ran_on": "CPUExecutionProvider", "sum": [4.0, 6.0]},
            ORT_NOISE,
            "refused: Failed to load",
        ),
        (None, "Traceback\nImportError: no libx.so", "refused: ImportError: no libx.so"),
        (None, "", "refused: it ended without a word"),
    ],
)
def test_a_verdict_needs_the_right_sum_from_the_right_provider(answer, noise, verdict):
    assert provider_probe._verdict("XExecutionProvider", answer, noise).startswith(verdict)


def test_a_reason_is_the_one_line_that_says_why_without_folders():
    assert reason_in(ORT_NOISE) == (
        "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: "
        "cannot open shared object file"
    )
    assert reason_in("No module at 'C:\\Users\\ada\\x.dll'") == "No module at 'x.dll'"


def wheel(folder, name, version, *, fills=True):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(
        "onnxruntime/__init__.py,,\n" if fills else "other/__init__.py,,\n"
    )


def test_wheels_that_share_the_folder_are_found(tmp_path):
    assert runtime_wheels([str(tmp_path)]) == {}
    wheel(tmp_path, "onnxruntime", "1.31.1")
    wheel(tmp_path, "onnxruntime-genai", "0.18.0", fills=False)
    wheel(tmp_path, "numpy", "2.4.6")
    assert runtime_wheels([str(tmp_path)]) == {"onnxruntime": "1.31.1"}
    wheel(tmp_path, "onnxruntime-gpu", "1.31.1")
    wheel(tmp_path, "ort-nightly", "1.32.0")
    assert list(runtime_wheels([str(tmp_path)])) == [
        "onnxruntime",
        "onnxruntime-gpu",
        "ort-nightly",
    ]


def codes(report):
    return [problem.code for problem in report.problems]


def judged(report, **changes):
    changed = replace(report, **changes)
    problems = problems_of(changed.machine, changed.video, changed.wheels, changed.engine)
    return replace(changed, problems=problems)


def test_what_is_installed_and_broken_is_a_problem(found):
    both = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    one = {"onnxruntime-gpu": "1.31.1"}
    cpu_only = EngineReport("1.31.1", None, {"cuda": "refused: no driver", "cpu": PROVEN})
    no_gpu = replace(found.machine, gpu=None)
    gpu = replace(found.machine, gpu="NVIDIA H200")
    assert codes(judged(found, wheels=both)) == ["engines-overlap"]
    assert codes(judged(found, engine=EngineReport(None, "ImportError", {}))) == ["engine-broken"]
    assert codes(judged(found, engine=EngineReport("1", None, {}))) == ["engine-broken"]
    assert codes(judged(found, wheels=one, engine=cpu_only, machine=no_gpu)) == []
    assert codes(judged(found, wheels=one, engine=cpu_only, machine=gpu)) == ["cuda-broken"]
    broken = replace(found.video, pyav=None, refusal="ImportError: libx")
    assert codes(judged(found, video=broken)) == ["pyav-broken"]


def test_no_engine_is_no_problem_and_says_what_to_install(found):
    bare = judged(found, wheels={}, engine=None)
    assert codes(bare) == []
    text = "\n".join(lines_of(bare, None))
    assert "none installed" in text and "pip install 'edgestream[cpu]'" in text


def test_two_wheels_are_told_with_the_remedy(found):
    both = judged(found, wheels={"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"})
    text = "\n".join(lines_of(both, None))
    assert "onnxruntime and onnxruntime-gpu are installed together" in text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in text
    assert "problems" not in text


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_keeps_within_its_width(found, columns):
    both = judged(found, wheels={"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"})
    assert max(map(len, lines_of(both, columns))) <= columns


def test_the_json_line_fits_the_schema(found):
    validator = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    both = judged(found, wheels={"onnxruntime": "1", "onnxruntime-gpu": "1"})
    bare = judged(found, wheels={}, engine=None)
    for report in (found, both, bare):
        line = json.loads(json.dumps(report.as_json()))
        assert [error.message for error in validator.iter_errors(line)] == []
        assert line["passed"] is (not report.problems)


def test_nothing_names_the_machine_its_user_or_a_folder(found):
    text = json.dumps(found.as_json()) + "\n".join(lines_of(found, None))
    assert str(Path.home()) not in text
    assert not re.search(r"(?<![\w.])/(?:home|root|Users|usr|tmp)\b", text)
    for name in {socket.gethostname(), getpass.getuser()} - {"", "linux", "debian", "localhost"}:
        assert not re.search(rf"\b{re.escape(name)}\b", text)


@pytest.mark.medium
def test_the_command_says_it_on_stdout_and_by_its_exit_code():
    done = subprocess.run(
        [sys.executable, "-m", "edgestream.edge.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["command"] == "doctor"
    assert done.stderr == ""
    assert done.returncode == (0 if json.loads(line)["passed"] else 4)


@pytest.mark.medium
def test_wheels_that_overlap_end_with_exit_code_4(tmp_path):
    wheel(tmp_path, "onnxruntime-gpu", "1.31.1")
    wheel(tmp_path, "onnxruntime-directml", "1.31.1")
    done = subprocess.run(
        [sys.executable, "-m", "edgestream.edge.cli", "doctor"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4
    assert "are installed together" in done.stdout and done.stderr == ""


def kernel(tmp_path, cpuinfo, **files):
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(cpuinfo)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 7800000 kB\nMemAvailable: 100 kB\n")
    for name, text in files.items():
        (tmp_path / name.replace("__", "/").replace("0", "-")).write_text(text)
    return this_machine(tmp_path)


def test_a_board_is_read_as_its_kernel_tells(tmp_path):
    machine = kernel(
        tmp_path,
        "processor : 0\nFeatures : fp asimd asimdhp asimddp\n\nprocessor : 1\nFeatures : fp\n",
        proc__device0tree__model="NVIDIA Jetson Orin Nano Developer Kit\0",
        etc__nv_tegra_release="# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        sys__fs__cgroup__memory_limit="",
    )
    assert machine.cpu == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.features == ("asimddp", "asimdhp")
    assert machine.ram_bytes == 7800000 * 1024 and machine.ram_available_bytes == 102400
    if machine.gpu and "Jetson" in machine.gpu:  # where no nvidia-smi answers first
        assert machine.gpu == (
            "NVIDIA Jetson Orin Nano Developer Kit, L4T R36 (release), REVISION: 4.3"
        )


def test_a_container_has_the_memory_of_its_limit(tmp_path):
    machine = kernel(tmp_path, "model name : Some CPU\nflags : avx2 sse\n")
    assert (machine.cpu, machine.features) == ("Some CPU", ("avx2",))
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1048576\n")
    assert this_machine(tmp_path).ram_bytes == 1048576
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert this_machine(tmp_path).ram_bytes == 7800000 * 1024


def test_a_system_that_tells_nothing_is_no_error(tmp_path):
    machine = this_machine(tmp_path)
    assert machine.ram_bytes is None and machine.cpu and machine.cores >= 1
    report = Report(machine, video_report(), {}, None, ())
    assert "unknown, unknown available" in "\n".join(lines_of(report, None))


def test_a_gpu_in_words():
    line = "NVIDIA H200, 143771 MiB, 580.65.06, 9.0"
    assert gpu_from_query(line) == (
        "NVIDIA H200, 143771 MiB, driver 580.65.06, compute capability 9.0"
    )


def test_video_has_versions_and_a_verdict_for_each_decoder():
    report = video_report()
    assert re.match(r"\d+\.\d+", report.pyav) and re.match(r"\d+\.\d+", report.ffmpeg)
    assert all(re.match(r"opened$|refused: .+", verdict) for verdict in report.hardware.values())
