"""Saved states: what is written is read again, and whatever kills the writer, one can be read."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgestream.runtime import state_snapshot
from edgestream.runtime.errors import (
    FormatTooNew,
    OutputFull,
    OutputUnwritable,
    StateInvalid,
    StateMismatch,
)
from edgestream.runtime.state_folder import StateFolder
from edgestream.runtime.state_snapshot import HASH_FILE, SavedPart, State

OURS, OTHER = "1" * 64, "2" * 64


def state(clock_s=60.25, bundle=OURS, **changes):
    counted = np.full((3, 10, 8), clock_s, np.float64)
    made = State(
        bundle,
        {"budget_mb": 64, "kind": "keyframes"},
        clock_s,
        {"frames": 14401, "turns": 41},
        SavedPart({"said": ["a \n dog", ""]}, {"embeds": counted, "covers": np.arange(3)}),
        SavedPart({"gate": "never", "state": None}, {}),
    )
    return dataclasses.replace(made, **changes)


def assert_same_part(one, other):
    assert state_snapshot.plain(one.values) == state_snapshot.plain(other.values)
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name], strict=True)


def assert_same(one, other):
    assert one.bundle_sha256 == other.bundle_sha256 and one.clock_s == other.clock_s
    assert dict(one.settings) == dict(other.settings) and one.counters == other.counters
    assert_same_part(one.memory, other.memory)
    assert_same_part(one.gate, other.gate)


def numbers(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
KINDS = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = arrays_of.arrays(KINDS, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4))
PARTS = st.builds(
    SavedPart,
    st.dictionaries(st.text(), JSON, max_size=3),
    st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), ARRAYS, max_size=3).filter(
        lambda named: "values" not in named
    ),
)


@pytest.mark.medium
@settings(max_examples=30, deadline=None)
@given(memory=PARTS, gate=PARTS, clock_s=st.floats(0, 1e9), bundle=st.sampled_from([OURS, None]))
def test_what_is_written_is_read_again(tmp_path_factory, memory, gate, clock_s, bundle):
    written = state(clock_s, bundle, memory=memory, gate=gate)
    with StateFolder(tmp_path_factory.mktemp("state")) as folder:
        folder.write(written)
        assert_same(folder.read(bundle), written)


def test_an_empty_folder_has_no_state_and_is_made(tmp_path):
    with StateFolder(tmp_path / "new") as folder:
        assert folder.read(OURS) is None
        folder.write(state())
    assert numbers(tmp_path / "new") == [1]
    with StateFolder(tmp_path / "new") as folder:
        assert_same(folder.read(OURS), state())


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path):
    with StateFolder(tmp_path) as folder:
        for clock_s in range(12):
            folder.write(state(float(clock_s)))
            assert len(numbers(tmp_path)) == min(clock_s + 1, 2)
        assert folder.read(OURS).clock_s == 11.0
    assert numbers(tmp_path) == [11, 12] and len(list(tmp_path.iterdir())) == 2


def test_what_is_not_ours_in_the_folder_stays(tmp_path):
    (tmp_path / "dialogue.jsonl").write_text("{}\n")
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "photo.jpg").write_text("mine")
    (tmp_path / "7").write_text("mine")
    with StateFolder(tmp_path) as folder:
        for clock_s in range(4):
            folder.write(state(float(clock_s)))
    assert numbers(tmp_path) == [3, 7, 10, 11]
    assert (tmp_path / "3" / "photo.jpg").exists() and (tmp_path / "dialogue.jsonl").exists()


def test_nothing_is_pickled(tmp_path):
    with StateFolder(tmp_path) as folder, pytest.raises(ValueError, match="Object arrays"):
        folder.write(state(memory=SavedPart({}, {"a": np.array([print], object)})))
    assert numbers(tmp_path) == []


# Every bad input: one sentence and an exit code.


def refused(folder, error, words, bundle=OURS):
    with StateFolder(folder) as held, pytest.raises(error, match=words) as fault:
        held.read(bundle)
    assert fault.value.hint and "\n" not in fault.value.message
    return fault.value


def with_snapshot(folder, is_hashed=True, **changes):
    """One state whose snapshot.json says something else."""
    with StateFolder(folder) as held:
        held.write(state())
    file = folder / "1" / "snapshot.json"
    fields = json.loads(file.read_text()) | changes
    text = json.dumps({k: v for k, v in fields.items() if v != "left out"}).encode()
    file.write_bytes(text)
    if is_hashed:
        (folder / "1" / HASH_FILE).write_bytes(state_snapshot._hash_line(text))


@pytest.mark.parametrize(("bundle", "shown"), [(OTHER, "222222222222…"), (None, "none")])
def test_another_bundle_is_refused(tmp_path, bundle, shown):
    with_snapshot(tmp_path)
    words = rf"the state \S+/1 is of the bundle 111111111111…, expected {shown}"
    assert refused(tmp_path, StateMismatch, words, bundle).exit_code == 3


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_newer_format_is_refused_whatever_else_it_changed(tmp_path, is_hashed):
    with_snapshot(tmp_path, is_hashed, format=2, files="left out")
    assert refused(tmp_path, FormatTooNew, "has format 2, expected at most 1").exit_code == 3


def test_what_is_refused_is_not_passed_over_for_an_older_one(tmp_path):
    with StateFolder(tmp_path) as folder:
        folder.write(state(bundle=OURS))
        folder.write(state(bundle=OTHER))
    refused(tmp_path, StateMismatch, "another|222222222222…, expected 111111111111…")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "1"}, "format: got '1', expected a whole number"),
        ({"format": "left out"}, "format is missing"),
        ({"format": 0}, "format: got 0"),
        ({"bundle_sha256": "abc"}, "bundle_sha256: got 'abc', expected 64 hexadecimal digits"),
        ({"clock_s": -1}, "clock_s: got -1"),
        ({"clock_s": float("nan")}, "clock_s: got nan"),
        ({"memory": []}, r"memory: got \[\], expected an object"),
        ({"counters": {"turns": -1}}, "counters: got"),
        ({"counters": {"turns": True}}, "counters: got"),
        ({"files": "left out"}, "files is missing"),
        ({"files": {}}, "snapshot.json names no memory.npz"),
        ({"files": {"memory.npz": {}}}, "sha256 is missing"),
        ({"files": {"memory.npz": 3}}, "got 3, expected an object"),
    ],
)
def test_a_field_of_another_type_is_refused(tmp_path, changes, words):
    with_snapshot(tmp_path, **changes)
    fault = refused(tmp_path, StateInvalid, f"cannot be used: .*{words}")
    assert fault.exit_code == 3 and fault.code == "state-invalid"


@pytest.mark.parametrize("name", ["snapshot.json", HASH_FILE, "memory.npz", "gate.npz"])
def test_a_missing_file_is_refused(tmp_path, name):
    with_snapshot(tmp_path)
    (tmp_path / "1" / name).unlink()
    refused(tmp_path, StateInvalid, f"cannot be used: {name}: no such file")


@pytest.mark.parametrize("name", ["snapshot.json", HASH_FILE, "memory.npz", "gate.npz"])
def test_a_flipped_bit_or_a_lost_end_is_found_wherever_it_is(tmp_path, name):
    with_snapshot(tmp_path)
    file, chosen = tmp_path / "1" / name, random.Random(name)
    whole = file.read_bytes()
    for _ in range(40):
        broken = bytearray(whole)
        broken[chosen.randrange(len(whole))] ^= 1 << chosen.randrange(8)
        file.write_bytes(broken)
        # A flipped digit of the format may say that it is a newer one.
        refused(tmp_path, (StateInvalid, FormatTooNew), "the state")
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(tmp_path, StateInvalid, "cannot be used")


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros(2)},  # no values
        {"values": np.frombuffer(b"[1]", np.uint8)},
        {"values": np.frombuffer(b"{", np.uint8)},
        {"values": np.frombuffer(b"[" * 100_000, np.uint8)},
    ],
)
def test_a_file_with_its_hash_that_holds_something_else_is_refused(tmp_path, arrays):
    with_snapshot(tmp_path)
    file = tmp_path / "1" / "memory.npz"
    np.savez(file, **arrays)
    files = json.loads((tmp_path / "1" / "snapshot.json").read_text())["files"]
    files["memory.npz"]["sha256"] = state_snapshot.sha256_of_file(file)
    text = json.dumps(json.loads((tmp_path / "1" / "snapshot.json").read_text()) | {"files": files})
    (tmp_path / "1" / "snapshot.json").write_text(text)
    (tmp_path / "1" / HASH_FILE).write_bytes(state_snapshot._hash_line(text.encode()))
    refused(tmp_path, StateInvalid, "memory.npz")


def test_a_damaged_one_is_passed_over_and_told_and_the_good_one_outlives_it(tmp_path):
    with StateFolder(tmp_path) as folder:
        for clock_s in (1.0, 2.0):
            folder.write(state(clock_s))
    (tmp_path / "2" / "memory.npz").write_bytes(b"half")
    told = []
    with StateFolder(tmp_path) as folder:
        assert folder.read(OURS, told.append).clock_s == 1.0
        assert [fault.code for fault in told] == ["state-invalid"] and "/2 " in told[0].message
        folder.write(state(3.0))
        assert numbers(tmp_path) == [1, 3], "the damaged one is no fallback, the good one is"
        folder.write(state(4.0))
    assert numbers(tmp_path) == [3, 4]


def test_a_disk_that_is_full_costs_one_sentence_and_no_older_state(tmp_path, monkeypatch):
    with StateFolder(tmp_path) as folder:
        folder.write(state(1.0))

        def full(file, arrays):
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(state_snapshot, "write_arrays", full)
        with pytest.raises(OutputFull, match=r"no space is left for .*/2;"):
            folder.write(state(2.0))
        monkeypatch.undo()
        assert numbers(tmp_path) == [1] and len(list(tmp_path.iterdir())) == 1
        folder.write(state(3.0))
        assert folder.read(OURS).clock_s == 3.0


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "none" / "state"):
        with pytest.raises(OutputUnwritable, match=r"the state folder .* cannot be used"):
            StateFolder(place)
    with StateFolder(tmp_path / "gone") as folder:
        (tmp_path / "gone").rmdir()
        with pytest.raises(OutputUnwritable, match="cannot be used: no such file"):
            folder.write(state())


def test_two_runs_do_not_share_a_folder(tmp_path):
    with StateFolder(tmp_path), pytest.raises(OutputUnwritable, match="in use by another run"):
        StateFolder(tmp_path)
    StateFolder(tmp_path).close()


# Whatever kills the writer.

KILLED_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
from edgestream.runtime.state_folder import StateFolder
from tests.runtime.test_state_folder import OURS, state

place = Path(sys.argv[1])
FILE_CALLS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}
with StateFolder(place) as folder:
    for clock_s in (1.0, 2.0):
        folder.write(state(clock_s))
step, newest = 0, 2.0
while True:
    step += 1
    child = os.fork()
    if not child:
        left = step
        def die(event, arguments):
            global left
            if event in FILE_CALLS and str(place) in str(arguments):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        folder = StateFolder(place)
        sys.addaudithook(die)
        folder.write(state(newest + 1.0))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    with StateFolder(place) as folder:
        clock_s = folder.read(OURS, sys.exit).clock_s  # nothing is passed over
    assert clock_s in (newest, newest + 1.0), (clock_s, newest)
    newest = clock_s
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
names = sorted(os.listdir(place))
assert len(names) == 2 and all(name.isdigit() for name in names), names
print("killed at", step - 1, "calls")
"""


