"""`--state`: what a run remembers is saved while it lasts, and the next one goes on from it."""

from __future__ import annotations

import errno
import gc
import json
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edgestream.edge import state_keeping
from edgestream.edge.cli import main
from edgestream.edge.questions import AskedQuestion
from edgestream.edge.settings_tables import Settings
from edgestream.edge.state_keeping import Remembering, check_state, kept_state
from edgestream.runtime import state_snapshot
from edgestream.runtime.errors import OutputFull, SettingsInvalid, SourceError, StateMismatch
from edgestream.runtime.gate import gate_from_name
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.router import TurnRouter
from edgestream.runtime.source_continued import ContinuedSource
from edgestream.runtime.values import Features, Frame, Motion, Response

OURS, OTHER = "1" * 64, "2" * 64
FPS = 4.0
STILL = Motion(np.zeros((6, 7, 7), np.float32))


def chosen(**tables):
    settings = Settings()
    for table, values in tables.items():
        stage = getattr(settings, table).model_copy(update=values)
        settings = settings.model_copy(update={table: stage})
    return settings


def parts(settings=None, bundle=OURS, budget_bytes=300_000):
    settings = settings or chosen(gate={"kind": "every:3"}, memory={"snapshot_every_s": 60.0})
    gate = gate_from_name(settings.gate.kind)
    return Remembering(KeyFrameMemory(KeyFrameRules(), budget_bytes), gate, settings, bundle)


def features_at(index):
    random = np.random.default_rng(index // 6)
    tokens = random.standard_normal((4, 16)).astype(np.float32)
    summary = tokens[0] / np.linalg.norm(tokens[0])
    return Features(index / FPS, tokens, summary, STILL, False, is_fresh=index % 3 != 1)


def watch(remembering, memory, frames):
    """As the pipeline does it: what was said of a frame is remembered before the next one."""
    for index in frames:
        if index % 25 == 20:
            about_s = (features_at(index - 2).time_s, features_at(index - 1).time_s)
            said = Response(f"t{index}", "question", f"It is {index}.", True, about_s, question="?")
            memory.remember([said])
        features = features_at(index)
        decision = remembering.gate.step(features)
        memory.step(features, features.tokens, decision)


def assert_same_memory(one, other):
    assert one.n_bytes == other.n_bytes and one.frames == other.frames
    first, second = one.snapshot(), other.snapshot()
    assert first.fields == second.fields and first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name], strict=True)


@pytest.mark.medium
@pytest.mark.parametrize("at", [1, 37, 240, 700])
def test_a_run_that_goes_on_keeps_what_one_without_an_end_keeps(tmp_path, at):
    whole, first, second = parts(), parts(), parts()
    watch(whole, whole.memory, range(1000))
    with kept_state(tmp_path, first) as kept, kept.saved_at_the_end():
        assert kept.goes_on_s is None
        watch(first, kept.keeper, range(at))
    with kept_state(tmp_path, second) as kept, kept.saved_at_the_end():
        assert kept.goes_on_s == at / FPS and not kept.notes
        watch(second, kept.keeper, range(at, 1000))
    assert_same_memory(second.memory, whole.memory)
    assert second.gate.snapshot() == whole.gate.snapshot()


def states_in(folder):
    snapshots = [json.loads(p.read_text()) for p in sorted(folder.glob("*/snapshot.json"))]
    return [snapshot["clock_s"] for snapshot in snapshots]


def test_it_is_saved_every_minute_of_the_stream_and_at_the_end(tmp_path):
    run = parts()
    with kept_state(tmp_path, run) as kept:
        with kept.saved_at_the_end():
            for index in range(700):
                watch(run, kept.keeper, [index])
                if index == 300:
                    kept.keeper._is_written(waits=True)
                    assert states_in(tmp_path) == [60.0]
        assert states_in(tmp_path) == [120.0, 699 / FPS]
        kept.keeper.save_last()
        assert states_in(tmp_path) == [120.0, 699 / FPS], "nothing is new, so nothing is saved"
    dialogue = (tmp_path / "dialogue.jsonl").read_text().splitlines()
    assert len(dialogue) == 28 and "It is 20." in dialogue[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SourceError("it broke"), BrokenPipeError])
