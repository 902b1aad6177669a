"""The queue on disk: a list that survives its process, bounded, and honest about what it lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.edge.service.outward.disk_queue import DiskQueue
from edgestream.edge.service.outward.queue_folder import PLACE_FILE
from edgestream.edge.service.outward.queue_values import QueueBounds
from edgestream.edge.service.outward.segments import line_of, parsed_line
from edgestream.runtime.errors import OutputUnwritable

SMALL = QueueBounds(most_bytes=16_384, most_records=1000, memory_bytes=2048)


def waiting(queue):
    """All that waits, oldest first."""
    entries, number = [], 0
    while (entry := queue.next_after(number)) is not None:
        entries.append(entry)
        number = entry.number
    return entries


def bodies(queue):
    return [entry.body for entry in waiting(queue)]


def body(text):
    return json.dumps({"text": text}).encode()


@pytest.fixture
def queue(tmp_path):
    opened = DiskQueue(tmp_path / "queue", SMALL)
    yield opened
    opened.close()


def killed(queue, place):
    """What the next process finds if this one is killed now."""
    shutil.copytree(queue.folder, place)
    queue.close()
    return place


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 900)),
        st.tuples(st.just("done"), st.integers(0, 5)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0)),
        st.tuples(st.just("kill"), st.just(0)),
        st.tuples(st.just("torn"), st.integers(1, 60)),
    ),
    max_size=60,
)


@pytest.mark.medium
@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.sampled_from([SMALL, QueueBounds(10**6, 10**6), QueueBounds(10**6, 7)]))
def test_a_queue_is_a_list_whatever_happens_to_it(tmp_path_factory, operations, bounds):
    """Against a plain list: what waits is its newest part, and what is missing was counted."""
    folder = tmp_path_factory.mktemp("law")
    queue = DiskQueue(folder / "0", bounds)
    model, ids, put, done_since_save = [], {}, 0, []
    for step, (name, value) in enumerate(operations):
        if name == "put":
            put += 1
            model.append(body(f"{put}:" + "x" * value))
            queue.put(model[-1])
        elif name == "done" and model:
            entries = waiting(queue)[:value]
            if entries:
                queue.done(entries[-1].number)
                done_since_save += model[: len(entries)]
                del model[: len(entries)]
        elif name == "flush":
            queue.flush()
            done_since_save = []
        elif name in ("reopen", "kill", "torn"):
            if name == "reopen":
                queue.close()
                place, done_since_save = queue.folder, []
            else:
                place = killed(queue, folder / str(step + 1))
                newest = max(place.glob("*.queue"), default=place / "000000000001.queue")
                if name == "torn":  # it was killed while it wrote a line of so many bytes
                    with open(newest, "ab") as file:
                        file.write(line_of("f" * 12 + "-1", b"x" * 60)[:value])
            queue = DiskQueue(place, bounds)
            again = bodies(queue)
            came_again = again[: len(again) - len(model)]
            assert again == came_again + model
            assert came_again == done_since_save[len(done_since_save) - len(came_again) :]
            if bounds.most_records > 10**5 and bounds.most_bytes > 10**5:
                assert came_again == done_since_save  # not saved as done: they come again
            model, done_since_save = again, []
        counts, entries = queue.counts(), waiting(queue)
        gone = len(model) - len(entries)
        assert [entry.body for entry in entries] == model[gone:]
        model = model[gone:]
        for entry in entries:  # an id stays with its record, also after a kill
            assert ids.setdefault(entry.delivery_id, entry.body) == entry.body
        assert counts.records == len(entries) <= bounds.most_records
        on_disk = sum(file.stat().st_size for file in queue.folder.glob("*.queue"))
        assert counts.disk_bytes == on_disk <= bounds.most_bytes
        assert counts.fault == "" and counts.damaged == 0
    queue.close()


@given(st.binary(max_size=300).filter(lambda raw: b"\n" not in raw), st.integers(0, 400))
def test_a_line_is_read_as_it_was_written_or_not_at_all(raw, place):
    line = line_of("0123456789ab-7", raw)
    assert parsed_line(line) == ("0123456789ab-7", raw)
    assert parsed_line(line[:-1]) is None
    changed = bytearray(line)
    changed[place % (len(line) - 1)] ^= 1
    assert parsed_line(bytes(changed)) is None


def test_beyond_its_bound_of_records_the_oldest_go_and_are_counted(tmp_path):
    queue = DiskQueue(tmp_path / "q", QueueBounds(10**6, most_records=10))
    for number in range(25):
        queue.put(body(number))
    assert bodies(queue) == [body(number) for number in range(15, 25)]
    assert (queue.counts().records, queue.counts().dropped) == (10, 15)
    queue.close()


def test_beyond_its_bound_of_bytes_the_oldest_go_and_all_is_accounted_for(queue):
    for number in range(2000):
        queue.put(body(f"{number} {'x' * 100}"))
    counts = queue.counts()
    assert counts.records + counts.dropped == 2000 and counts.disk_bytes <= SMALL.most_bytes
    assert counts.disk_bytes > SMALL.most_bytes * 0.8
    assert bodies(queue)[-1] == body(f"1999 {'x' * 100}")
    assert len(list(queue.folder.glob("*.queue"))) <= 20


def test_a_record_that_no_file_has_room_for_is_dropped_and_counted(queue):
    queue.put(body("x" * 2000))
    queue.put(body("small"))
    assert bodies(queue) == [body("small")] and queue.counts().dropped == 1


def test_a_delivery_id_is_never_used_twice(tmp_path):
    seen = set()
    for _ in range(5):
        queue = DiskQueue(tmp_path / "q", SMALL)
        for number in range(10):
            queue.put(body(number))
        entries = waiting(queue)
        new = {entry.delivery_id for entry in entries}
        assert len(new) == 10 and not new & seen
        seen |= new
        queue.done(entries[-1].number)
        queue.close()


def test_records_lost_with_the_end_of_a_file_are_not_taken_for_later_ones(tmp_path):
    """After a power cut the saved place may be ahead of the records."""
    queue = DiskQueue(tmp_path / "q", SMALL)
    for number in range(6):
        queue.put(body(number))
    queue.done(waiting(queue)[4].number)
    queue.close()
    (file,) = (tmp_path / "q").glob("*.queue")
    os.truncate(file, file.read_bytes().index(b"\n") + 1)
    queue = DiskQueue(tmp_path / "q", SMALL)
    assert bodies(queue) == []
    for number in range(10, 14):
        queue.put(body(number))
    place = killed(queue, tmp_path / "killed")
    queue = DiskQueue(place, SMALL)
    assert bodies(queue) == [body(number) for number in range(10, 14)]
    queue.close()


def test_new_records_are_not_taken_for_done_where_the_files_were_lost(tmp_path):
    """A power cut may also leave the saved place alone."""
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / PLACE_FILE).write_text('{"format": 1, "segment": 7, "lines": 3}')
    queue = DiskQueue(tmp_path / "q", SMALL)
    queue.put(body("new"))
    queue = DiskQueue(killed(queue, tmp_path / "killed"), SMALL)
    assert bodies(queue) == [body("new")]
    queue.close()


def test_a_flipped_bit_costs_one_record_and_is_counted(queue):
    for number in range(5):
        queue.put(body(number))
    (file,) = queue.folder.glob("*.queue")
    content = bytearray(file.read_bytes())
    content[content.index(b'"text": 2') + 8] ^= 1
    file.write_bytes(bytes(content))
    assert bodies(queue) == [body(number) for number in (0, 1, 3, 4)]
    assert (queue.counts().records, queue.counts().damaged) == (4, 1)
    queue.close()
    again = DiskQueue(queue.folder, SMALL)
    assert bodies(again) == [body(number) for number in (0, 1, 3, 4)]
    assert (again.counts().records, again.counts().damaged) == (4, 1)
    again.done(waiting(again)[1].number)
    assert bodies(again) == [body(number) for number in (3, 4)]
    again.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"format": 1}', b'{"segment": "x"}'])
def test_a_damaged_place_sends_everything_again(tmp_path, content):
    queue = DiskQueue(tmp_path / "q", SMALL)
    for number in range(4):
        queue.put(body(number))
    queue.done(2)
    queue.close()
    (tmp_path / "q" / PLACE_FILE).write_bytes(content)
    queue = DiskQueue(tmp_path / "q", SMALL)
    assert bodies(queue) == [body(number) for number in range(4)]
    queue.close()


def test_a_folder_serves_one_process_and_a_newer_format_is_refused(tmp_path, queue):
    with pytest.raises(OutputUnwritable, match="in use by another process"):
        DiskQueue(queue.folder, SMALL)
    queue.close()
    (queue.folder / PLACE_FILE).write_text('{"format": 2, "segment": 1, "lines": 0}')
    with pytest.raises(OutputUnwritable, match="of format 2, expected 1"):
        DiskQueue(queue.folder, SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="not a directory"):
        DiskQueue(tmp_path / "file" / "q", SMALL)


def test_what_a_queue_holds_can_be_read_by_its_owner_alone(queue):
    queue.put(body("private"))
    queue.flush()
    files = [queue.folder, *queue.folder.iterdir()]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_a_sender_that_waits_is_woken(queue):
    thread = threading.Timer(0.05, queue.put, [body("now")])
    thread.start()
    assert queue.next_after(0, timeout_s=60).body == body("now")
    thread.join()
    assert queue.next_after(1, timeout_s=0.01) is None


def test_after_close_nothing_is_taken_and_nothing_fails(queue):
    queue.put(body(1))
    queue.close()
    queue.close()
    queue.put(body(2))
    queue.done(1)
    queue.flush()
    assert queue.next_after(0) is None


def test_many_threads_put_and_one_takes(tmp_path):
    queue = DiskQueue(tmp_path / "q", QueueBounds(10**7, 10**6))
    threads = [
        threading.Thread(target=lambda n=n: [queue.put(body(f"{n}:{i}")) for i in range(300)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    taken, number = [], 0
    while len(taken) < 1200:
        entry = queue.next_after(number, timeout_s=30)
        assert entry is not None
        number = entry.number
        taken.append(json.loads(entry.body)["text"])
        queue.done(number)
        if len(taken) % 100 == 0:
            queue.flush()
    for thread in threads:
        thread.join()
    for n in range(4):  # each thread's own order is kept
        assert [text for text in taken if text.startswith(f"{n}:")] == [
            f"{n}:{i}" for i in range(300)
        ]
    assert queue.counts().records == 0
    queue.close()


def open_files():
    return len(os.listdir("/proc/self/fd"))


def holds(folder, word):
    return any(word in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.medium
@given(
    st.lists(st.tuples(st.sampled_from(["door", "hall"]), st.integers(0, 99)), max_size=40),
    st.integers(0, 40),
    st.booleans(),
)
def test_what_is_erased_is_nowhere_and_the_others_stay_in_order(
    tmp_path_factory, records, done, is_reopened
):
    folder = tmp_path_factory.mktemp("queue") / "q"
    queue = DiskQueue(folder, QueueBounds(most_bytes=8192, most_records=1000))
    for camera, number in records:
        queue.put(json.dumps({"camera": camera, "n": number}).encode())
    entries = waiting(queue)[: min(done, len(records))]
    if entries:
        queue.done(entries[-1].number)
    left = [(entry.number, entry.delivery_id, entry.body) for entry in waiting(queue)]
    kept = [one for one in left if b"hall" in one[2]]
    assert queue.erase(lambda record: b"door" in record) == len(left) - len(kept)
    assert [(one.number, one.delivery_id, one.body) for one in waiting(queue)] == kept
    assert queue.counts().records == len(kept) and not holds(folder, b"door")
    if is_reopened:
        queue.close()
        queue = DiskQueue(folder, QueueBounds(most_bytes=8192, most_records=1000))
        assert [(one.delivery_id, one.body) for one in waiting(queue)] == [one[1:] for one in kept]
    queue.put(b'{"camera": "hall", "n": 100}')
    assert bodies(queue)[-1] == b'{"camera": "hall", "n": 100}'
    assert len(bodies(queue)) == len(kept) + 1 == queue.counts().records
    assert queue.counts().damaged == queue.counts().dropped == 0
    queue.close()


def test_what_waits_in_memory_is_erased_too_and_leaves_no_gap(tmp_path):
    queue = DiskQueue(tmp_path / "q", SMALL)
    written, queue._written = queue._written, lambda line, number: False  # the disk takes nothing
    for number, camera in enumerate(["door", "hall", "door", "hall"]):
        queue.put(json.dumps({"camera": camera, "n": number}).encode())
    assert queue.erase(lambda record: b"door" in record) == 2
    queue._written = written
    queue.flush()
    assert [json.loads(one)["n"] for one in bodies(queue)] == [1, 3]
    assert not holds(tmp_path, b"door") and queue.counts().records == 2
    queue.done(waiting(queue)[0].number)
    queue.close()
    again = DiskQueue(tmp_path / "q", SMALL)
    assert [json.loads(one)["n"] for one in bodies(again)] == [3] and not again.counts().damaged
    again.close()


@pytest.mark.medium
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files under /proc")
def test_open_files_and_memory_do_not_grow_with_what_waits(tmp_path):
    queue = DiskQueue(tmp_path / "q", QueueBounds(10**6, 10**6))
    queue.put(body(0))
    queue.next_after(0)
    before = open_files()
    for number in range(20_000):
        queue.put(body(f"{number} {'x' * 60}"))
    assert open_files() <= before + 1
    assert queue.counts().memory_bytes == 0 and len(queue._segments) <= 18
    assert not queue._memory
    queue.close()


WRITER = """
import sys, pathlib
from edgestream.edge.service.outward.disk_queue import DiskQueue
queue = DiskQueue(pathlib.Path(sys.argv[1]))
number = 0
while True:
    queue.put(b'{"n": %d}' % number)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.medium
