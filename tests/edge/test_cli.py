"""The command line as a user meets it: a process of its own, its exit code and two outputs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from edgestream import __version__
from edgestream.edge.cli import main
from edgestream.edge.terminal import columns_of, painted

COMMAND = [sys.executable, "-m", "edgestream.edge.cli"]
HEAVY = ("numpy", "onnxruntime", "av", "pydantic", "pydantic_settings", "rich")


def ran(*arguments, code=None, **keywords):
    """One run of the command; `code` is Python that runs before it, to stand for a fault."""
    command = [*COMMAND, *arguments]
    if code is not None:
        program = (
            f"import sys\nfrom edgestream.edge import cli, program\n{code}\nsys.exit(cli.main())"
        )
        command = [sys.executable, "-c", program, *arguments]
    keywords.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **keywords
    )


def faulty(statement):
    """Code that makes every command end with a statement of ours."""
    return f"def invoke(arguments):\n    {statement}\nprogram._invoke = invoke"


def test_version():
    done = ran("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edgestream {__version__}\n", "")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "by_typer"),
    [(["--help"], []), (["settings", "--help"], ["pydantic"]), (["doctor", "-h"], ["pydantic"])],
)
def test_help_loads_nothing_heavy(arguments, by_typer):
    # Newer typer itself loads pydantic when it reads the options of a command.
    code = (
        "import atexit\n"
        f"heavy = {HEAVY}\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules], file=sys.stderr))"
    )
    done = ran(*arguments, code=code)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: edgestream")
    assert done.stderr in ("[]\n", f"{by_typer}\n")


@pytest.mark.medium
def test_without_a_command_the_help_is_an_error():
    done = ran()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["setings"], "No such command 'setings'. Did you mean 'settings'?", "edgestream --help"),
        (["settings", "--jsno"], "--jsno", "edgestream settings --help"),
        (["settings", "--set"], "requires an argument", "edgestream settings --help"),
        (["settings", "--set", "source.fsp=1"], "no setting source.fsp", "source.fps"),
    ],
)
def test_a_usage_fault_is_two_lines_and_exit_code_2(arguments, message, hint):
    done = ran(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("error[") and message in first
    assert second.startswith("try: ") and hint in second


@pytest.mark.medium
def test_with_json_the_fault_is_an_object_on_stdout_too():
    done = ran("settings", "--json", "--set", "source.fsp=1")
    fault = json.loads(done.stdout)["error"]
    assert fault["code"] == "settings-invalid"
    assert done.stderr.startswith(f"error[settings-invalid]: {fault['message']}\n")
    assert json.loads(ran("settings", "--json", "--nonsense").stdout)["error"]["code"] == "usage"


@pytest.mark.medium
def test_every_fault_has_the_exit_code_of_its_class():
    for name, exit_code in (("BundleError", 3), ("SourceMissing", 5), ("OutputUnwritable", 8)):
        statement = (
            f"from edgestream.runtime import errors; raise errors.{name}('got a, expected b')"
        )
        done = ran("settings", code=faulty(statement))
        assert done.returncode == exit_code
        assert done.stderr.endswith("]: got a, expected b\n"), "no hint, no line for it"


def test_a_fault_of_ours_keeps_its_traceback():
    done = ran("settings", code=faulty("raise LookupError('ours')"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "LookupError: ours" in done.stderr


def test_ctrl_c_is_one_line_and_130():
    wrapped = "raise RuntimeError('Error calling __set_name__') from KeyboardInterrupt()"
    for statement in ("raise KeyboardInterrupt", wrapped):
        done = ran("settings", code=faulty(statement))
        assert (done.returncode, done.stderr) == (130, "interrupted\n")
    done = ran("settings", code=faulty("raise RuntimeError('ours')"))
    assert done.returncode == 1 and "RuntimeError: ours" in done.stderr


@pytest.mark.medium
@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_reader_who_leaves_is_no_error(buffering):
    reading, writing = os.pipe()
    os.close(reading)
    done = ran("settings", stdout=writing, env={**os.environ, "PYTHONUNBUFFERED": buffering})
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.medium
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_full_disk_is_8(buffering):
    with open("/dev/full", "w") as full:
        environ = {**os.environ, "PYTHONUNBUFFERED": buffering}
        done = ran("settings", stdout=full, env=environ)
        assert done.returncode == 8
        assert done.stderr.startswith("error[output-full]: ") and "Traceback" not in done.stderr


@pytest.mark.medium
def test_a_closed_stdout_is_no_error():
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "settings"],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.medium
def test_the_shell_gets_its_completions():
    environ = {
        **os.environ,
        "_EDGESTREAM_COMPLETE": "complete_bash",
        "COMP_WORDS": "edgestream se",
        "COMP_CWORD": "1",
    }
    assert ran(env=environ).stdout.split() == ["serve", "settings"]


def on_a_terminal(arguments, **environ):
    """What a command writes to a terminal on stdout and stderr."""
    ours, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    environ = {**kept, "TERM": "xterm", "COLUMNS": "80", **environ}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=theirs, stdin=theirs, env=environ
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side has gone
            break
        if not part:
            break
        text += part
    os.close(ours)
    process.wait(timeout=60)
    return text.decode()


@pytest.mark.medium
def test_colour_is_for_terminals_that_want_it():
    arguments = ["settings", "--set", "a.b=1"]
    assert on_a_terminal(arguments).startswith("\033[1;31merror[settings-invalid]:\033[0m ")
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert on_a_terminal(arguments, **environ).startswith("error[settings-invalid]: ")


@pytest.mark.medium
def test_on_a_terminal_no_line_is_longer_than_it():
    lines = on_a_terminal(["settings"], NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= 80
    assert "\033" not in "".join(lines)


def test_in_process_the_exit_code_is_returned(capsys):
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error[usage]")


def test_a_pipe_has_no_width_and_no_colour():
    with open(os.devnull, "w") as stream:
        assert columns_of(stream) is None
        assert painted("text", "1", stream) == "text"
    assert columns_of(None) is None


@pytest.mark.parametrize("group", ["train", "eval"])
def test_a_group_alone_is_its_help_and_a_usage_error(group, capsys):
    assert main([group]) == 2
    told = capsys.readouterr()
    assert not told.out and told.err.startswith(f"Usage: edgestream {group} ")
    assert "error[" not in told.err and "Commands:" in told.err
