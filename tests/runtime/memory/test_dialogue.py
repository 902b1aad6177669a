"""The dialogue: bounded, in the order of time, found by a rare word, and on disk after a crash."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.errors import InputMismatch, OutputFull, OutputUnwritable
from edgestream.runtime.memory.dialogue import DialogueMemory, likeliest, scored
from edgestream.runtime.memory.dialogue_log import BEFORE, NEWEST, DialogueLog
from edgestream.runtime.recent import DialogueTurn

# Whatever UTF-8 can say.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
turns_of_talk = st.builds(DialogueTurn, st.floats(0, 1e6), texts, texts)

COMMON = ("what", "is", "the", "on", "in", "of", "a", "there", "it", "and", "was", "to")
RARE = ("mug", "kettle", "parcel", "postman", "hammer", "ladder", "ticket", "violin")
DIM = 256


@functools.cache
def row_of(word: str) -> np.ndarray:
    row = np.random.default_rng(zlib.crc32(word.encode())).normal(size=(1, DIM))
    return (row / np.linalg.norm(row)).astype(np.float32)


def rows_of(text: str) -> np.ndarray:
    """A random unit row per word, as a table of token embeddings has them."""
    return np.concatenate([np.zeros((0, DIM), np.float32), *map(row_of, text.split())])


def turns_in(folder):
    """What the log in a folder says, the file before it first."""
    files = [folder / name for name in (BEFORE, NEWEST) if (folder / name).exists()]
    lines = b"".join(file.read_bytes() for file in files).splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    return tuple(DialogueTurn(**json.loads(line)) for line in lines)


@pytest.mark.medium
@given(st.lists(turns_of_talk, max_size=40), st.integers(1, 12), st.integers(1, 300))
def test_turns_and_bytes_are_bounded_at_every_add_and_time_goes_up(turns, max_turns, max_bytes):
    memory = DialogueMemory(max_turns=max_turns, max_bytes=max_bytes)
    for turn in turns:
        before = memory.view()
        memory.add(turn)
        kept = memory.view()
        assert len(kept) <= max_turns
        assert memory.n_bytes == sum(one.n_bytes for one in kept) <= max_bytes
        assert [one.time_s for one in kept] == sorted(one.time_s for one in kept)
        # What went was older than all that stayed.
        gone = [one for one in (*before, turn) if one not in kept and one.n_bytes <= max_bytes]
        assert all(one.time_s <= kept[0].time_s for one in gone if kept)


@pytest.mark.medium
@given(st.lists(turns_of_talk, max_size=20), st.integers(1, 8))
def test_restored_is_as_if_nothing_had_been_between(turns, max_turns):
    whole, first = DialogueMemory(max_turns=max_turns), DialogueMemory(max_turns=max_turns)
    second = DialogueMemory(max_turns=max_turns)
    middle = len(turns) // 2
    second.add(DialogueTurn(1.0, "forget", "me"))
    for turn in turns[:middle]:
        whole.add(turn)
        first.add(turn)
    second.restore(first.view())
    for turn in turns[middle:]:
        whole.add(turn)
        second.add(turn)
    assert second.view() == whole.view() and second.n_bytes == whole.n_bytes
    second.reset()
    assert second.view() == () and second.n_bytes == 0


def test_a_turn_that_is_too_large_takes_nothing_with_it():
    memory = DialogueMemory(max_bytes=10)
    memory.add(DialogueTurn(1, "q", "a"))
    memory.add(DialogueTurn(2, "q" * 11, ""))
    assert memory.view() == (DialogueTurn(1, "q", "a"),)


def test_times_and_bounds_that_make_no_sense_are_refused():
    for time_s in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            DialogueMemory().add(DialogueTurn(time_s, "q", "a"))
    for bounds in ({"max_turns": -1}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match="got max_turns"):
            DialogueMemory(**bounds)


@pytest.mark.medium
@settings(deadline=None)
@given(st.data())
def test_the_turn_that_shares_the_rare_word_is_found(data):
    """However often every turn says the common words, and however old the turn is."""
    common = data.draw(st.lists(st.sampled_from(COMMON), min_size=1, max_size=6, unique=True))
    more = st.lists(st.sampled_from(common), max_size=12)
    rare = data.draw(st.lists(st.sampled_from(RARE), min_size=2, max_size=8, unique=True))
    memory = DialogueMemory()
    for index, word in enumerate(rare):
        answer = " ".join([word, *data.draw(more)])
        memory.add(DialogueTurn(900.0 * index, " ".join(common), answer))
    wanted = data.draw(st.sampled_from(rare))
    question = rows_of(" ".join([*data.draw(more), wanted]))
    (found,) = likeliest(memory.view(), question, rows_of, 1)
    assert wanted in found.answer.split()
    assert max(scored(memory.view(), question, rows_of)) > 0.5


@pytest.mark.medium
@given(st.lists(st.integers(0, 100), min_size=1, max_size=12), st.integers(1, 15))
def test_recency_breaks_ties(times, topk):
    memory = DialogueMemory()
    for index, time_s in enumerate(sorted(times)):
        memory.add(DialogueTurn(float(time_s), "where is the mug", f"{index:0>3}"))
    same = rows_of("where is the mug")
    found = likeliest(memory.view(), same, lambda text: same, topk)
    assert found == memory.view()[-topk:]
    scores = scored(memory.view(), same, lambda text: same)
    assert scores == sorted(scores)
    assert likeliest(memory.view(), same[:0], lambda text: same, topk)[-1] == memory.view()[-1]


def test_recency_breaks_ties_also_where_all_are_too_old_for_it_to_differ():
    memory = DialogueMemory()
    for time_s, answer in ((0.0, "one"), (1.0, "two"), (1e9, "other")):
        memory.add(DialogueTurn(time_s, "mug" if answer != "other" else "hammer", answer))
    rows = {"mug one": rows_of("mug"), "mug two": rows_of("mug"), "hammer other": rows_of("hammer")}
    (found,) = likeliest(memory.view(), rows_of("mug"), rows.__getitem__, 1)
    assert found.answer == "two"


def test_what_is_found_is_in_the_order_of_time_and_all_where_there_are_fewer():
    memory = DialogueMemory()
    assert likeliest((), rows_of("mug"), rows_of, 3) == ()
    for index, word in enumerate(RARE):
        memory.add(DialogueTurn(float(index), f"what is {word}", "there"))
    two = likeliest(memory.view(), rows_of(f"{RARE[5]} {RARE[1]}"), rows_of, 2)
    assert [turn.question for turn in two] == [f"what is {RARE[1]}", f"what is {RARE[5]}"]
    assert likeliest(memory.view(), rows_of("mug"), rows_of, 99) == memory.view()
    assert likeliest(memory.view(), rows_of("mug"), rows_of, 0) == ()


def test_bad_questions_are_refused_with_a_sentence():
    turns, rows = (DialogueTurn(1.0, "mug", ""),), rows_of("mug")
    for wrong in (rows * np.nan, rows[0]):
        with pytest.raises(InputMismatch, match="expected finite numbers"):
            likeliest(turns, wrong, rows_of, 1)
    with pytest.raises(InputMismatch, match="7 numbers wide, expected the 256"):
        likeliest(turns, rows[:, :7], rows_of, 1)


@pytest.mark.medium
def test_asking_for_ever_grows_nothing():
    memory = DialogueMemory(max_turns=8, max_bytes=400)

    def talk(first: int) -> None:
        for index in range(first, first + 150):
            memory.add(DialogueTurn(float(index), f"where is {RARE[index % 8]}", "there"))
            likeliest(memory.view(), rows_of(RARE[index % 8]), rows_of, 3)

    talk(0)
    tracemalloc.start()
    try:
        talk(150)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        talk(300)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 4000
    finally:
        tracemalloc.stop()


@pytest.mark.medium
@settings(deadline=None, max_examples=40)
@given(turns=st.lists(turns_of_talk, max_size=8))
def test_what_was_written_is_read_back(tmp_path_factory, turns):
    folder = tmp_path_factory.mktemp("state")
    for turn in turns:  # opened anew each time
        with DialogueLog(folder) as log:
            assert log.append(turn)
    with DialogueLog(folder) as log:
        log.sync()
        assert turns_in(folder) == tuple(turns)


@pytest.mark.medium
@settings(deadline=None, max_examples=40)
@given(turns=st.lists(turns_of_talk, min_size=1, max_size=20), max_bytes=st.integers(60, 700))
def test_rotation_keeps_the_newest_within_the_bound(tmp_path_factory, turns, max_bytes):
    folder = tmp_path_factory.mktemp("state")
    written = []
    with DialogueLog(folder, max_bytes=max_bytes) as log:
        for turn in turns:
            written += [turn] if log.append(turn) else []
            files = [path for name in (NEWEST, BEFORE) if (path := folder / name).exists()]
            assert sum(path.stat().st_size for path in files) <= max_bytes
            kept = turns_in(folder)
            assert kept == tuple(written[len(written) - len(kept) :])
            assert not written or kept[-1] == written[-1]
    assert {path.name for path in folder.iterdir()} <= {NEWEST, BEFORE}


def test_at_least_half_of_the_bytes_stay_over_a_rotation(tmp_path):
    turn = DialogueTurn(0.0, "q" * 50, "a")
    n_bytes = len(json.dumps({"time_s": 0.0, "question": "q" * 50, "answer": "a"})) + 1
    with DialogueLog(tmp_path, max_bytes=20 * n_bytes) as log:
        for count in range(1, 45):
            assert log.append(turn)
            assert len(turns_in(tmp_path)) >= min(count, 10)


@pytest.mark.medium
@given(cut=st.integers(1, 60), size=st.integers(1, 3))
@settings(deadline=None)
def test_half_a_line_at_the_end_is_cut_off(tmp_path_factory, cut, size):
    folder = tmp_path_factory.mktemp("state")
    turns = [DialogueTurn(float(one), "where?", "é" * one) for one in range(size)]
    with DialogueLog(folder) as log:
        for turn in turns:
            log.append(turn)
    path = folder / NEWEST
    whole = path.read_bytes()
    last = len(whole[:-1].rpartition(b"\n")[2])
    path.write_bytes(whole[: -min(cut, last + 1)])
    new = DialogueTurn(99.0, "new", "line")
    with DialogueLog(folder) as log:
        assert turns_in(folder) == tuple(turns[:-1])
        log.append(new)
        assert turns_in(folder) == (*turns[:-1], new)


def test_half_a_line_longer_than_one_look_back_is_cut_off(tmp_path):
    with DialogueLog(tmp_path) as log:
        log.append(DialogueTurn(1.0, "q", "a"))
    with open(tmp_path / NEWEST, "ab") as file:
        file.write(b"x" * 10_000)
    with DialogueLog(tmp_path) as log:
        assert [turn.time_s for turn in turns_in(tmp_path)] == [1.0]
    (tmp_path / NEWEST).write_bytes(b"x" * 10_000)
    with DialogueLog(tmp_path) as log:
        assert turns_in(tmp_path) == () and (tmp_path / NEWEST).stat().st_size == 0


WRITER = """
import sys
from pathlib import Path
from edgestream.runtime.memory.dialogue_log import DialogueLog
from edgestream.runtime.recent import DialogueTurn
with DialogueLog(Path(sys.argv[1]), max_bytes=8_000_000) as log:
    for index in range(10_000_000):
        log.append(DialogueTurn(float(index), "where is the mug?", "on the table " * 40))
        print(index, flush=True)