def test_a_record_that_was_put_survives_kill_9(tmp_path):
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / str(round_))], stdout=subprocess.PIPE
        )
        with process:
            for _ in range(50 + 37 * round_):
                process.stdout.readline()
            process.kill()
            told = process.stdout.read().split()
        queue = DiskQueue(tmp_path / str(round_))
        found = [json.loads(one)["n"] for one in bodies(queue)]
        assert found == list(range(len(found)))
        assert len(found) >= 50 + 37 * round_ + len(told) - 1
        queue.close()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_told_of_and_costs_nothing_while_memory_has_room(small_disk):
    queue = DiskQueue(small_disk / "q", QueueBounds(10**6, 10**6, memory_bytes=50_000))
    queue.put(body("before"))
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"\0" * 4096)
    for number in range(300):
        queue.put(body(f"{number} {'x' * 60}"))
    counts = queue.counts()
    assert counts.records == 301 and counts.dropped == 0 and counts.memory_bytes > 0
    assert counts.fault == "No space left on device"
    wanted = [body("before"), *(body(f"{number} {'x' * 60}") for number in range(300))]
    assert bodies(queue) == wanted
    queue.flush()
    assert queue.counts().fault == "No space left on device"
    ids = [entry.delivery_id for entry in waiting(queue)]
    ballast.unlink()
    queue.flush()
    assert (queue.counts().fault, queue.counts().memory_bytes) == ("", 0)
    assert bodies(queue) == wanted and [entry.delivery_id for entry in waiting(queue)] == ids
    queue.close()
    queue = DiskQueue(small_disk / "q")
    assert bodies(queue) == wanted
    queue.close()


def test_on_a_full_disk_memory_is_bounded_and_the_oldest_go(small_disk):
    queue = DiskQueue(small_disk / "q", QueueBounds(10**6, 10**6, memory_bytes=10_000))
    for number in range(6000):
        queue.put(body(f"{number} {'x' * 60}"))
    counts = queue.counts()
    assert counts.memory_bytes <= 10_000 and counts.records + counts.dropped == 6000
    assert counts.dropped > 0
    found = bodies(queue)
    assert found == [body(f"{n} {'x' * 60}") for n in range(6000 - len(found), 6000)]
    queue.close()
