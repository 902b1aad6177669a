"""Questions on stdin, in real processes: a terminal, a pipe, a file, and none at all."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

# Asks what comes in, prints it as it stands in the inbox, and ends after so many, or when left.
PROGRAM = """
import signal, sys, threading, time
from edgestream.edge import asking
from edgestream.edge.asking import asked, asked_before, asks_from_options
from edgestream.runtime.inbox import Inbox

how_many, is_live, options = int(sys.argv[1]), sys.argv[2] == "live", sys.argv[3:]
asking.MOST_KNOWN = 9
left = threading.Event()
signal.signal(signal.SIGTERM, lambda number, where: left.set())
asks, seen = asks_from_options(options), 0
known = asked_before(asks, is_live=is_live, has_left=left.is_set)
inbox = Inbox(lambda: 7.0, capacity=max(3, len(known)))
with asked(known, inbox, has_end=not is_live, reads_stdin=asks.reads_stdin and is_live):
    print("running", flush=True)
    while seen < how_many and not left.is_set():
        for question in inbox.due(1e99):
            print(f"{question.time_s:g} {question.text}", flush=True)
            inbox.answered()
            seen += 1
        time.sleep(0.01)
print("left", [one.name for one in threading.enumerate() if one.name.startswith("edgestream")])
"""


def program(how_many, kind, *options, **more):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(how_many), kind, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def piped(text, *arguments):
    process = program(*arguments, stdin=subprocess.PIPE)
    out, errors = process.communicate(text, timeout=30)
    assert process.returncode == 0 and "Traceback" not in errors
    return out.splitlines(), errors


def next_line(stream):
    """The next line of a process; a fault where it says nothing for too long.

    Not through the stream's buffer: what it already holds, `select` does not see.
    """
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([stream], [], [], 20)[0], f"the process says only {line!r}"
        byte = os.read(stream.fileno(), 1)
        assert byte, f"the process has ended after {line!r}"
        line += byte
    return line.decode()


@pytest.fixture
def terminal():
    """(ours, theirs): the two ends of a new terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def told(terminal, expected):
    """What the terminal shows, as far as it takes to show `expected`."""
    shown = b""
    while expected not in shown:
        assert select.select([terminal], [], [], 20)[0], shown
        shown += os.read(terminal, 4096)
    return shown.decode()


def test_a_pipe_is_read_to_its_end_before_a_file_is_watched():
    lines, errors = piped("3:Who?\n\nWhere?", 3, "file", "-", "9:When?")
    assert lines == ["running", "3 Who?", "9 When?", "2e+10 Where?", "left []"]
    assert errors == ""


@pytest.mark.medium
def test_lines_of_a_pipe_are_asked_as_they_come_while_a_camera_runs():
    process = program(2, "live", "-", stdin=subprocess.PIPE)
    assert next_line(process.stdout) == "running\n", "it does not wait for the pipe to end"
    process.stdin.write("Who?\n")
    process.stdin.flush()
    assert next_line(process.stdout) == "7 Who?\n"
    out, errors = process.communicate("9:Where?\n", timeout=30)
    assert out == "9 Where?\nleft []\n" and errors == ""


@pytest.mark.medium
def test_a_refused_line_says_so_and_the_others_are_asked():
    lines, errors = piped("1:99:Who?\n1:a\n2:b\n3:c\n4:d\n", 4, "file", "-")
    assert lines[1:5] == ["1 a", "2 b", "3 c", "4 d"], "a list that is known is not too long"
    (refused,) = errors.splitlines()
    assert refused.startswith("not asked: got the time '1:99'")


@pytest.mark.medium
def test_a_line_too_many_for_a_camera_says_so():
    _, errors = piped("".join(f"8{n}:a\n" for n in range(4)), 3, "live", "-")
    (refused,) = errors.splitlines()
    assert refused.startswith("not asked: 3 questions are waiting") and "; wait" in refused


def test_a_pipe_without_an_end_is_refused():
    process = program(1, "file", "-", stdin=subprocess.PIPE)
    process.stdin.write("What?\n" * 10)
    process.stdin.flush()
    assert process.wait(20) == 1
    out, errors = process.communicate()
    assert out == "" and "stdin holds more than 9 questions" in errors


@pytest.mark.medium
def test_who_waits_for_a_pipe_is_told_what_for():
    process = program(1, "file", "-", stdin=subprocess.PIPE)
    assert next_line(process.stderr) == "reading questions from stdin until it ends\n"
    out, errors = process.communicate("3:Who?\n", timeout=30)
    assert out == "running\n3 Who?\nleft []\n" and errors == ""


def test_without_a_dash_a_pipe_is_left_alone():
    lines, errors = piped("Who?\n", 0, "file")
    assert lines == ["running", "left []"] and errors == ""


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["file", "live"])
def test_typed_lines_are_asked_now(terminal, kind):
    ours, theirs = terminal
    process = program(3, kind, "1:Before?", stdin=theirs)
    assert next_line(process.stderr) == "Type a question and press Enter; Ctrl-C ends.\n"
    assert next_line(process.stdout) == "running\n"
    assert next_line(process.stdout) == "1 Before?\n"
    os.write(ours, b"What is\n\n9:")
    assert next_line(process.stdout) == "7 What is\n"
    os.write(ours, "là?\n".encode())
    out, errors = process.communicate(timeout=30)
    assert out == "9 là?\nleft []\n" and errors == ""


@pytest.mark.medium
def test_the_end_of_typing_is_not_the_end_of_the_run(terminal):
    ours, theirs = terminal
    process = program(1, "live", stdin=theirs)
    next_line(process.stdout)
    os.write(ours, b"\x04")  # Ctrl-D
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in errors and out == "left []\n"


@pytest.mark.medium
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["-"]])
def test_who_leaves_is_not_held_by_stdin(terminal, way, options):
    """Neither by a terminal on which nobody types nor by a pipe that never ends."""
    reading, writing = os.pipe()
    process = program(1, "file", *options, stdin=reading if options else terminal[1])
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(way)
    process.communicate(timeout=5)
    assert process.returncode in (0, 1, -signal.SIGINT, -signal.SIGTERM)
    os.close(reading)
    os.close(writing)


@pytest.mark.medium
def test_a_job_in_the_background_is_not_stopped_by_what_is_typed():
    """As after `edgestream run … &`: the terminal belongs to the shell, and so do its lines."""
    child, ours = pty.fork()
    if child == 0:  # a shell with a terminal of its own, and our program in its background
        shell = (
            'set -m; "$0" -c "$1" 1 live & read line; echo "shell got $line"; kill -0 $! && '
            "ps -o stat= -p $! && kill $!; wait"
        )
        os.execvp("bash", ["bash", "-c", shell, sys.executable, PROGRAM])
    told(ours, b"running")
    os.write(ours, b"for the shell\n")
    shown = told(ours, b"left []")
    os.waitpid(child, 0)
    os.close(ours)
    assert "shell got for the shell" in shown and "\nT" not in shown


@pytest.mark.medium
def test_a_closed_stdin_is_no_fault_until_it_is_asked_for():
    command = [sys.executable, "-c", PROGRAM, "0", "file"]
    line = 'exec "$@" <&-'
    for options, code in ([], 0), (["-"], 1):
        done = subprocess.run(
            ["bash", "-c", line, "bash", *command, *options],
            capture_output=True,
            timeout=30,
            check=False,
            text=True,
        )
        assert done.returncode == code
        assert ("stdin, which is closed" in done.stderr) is bool(options)