"""


@pytest.mark.medium
def test_a_kill_while_appending_loses_at_most_that_line(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        for _ in range(200):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        told = [line for line in writer.stdout.read().split(b"\n")[:-1] if line]
    last = int(told[-1]) if told else 199
    with DialogueLog(tmp_path):
        kept = [turn.time_s for turn in turns_in(tmp_path)]
        assert kept[-1] in (last, last + 1)
        assert kept == [float(index) for index in range(int(kept[-1]) + 1)][-len(kept) :]


def test_a_full_disk_is_one_sentence(tmp_path):
    os.symlink("/dev/full", tmp_path / NEWEST)
    with DialogueLog(tmp_path) as log:
        with pytest.raises(OutputFull, match=r"the disk is full: .*dialogue\.jsonl$") as caught:
            log.append(DialogueTurn(1.0, "q", "a"))
        assert caught.value.hint


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="file"):
        DialogueLog(tmp_path / "file")
    (tmp_path / "other" / NEWEST).mkdir(parents=True)
    with pytest.raises(OutputUnwritable, match="cannot keep the dialogue"):
        DialogueLog(tmp_path / "other")
    with pytest.raises(ValueError, match="max_bytes"):
        DialogueLog(tmp_path, max_bytes=1)
    with DialogueLog(tmp_path) as log, pytest.raises(ValueError):
        log.append(DialogueTurn(float("nan"), "q", "a"))