@pytest.mark.medium
def test_killed_before_any_file_call_a_state_is_left_and_the_next_writer_tidies_up(tmp_path):
    command = [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(tmp_path / "state")]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"killed at (\d+)", done.stdout)[1]) >= 15


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from edgestream.runtime.state_folder import StateFolder
from edgestream.runtime.state_snapshot import SavedPart
from tests.runtime.test_state_folder import OURS, state

with StateFolder(Path(sys.argv[1])) as folder:
    found = folder.read(OURS, sys.exit)
    clock_s = 0.0 if found is None else found.clock_s
    while True:
        clock_s += 1.0
        arrays = {f"k{n}": np.full((40, 1000), clock_s, np.float32) for n in range(12)}
        folder.write(state(clock_s, memory=SavedPart({}, arrays)))
        print(clock_s, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_at_random_times_lose_at_most_the_state_that_was_being_written(tmp_path):
    place, chosen, told_s = tmp_path / "state", random.Random(5), 0.0
    command = [sys.executable, "-c", WRITER, str(place)]
    cwd = Path(__file__).parents[2]
    for _ in range(24):
        with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as writer:
            first = writer.stdout.readline()  # it is at work
            assert first, "the writer could not read what the killed one had left"
            time.sleep(chosen.uniform(0, 0.08))
            writer.kill()
            told = [float(line) for line in [first, *writer.stdout] if line.endswith("\n")]
        assert told[0] >= told_s + 1.0, "it went on from the last one"
        with StateFolder(place) as folder:
            found = folder.read(OURS, pytest.fail)
        # What was told is there; at most the one whose telling the kill prevented is newer.
        assert found.clock_s in (told[-1], told[-1] + 1.0)
        assert {float(a.flat[0]) for a in found.memory.arrays.values()} == {found.clock_s}
        assert {a.size for a in found.memory.arrays.values()} == {40_000}
        told_s = told[-1]
    with StateFolder(place) as folder:
        folder.write(state())
    assert all(name.isdigit() for name in os.listdir(place)) and len(numbers(place)) == 2


def test_a_wipe_leaves_no_snapshot_and_no_leftover_and_uses_no_number_twice(tmp_path):
    with StateFolder(tmp_path) as folder:
        for clock_s in (1.0, 2.0, 3.0):
            folder.write(state(clock_s))
    for name in (".7.removed-00aa11bb", ".8.writing-00aa11bb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.npz").write_bytes(b"secret")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mine.txt").write_text("somebody else's")
    with StateFolder(tmp_path) as folder:
        folder.wipe()
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        assert folder.write(state(4.0)) == 4
        folder.wipe()
        folder.wipe()
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
        assert folder.write(state(5.0)) == 5


def test_one_snapshot_is_kept_where_no_more_are_wanted(tmp_path):
    with StateFolder(tmp_path) as folder:
        for clock_s in (1.0, 2.0, 3.0):
            folder.write(state(clock_s), kept=1)
            assert [path.name for path in tmp_path.iterdir()] == [str(int(clock_s))]