def test_it_is_saved_however_the_run_ends(tmp_path, error):
    run = parts()
    with (
        kept_state(tmp_path, run) as kept,
        pytest.raises((KeyboardInterrupt, SourceError, BrokenPipeError)),
        kept.saved_at_the_end(),
    ):
        watch(run, kept.keeper, range(10))
        raise error
    assert states_in(tmp_path) == [9 / FPS]


def full(file, arrays):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_state_that_cannot_be_saved_is_a_warning_and_the_run_goes_on(tmp_path, monkeypatch):
    run, told = parts(), []
    with kept_state(tmp_path, run) as kept:
        kept.keeper.tell = told.append
        watch(run, kept.keeper, range(10))
        monkeypatch.setattr(state_snapshot, "write_arrays", full)
        for end in (300, 600):  # one is due in each half; the writer is given the time it needs
            watch(run, kept.keeper, range(end - 290, end))
            kept.keeper._is_written(waits=True)
        monkeypatch.undo()
        kept.keeper.save_last()
    assert {record.body["code"] for record in told} == {"state-not-saved"} and len(told) == 2
    assert "no space is left" in told[0].body["message"]
    assert states_in(tmp_path) == [599 / FPS]


def test_a_last_state_that_cannot_be_saved_is_an_error(tmp_path, monkeypatch):
    run = parts()
    with (
        kept_state(tmp_path, run) as kept,
        pytest.raises(OutputFull) as fault,
        kept.saved_at_the_end(),
    ):
        watch(run, kept.keeper, range(10))
        monkeypatch.setattr(state_snapshot, "write_arrays", full)
    assert fault.value.exit_code == 8


def test_the_fault_that_ended_the_run_is_told_not_that_of_the_disk(tmp_path, monkeypatch):
    run = parts()
    monkeypatch.setattr(state_snapshot, "write_arrays", full)
    with (
        kept_state(tmp_path, run) as kept,
        pytest.raises(SourceError, match="it broke"),
        kept.saved_at_the_end(),
    ):
        watch(run, kept.keeper, range(10))
        raise SourceError("it broke")


def saved(folder, frames=100, **changes):
    run = parts(**changes)
    with kept_state(folder, run) as kept, kept.saved_at_the_end():
        watch(run, kept.keeper, range(frames))
    return run


def test_another_bundle_is_refused(tmp_path):
    saved(tmp_path)
    refused = pytest.raises(StateMismatch, match="of the bundle 1111")
    with refused as fault, kept_state(tmp_path, parts(bundle=OTHER)):
        pass
    assert fault.value.exit_code == 3


def test_a_state_of_another_memory_is_refused(tmp_path):
    run = saved(tmp_path)
    run.memory.snapshot = lambda: state_keeping.MemoryState({"strange": np.zeros(1)}, {})
    with kept_state(tmp_path / "other", run) as kept, kept.saved_at_the_end():
        kept.keeper._is_new = True
    refused = pytest.raises(state_keeping.StateInvalid, match="is not of this memory: KeyError")
    with refused, kept_state(tmp_path / "other", parts()):
        pass


def test_a_damaged_state_is_passed_over_with_a_warning(tmp_path):
    saved(tmp_path, frames=300)
    (tmp_path / "2" / "memory.npz").write_bytes(b"")
    with kept_state(tmp_path, parts()) as kept:
        assert kept.goes_on_s == 60.25
        assert [note.body["code"] for note in kept.notes] == ["state-damaged"]


@pytest.mark.medium
def test_what_was_loaded_does_not_stay_beside_what_was_made_of_it(tmp_path):
    saved(tmp_path, frames=1000)
    run = parts()
    tracemalloc.start()
    with kept_state(tmp_path, run):
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.5 * run.memory.n_bytes


def test_a_question_about_an_earlier_run_is_told_as_such(tmp_path):
    saved(tmp_path)
    known = [AskedQuestion("Who?", 20.0), AskedQuestion("Who?", 25.0), AskedQuestion("Who?")]
    with kept_state(tmp_path, parts()) as kept:
        (told,) = kept.too_early(known)
    assert told.body["code"] == "question-about-earlier-run"
    with kept_state(tmp_path / "new", parts()) as kept:
        assert not kept.too_early(known)


def test_another_gate_starts_anew_and_says_so(tmp_path):
    saved(tmp_path)
    run = parts(chosen(gate={"kind": "change"}))
    with kept_state(tmp_path, run) as kept:
        assert [note.body["code"] for note in kept.notes] == ["gate-started-anew"]
        assert run.memory.frames == 100


