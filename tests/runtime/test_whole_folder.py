"""A folder that appears whole or not at all, whatever happens to its writer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgestream.runtime import whole_folder as module
from edgestream.runtime.errors import OutputExists, OutputFull, OutputUnwritable
from edgestream.runtime.whole_folder import whole_folder

MARK = "mark.txt"


def make(target, text="new", **keywords):
    with whole_folder(target, **keywords) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "a.txt").write_text(text)
        (folder / MARK).write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_appears_when_the_block_ends(tmp_path):
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists() and folder.name.startswith(".out.writing-")
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error), whole_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        raise error
    assert names(tmp_path) == []


def test_an_older_one_stays_as_it_was_after_an_error(tmp_path):
    make(tmp_path / "out", "old")
    with pytest.raises(ValueError), whole_folder(tmp_path / "out", replaces=MARK) as folder:
        (folder / MARK).write_text("half")
        raise ValueError
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / MARK).read_text() == "old"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_older_one_is_replaced_where_that_was_asked_for(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "more").write_text("")
    make(tmp_path / "out", "new", replaces=MARK)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["below", MARK]
    assert (tmp_path / "out" / MARK).read_text() == "new"


def test_the_old_one_is_whole_until_the_new_one_is(tmp_path):
    make(tmp_path / "out", "old")
    with whole_folder(tmp_path / "out", replaces=MARK) as folder:
        (folder / MARK).write_text("new")
        assert names(tmp_path / "out") == ["below", MARK]
        assert (tmp_path / "out" / MARK).read_text() == "old"


def put(place, kind):
    if kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.symlink_to(place.parent)
    else:
        place.mkdir()
        (place / ("mine.txt" if kind == "other" else MARK)).write_text("mine")


@pytest.mark.parametrize(
    ("kind", "replaces"),
    [
        *((kind, None) for kind in ("same", "other", "file", "link")),
        *((kind, MARK) for kind in ("other", "file", "link")),
    ],
)
def test_what_may_not_be_replaced_is_refused_before_anything_is_done(tmp_path, kind, replaces):
    put(tmp_path / "out", kind)
    refused = pytest.raises(OutputExists, match="already there")
    with refused as fault, whole_folder(tmp_path / "out", replaces=replaces):
        raise AssertionError("the block is not entered")
    assert fault.value.exit_code == 8 and names(tmp_path) == ["out"]


def test_a_fault_of_the_block_is_not_taken_for_one_of_the_target(tmp_path):
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out"):
        (tmp_path / "checkpoint").read_bytes()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["same", "file"])
def test_what_appears_in_the_meantime_is_not_replaced(tmp_path, kind):
    with pytest.raises(OutputExists), whole_folder(tmp_path / "out"):
        put(tmp_path / "out", kind)
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["below", MARK]


def test_a_relative_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("out"))
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("place", ["none/out", "file/out"])
def test_a_parent_that_is_no_folder(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="out cannot be written"):
        make(tmp_path / place)
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_writing(tmp_path):
    refused = pytest.raises(OutputFull, match=r"no space is left for .*/out;")
    with refused as fault, whole_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        Path("/dev/full").write_text("the kernel says that there is no space")
    assert fault.value.exit_code == 8 and fault.value.__cause__.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_a_disk_that_is_found_full_when_it_is_flushed(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputFull):
        make(tmp_path / "out")
    assert names(tmp_path) == []


def test_every_file_and_folder_is_flushed_before_the_name_is_given(tmp_path, monkeypatch):
    log, fsync, rename = [], os.fsync, os.rename

    def logged_fsync(held):
        log.append(os.readlink(f"/proc/self/fd/{held}").rpartition(".writing-")[2][8:])
        fsync(held)

    def logged_rename(one, other):
        log.append("rename")
        rename(one, other)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged_rename)
    make(tmp_path / "out")
    before, after = log[: log.index("rename")], log[log.index("rename") + 1 :]
    assert sorted(before) == ["", "/below", "/below/a.txt", f"/{MARK}"] and before[-1] == ""
    assert len(after) == 1  # the folder in which the name stands


WRITER = """
import sys, time
from pathlib import Path
from edgestream.runtime.whole_folder import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "a.txt").write_text("a")
    print(folder.name, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.medium
def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    target = tmp_path / "out"
    command = [sys.executable, "-c", WRITER, str(target)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes["stderr"] = subprocess.DEVNULL  # the last one complains that its name is taken
    with subprocess.Popen(command, **pipes) as dead, subprocess.Popen(command, **pipes) as living:
        left, kept = dead.stdout.readline().strip(), living.stdout.readline().strip()
        assert names(tmp_path) == sorted([left, kept])
        dead.kill()
        dead.wait()
        (tmp_path / ".other.writing-1").mkdir()  # of another target
        assert set(names(tmp_path)) == {left, kept, ".other.writing-1"}
        make(target)
        assert set(names(tmp_path)) == {kept, ".other.writing-1", "out"}
        living.communicate("\n")
    assert living.returncode == 1, "the name was taken meanwhile"
    assert (target / MARK).read_text() == "new"
    assert set(names(tmp_path)) == {".other.writing-1", "out"}
