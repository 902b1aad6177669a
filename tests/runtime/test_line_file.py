"""Lines into pipes and files: whole ones, in order, and nobody who reads can hold us for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgestream.runtime import line_file
from edgestream.runtime.errors import OutputError, OutputUnwritable
from edgestream.runtime.line_file import LineFile, open_for_lines


@pytest.fixture
def full_pipe():
    """A pipe that takes nothing more: (reading end, writing end, bytes in it)."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    n_bytes = 0
    try:
        while True:
            n_bytes += os.write(writing, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield reading, writing, n_bytes
    os.close(reading)


@pytest.mark.medium
def test_a_full_pipe_is_given_up_once_the_run_is_left(full_pipe, monkeypatch):
    monkeypatch.setattr(line_file, "LEAVE_WITHIN_S", 0.05)
    looks = []

    def has_left():
        looks.append(time.monotonic())
        return len(looks) > 2  # we wait for a reader as long as nobody leaves

    file = LineFile(full_pipe[1], "the pipe", has_left=has_left)
    with pytest.raises(OutputUnwritable, match=r"records were lost: the pipe took nothing for 0\."):
        file.write("a line\n")
    file.close()
    assert len(looks) > 3


def test_a_line_that_ctrl_c_broke_is_finished_before_the_next_one(full_pipe):
    reading, writing, n_bytes = full_pipe
    long_line = "x" * 10_000 + "\n"

    def interrupt():
        raise KeyboardInterrupt

    assert len(os.read(reading, 4096)) == 4096  # room for a part of it
    file = LineFile(writing, "the pipe", has_left=interrupt)
    with pytest.raises(KeyboardInterrupt):
        file.write(long_line)
    assert n_bytes == 65536 or n_bytes > 8192
    text = b""
    while len(text) < n_bytes:
        text += os.read(reading, n_bytes - len(text))
    file.write("next\n")
    file.close()
    while part := os.read(reading, 65536):
        text += part
    assert text.lstrip(b".").decode() == long_line + "next\n"


def test_a_reader_that_has_gone_is_a_broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    file = LineFile(writing, "the pipe")
    with pytest.raises(BrokenPipeError):
        file.write("a line\n")
    file.close()
    file.close()
    assert file.write("too late\n") == 0


def test_a_pipe_without_a_reader_is_an_error_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputUnwritable, match="nobody reads from it"):
        open_for_lines(tmp_path / "pipe")


def test_a_named_pipe_is_only_written_to_and_blocks(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = open_for_lines(path)
    file.write("one\n")
    assert os.read(reading, 100) == b"one\n"
    assert os.get_blocking(file._file)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        file.write("two\n")
    file.close()


@pytest.mark.parametrize("content", [b"\0\0\0\x20ftypisom", b"notes\n", b"\n", b"[1]\n"])
def test_a_file_of_another_kind_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "records.jsonl"
    path.write_bytes(content)
    with pytest.raises(OutputUnwritable, match="something else than records") as caught:
        open_for_lines(path)
    assert path.read_bytes() == content and caught.value.hint


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "new\n"), ('{"a": 1}\n', '{"a": 1}\nnew\n'), ("{", "{\nnew\n"), ('{"a', '{"a\nnew\n')],
)
def test_records_are_appended_to_and_half_a_line_is_closed(tmp_path, before, after):
    path = tmp_path / "records.jsonl"
    path.write_text(before)
    file = open_for_lines(path)
    file.write("new\n")
    file.close()
    assert path.read_text() == after


def test_a_line_that_does_not_fit_is_cut_off_where_it_began(tmp_path):
    """Also in a file that is not opened for appending, as a shell gives us stdout."""
    import resource

    path = tmp_path / "out.txt"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = LineFile(os.open(path, os.O_WRONLY | os.O_CREAT), "out.txt")
    file.write("first\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OutputError):
            file.write("second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.write("third\n")
    file.close()
    assert path.read_text() == "first\nthird\n"


def test_what_the_encoding_cannot_say_is_replaced(tmp_path: Path):
    path = tmp_path / "out.txt"
    file = LineFile(os.open(path, os.O_WRONLY | os.O_CREAT), "out.txt", encoding="ascii")
    file.write("naïve\n")
    file.close()
    assert path.read_bytes() == b"na?ve\n"