@pytest.mark.medium
def test_a_smaller_budget_holds_at_once(tmp_path):
    run = saved(tmp_path, frames=1000)
    assert run.memory.n_bytes > 60_000
    smaller = parts(budget_bytes=60_000)
    with kept_state(tmp_path, smaller):
        assert smaller.memory.n_bytes <= 60_000


def test_names_stay_unique(tmp_path):
    for before in (0, 3):
        run = parts()
        with kept_state(tmp_path, run) as kept, kept.saved_at_the_end():
            assert kept.keeper.turns_before == before
            router = TurnRouter(describes_events=True, turns_before=kept.keeper.turns_before)
            kept.keeper.router = router
            frames = range(4) if before else range(0, 36, 12)
            ids = []
            for index in frames:
                features = features_at(index + 100 * before)
                decision = run.gate.step(features)
                kept.keeper.step(features, features.tokens, decision)
                ids += [turn.turn_id for turn in router.turns(decision, (), features.time_s)]
    assert ids[0] == "t4"


class Three:
    """A source of three frames and a tick."""

    name, is_live, duration_s = "door", False, 0.5
    closed = False

    def now_s(self):
        return 0.5

    def frames(self, tell):
        try:
            for index in range(3):
                yield Frame(index, index / FPS, np.zeros((8, 8, 3), np.uint8))
                yield None
        finally:
            self.closed = True


def test_stream_time_goes_on():
    inner, told = Three(), []
    source = ContinuedSource(inner, 3600.5, "door goes on")
    frames = source.frames(told.append)
    assert next(frames).time_s == 3600.5 and next(frames) is None
    assert next(frames).time_s == 3600.75 and source.now_s() == 3601.0
    assert (source.name, source.is_live, source.duration_s) == ("door", False, 0.5)
    assert [(r.type, dict(r.body)) for r in told] == [
        ("camera", {"state": "rebased", "reason": "door goes on"})
    ]
    frames.close()
    assert inner.closed


@pytest.mark.parametrize(
    ("settings", "has_bundle", "words"),
    [
        (chosen(), False, "got no model"),
        (chosen(memory={"kind": "recent"}), True, "got memory.kind = recent"),
        (chosen(context={"kind": "continuous"}), True, "got context.kind = continuous"),
    ],
)
def test_a_run_that_remembers_nothing_has_no_state(settings, has_bundle, words):
    with pytest.raises(SettingsInvalid, match=words) as fault:
        check_state(settings, has_bundle=has_bundle)
    assert fault.value.hint


def test_the_command_line_says_so_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["run", "test:room", "--state", "kept"]) == 2
    assert "--state keeps what a model remembers" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


RUN = """
import sys
from pathlib import Path
from tests.edge.test_state import chosen, kept_state, parts, watch

settings = chosen(gate={"kind": "every:3"}, memory={"snapshot_every_s": 2.0})
run = parts(settings)
with kept_state(Path(sys.argv[1]), run) as kept, kept.saved_at_the_end():
    first = 0 if kept.goes_on_s is None else round(kept.goes_on_s * 4)
    assert run.memory.frames == first, (run.memory.frames, first)
    print(first, flush=True)
    for index in range(first, 10**9):
        watch(run, kept.keeper, [index])
        if index % 50 == 0:
            print(index, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_that_are_killed_go_on_and_end_as_one_that_was_not(tmp_path):
    place, random = tmp_path / "state", np.random.default_rng(7)
    command = [sys.executable, "-c", RUN, str(place)]
    cwd, went_on = Path(__file__).parents[2], []
    for _ in range(20):
        with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as run:
            went_on.append(int(run.stdout.readline()))
            before, waits = set(place.glob("[0-9]*")), random.random() < 0.5
            for _ in range(random.integers(1, 5)):
                run.stdout.readline()
            while waits and set(place.glob("[0-9]*")) == before:  # a busy disk may take its time
                run.stdout.readline()
            run.send_signal(signal.SIGKILL)
        assert run.returncode == -signal.SIGKILL
    assert went_on == sorted(went_on) and went_on[-1] > 0
    last, whole = parts(), parts()
    with kept_state(place, last) as kept:
        watch(whole, whole.memory, range(round(kept.goes_on_s * FPS)))
        assert not kept.notes
    assert_same_memory(last.memory, whole.memory)
    assert last.gate.snapshot() == whole.gate.snapshot()
