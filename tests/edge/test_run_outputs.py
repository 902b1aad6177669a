"""Where `edgestream run` writes to: files, pipes and readers of every kind, and none at all."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time

import pytest

from edgestream.edge.cli import main

from ..video_files import moving_texture, write_video
from .test_run import (  # noqa: F401 - the fixture is used by being there
    COMMAND,
    TEXTURE,
    cut_clip,
    in_an_empty_folder,
    records_of,
    run_in_a_process,
)


@pytest.mark.parametrize("where", ["missing/log.jsonl", "."])
def test_a_log_that_cannot_be_written(tmp_path, capsys, where):
    clip = write_video(tmp_path / "a.mp4", TEXTURE)
    assert main(["run", str(clip), "--jsonl", where]) == 8
    assert "cannot write records" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["itself", "symbolic link", "hard link", "linked source"])
def test_the_source_is_never_written_to(tmp_path, capsys, how):
    clip = write_video(tmp_path / "a.mp4", TEXTURE)
    before, link = clip.read_bytes(), tmp_path / "link.mp4"
    os.link(clip, link) if how == "hard link" else link.symlink_to(clip)
    source, log = {"itself": (clip, clip), "linked source": (link, clip)}.get(how, (clip, link))
    assert main(["run", str(source), "--jsonl", str(log)]) == 2
    out, err = capsys.readouterr()
    assert "is the source itself" in err and out == "" and clip.read_bytes() == before


def test_a_file_without_records_is_never_appended_to(tmp_path, capsys):
    clip, other = (write_video(tmp_path / name, TEXTURE) for name in ("a.mp4", "b.mp4"))
    before = other.read_bytes()
    assert main(["run", str(clip), "--jsonl", str(other)]) == 8
    assert "something else than records" in capsys.readouterr().err
    assert other.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("more", [[], ["--realtime"]])
def test_a_full_disk_ends_the_run_at_once(tmp_path, capsys, more):
    clip = write_video(tmp_path / "a.mp4", TEXTURE)
    assert main(["run", str(clip), "--jsonl", "/dev/full", *more]) == 8
    assert capsys.readouterr().err.count("disk is full") == 1


@pytest.mark.medium
def test_a_reader_that_leaves_is_no_error(tmp_path):
    clip = write_video(tmp_path / "a.mp4", moving_texture(200, (96, 64)), fps=10)
    process = run_in_a_process(str(clip), "--gate", "every:0.25")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0 and "Traceback" not in errors and "error" not in errors


def in_a_shell(line: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A shell line in which "$@" is our command."""
    command = ["bash", "-c", line, "bash", *COMMAND, "run", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


@pytest.mark.medium
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_without_its_streams_writes_its_records(tmp_path, closed):
    """As under a service manager or a daemon; nothing of it gets into the records either."""
    clip = cut_clip(tmp_path / "a.mp4")
    done = in_a_shell(f'exec "$@" {closed}', str(clip), "--jsonl", "log.jsonl")
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    records = records_of((tmp_path / "log.jsonl").read_text())
    assert records[-1]["type"] == "stats" and len(records) == 5
    assert (b"0:02.00" in done.stdout) is (closed == "2>&-")


@pytest.mark.medium
def test_records_for_a_closed_stdout_are_an_output_error(tmp_path):
    clip = cut_clip(tmp_path / "a.mp4")
    done = in_a_shell('exec "$@" >&-', str(clip), "--jsonl", "-")
    assert done.returncode == 8 and b"stdout: it is closed" in done.stderr
    done = in_a_shell('exec "$@" 2>&-', "no such.mp4")
    assert done.returncode == 5 and done.stdout == b"", "what is for stderr goes nowhere else"


@pytest.mark.medium
def test_a_script_that_stands_in_place_of_a_closed_stderr(tmp_path):
    """Bash reads a script from the first free number; what it starts finds the script there."""
    clip = cut_clip(tmp_path / "a.mp4")
    (tmp_path / "wrapped").write_text('exec "$@"\n')
    assert in_a_shell('bash wrapped "$@" 2>&-', str(clip)).returncode == 0


@pytest.mark.medium
@pytest.mark.parametrize("more", [[], ["--realtime"]])
def test_a_reader_of_lines_that_leaves_does_not_end_the_log(tmp_path, more):
    clip = write_video(tmp_path / "a.mp4", moving_texture(20, (96, 64)), fps=10)
    line = '"$@" | head -1; exit ${PIPESTATUS[0]}'
    done = in_a_shell(line, str(clip), "--gate", "every:0.25", "--jsonl", "log.jsonl", *more)
    assert done.returncode == 0 and done.stdout.count(b"\n") == 1 and b"rror" not in done.stderr
    records = records_of((tmp_path / "log.jsonl").read_text())
    assert [record["type"] for record in records].count("opened") > 3
    assert records[-1]["type"] == "stats"


@pytest.mark.medium
def test_a_process_reads_the_records(tmp_path):
    clip = cut_clip(tmp_path / "a.mp4")
    line = '"$@" --jsonl >(cat > copy.jsonl); code=$?; wait $!; exit $code'
    assert in_a_shell(line, str(clip)).returncode == 0
    assert len(records_of((tmp_path / "copy.jsonl").read_text())) == 5


@pytest.mark.medium
@pytest.mark.parametrize("more", [[], ["--realtime"]])
def test_a_pipe_nobody_reads_from_is_an_error_and_a_reader_may_leave(tmp_path, capsys, more):
    clip = write_video(tmp_path / "a.mp4", TEXTURE, fps=10)
    os.mkfifo(tmp_path / "pipe")
    assert main(["run", str(clip), "--jsonl", "pipe", *more]) == 8
    assert "nobody reads from it" in capsys.readouterr().err
    line = 'head -1 pipe > first & sleep 0.1; "$@"'
    done = in_a_shell(line, str(clip), "--gate", "every:0.25", "--jsonl", "pipe", *more)
    assert done.returncode == 0 and done.stdout.count(b"\n") == 3
    assert len(records_of((tmp_path / "first").read_text())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--realtime"]])
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("target", ["-", "pipe"])
def test_a_reader_that_does_not_read_holds_nobody_who_leaves(tmp_path, more, way, target):
    clip = write_video(tmp_path / "a.mp4", moving_texture(300, (320, 180)), fps=10)
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    dense = ["--fps", "120", "--gate", "every:0.01", "--jsonl", target]
    process = run_in_a_process(str(clip), *dense, *more, pipesize=4096)
    time.sleep(3)
    assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
    process.send_signal(way)
    process.wait(5)
    errors = process.stderr.read()  # type: ignore[union-attr]
    os.close(reading)
    assert process.returncode == (130 if way == signal.SIGINT else 8)
    assert "records were lost" in errors and "Traceback" not in errors
    process.stdout.close()  # type: ignore[union-attr]
    process.stderr.close()  # type: ignore[union-attr]
