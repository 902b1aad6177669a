"""Laws of the loop: threads change nothing but the order of deliveries, faults surface once."""

from __future__ import annotations

import threading

import pytest

from edgestream.runtime.deliveries import DeliveryLog, Replay, ReplayedCuts
from edgestream.runtime.errors import QuestionRefused, SessionMissing
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run, speak, watch
from edgestream.runtime.router import TurnRouter
from edgestream.runtime.stages import NoSession

from ..fakes import (
    CollectingSink,
    Late,
    LevelEncoder,
    ListSource,
    RememberingMemory,
    ScriptedGate,
    ScriptedSession,
    SteppedWall,
    frame_at,
    stages_of,
)

BELLS_S = {0.5, 1.0, 1.25, 2.75, 4.0}


def outlet_of(sink, source, *others, **more):
    return Outlet(
        [sink, *others], camera=source.name, clock=source.now_s, wall=SteppedWall(), **more
    )


def frames(count):
    return [frame_at(index) for index in range(count)]


def threads_left():
    return [one.name for one in threading.enumerate() if one.name.startswith("edgestream")]


def test_a_file_runs_in_one_thread_and_gives_events_turns_and_answers_in_order():
    source, sink = ListSource(frames(8)), CollectingSink()
    stages = stages_of(gate=ScriptedGate({0.5}))
    inbox = Inbox(source.now_s)
    inbox.ask("late?", 99.0)
    inbox.ask("now?", 0.6)

    run(source, stages, inbox, outlet_of(sink, source))

    told = [(one.record.type, one.time_s, one.record.body.get("text")) for one in sink.records]
    assert [line for line in told if line[0] not in ("partial", "camera", "stats")] == [
        ("opened", 0.5, None),
        ("final", 0.5, "about bell at 0.5 s"),
        ("closed", 0.75, None),
        ("final", 0.75, "about now? at 0.6 s"),
        ("final", 1.75, "about late? at 1.75 s"),
    ]
    assert [one["state"] for one in sink.bodies("camera")] == ["open", "ended"]
    assert sink.records[-1].record.type == "stats"
    assert not threads_left()


def test_a_question_at_a_frame_sees_that_frame_and_one_before_it_does_not():
    source, sink = ListSource(frames(4)), CollectingSink()
    memory = RememberingMemory()
    stages = stages_of(memory=memory)
    inbox = Inbox(source.now_s)
    inbox.ask("before", 0.3)
    inbox.ask("at", 0.5)

    run(source, stages, inbox, outlet_of(sink, source))

    # Both are due at the frame of 0.5 s: the first before it is kept, the second after.
    assert memory.kept == [
        ("frame", 0.0),
        ("frame", 0.25),
        ("frame", 0.5),
        ("said", ("about before at 0.3 s", "about at at 0.5 s")),
        ("frame", 0.75),
    ]
    texts = [body["text"] for body in sink.bodies("final")]
    assert texts == ["about before at 0.3 s", "about at at 0.5 s"]


def one_threaded_run(seed, most_s):
    """A live run with random pauses everywhere; what it was given, and what it gave."""
    items = [frame if index % 5 else None for index, frame in enumerate(frames(24))]
    source = ListSource(items, is_live=True, pause=Late(seed, most_s))
    sink = CollectingSink(Late(seed + 1, most_s / 4))
    stages = stages_of(
        encoder=LevelEncoder(Late(seed + 2, most_s)),
        gate=ScriptedGate(BELLS_S),
        session=ScriptedSession(Late(seed + 3, most_s)),
        router=TurnRouter(describes_events=True, passes_frames=seed % 2 == 0),
    )
    inbox = Inbox(source.now_s)
    for text, time_s in (("one", 0.0), ("two", 1.1), ("three", 2.75), ("end", 50.0)):
        inbox.ask(text, time_s)
    log = DeliveryLog()
    run(source, stages, inbox, outlet_of(sink, source), log=log)
    return stages, sink, log


def replayed(log, seed):
    """The same deliveries, without threads: Moments out of watch, Responses out of speak."""
    replay, sink = Replay(log.watched), CollectingSink()
    source = ListSource([])
    stages = stages_of(
        gate=ScriptedGate(BELLS_S),
        router=TurnRouter(describes_events=True, passes_frames=seed % 2 == 0),
    )
    records = outlet_of(sink, source)
    moments = list(watch(replay.frames(), stages, replay, replay, replay.orders, records))
    cuts = ReplayedCuts(log)
    told = []
    said = list(speak(cuts.moments(), stages.session, cuts.cut, told.append))
    list(stages.obey(log.last_orders))
    stages.hear(log.last_heard)
    return stages, sink, moments, said


def assert_same(seed, most_s):
    stages, sink, log = one_threaded_run(seed, most_s)
    again, sink_again, moments, said = replayed(log, seed)
    events = ("opened", "closed")
    assert sink.bodies(*events) == sink_again.bodies(*events)
    assert stages.memory.kept == again.memory.kept
    told = [dict(response.record().body) for response in said]
    assert sink.bodies("partial", "final") == told
    dropped = [moment for moment in moments if _key(moment) not in map(_key, log.spoken)]
    counted = sum(body["count"] for body in sink.bodies("drop") if body["what"] != "frames")
    assert len(dropped) == counted
    times = [record.time_s for record in sink.records]
    assert times == sorted(times)


class AskedInBetween(ScriptedSession):
    """Somebody asks while the first event is being told."""

    def __init__(self, inbox):
        super().__init__()
        self._inbox = inbox

    def take(self, moment, cancelled, tell):
        for response in super().take(moment, cancelled, tell):
            if moment.cause == "event" and not response.is_final and self._inbox is not None:
                self._inbox.ask("and now?")
                self._inbox = None
            yield response


@pytest.mark.parametrize("is_cutting", [True, False])
def test_a_question_ends_a_sentence_that_nobody_asked_for_and_is_answered_itself(is_cutting):
    source, sink = ListSource(frames(6), is_live=True), CollectingSink()
    inbox = Inbox(source.now_s)
    stages = stages_of(
        gate=ScriptedGate({0.5}), session=AskedInBetween(inbox), question_cuts_event=is_cutting
    )
    log = DeliveryLog()
    run(source, stages, inbox, outlet_of(sink, source), in_threads=False, log=log)
    event, answer = sink.bodies("final")
    assert (event["cause"], event["is_cut"]) == ("event", is_cutting)
    assert answer["text"].startswith("about and now?") and not answer["is_cut"]
    assert log.polls == [1 if is_cutting else None, None]
    cuts = ReplayedCuts(log)
    again = list(speak(cuts.moments(), ScriptedSession(), cuts.cut, lambda record: None))
    told = [dict(response.record().body) for response in again]
    assert told == sink.bodies("partial", "final")


def _key(moment):
    return getattr(moment, "turn_id", None) or moment.features.time_s


@pytest.mark.parametrize("seed", range(10))
def test_threaded_is_plain_under_the_same_deliveries(seed):
    assert_same(seed, 0.002)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 210))
def test_threaded_is_plain_under_the_same_deliveries_200_times(seed):
    assert_same(seed, 0.003)


@pytest.mark.medium
def test_threads_that_drop_nothing_give_what_one_thread_gives():
    told = []
    for in_threads in (False, True):
        source, sink = ListSource(frames(40)), CollectingSink()
        stages = stages_of(gate=ScriptedGate({i / 4 for i in range(0, 40, 3)}))
        run(source, stages, Inbox(source.now_s), outlet_of(sink, source), in_threads=in_threads)
        told.append([sink.bodies("opened", "closed"), sink.bodies("partial", "final")])
    assert told[0] == told[1]
    assert len(told[0][0]) == 27


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("broken", ["source", "encoder", "gate", "session", "sink"])
def test_a_fault_surfaces_once_and_leaves_no_thread(broken, is_live, caplog):
    source = ListSource(frames(20), is_live=is_live, fails_at=5 if broken == "source" else None)
    sink, well = CollectingSink(fails_at=4 if broken == "sink" else None), CollectingSink()
    stages = stages_of(
        encoder=LevelEncoder(fails_at=5 if broken == "encoder" else None),
        gate=ScriptedGate({0.5}, fails_at_s=1.5 if broken == "gate" else None),
        session=ScriptedSession(fails_at="t1" if broken == "session" else None),
        waiting_frames=100,
    )
    inbox = Inbox(source.now_s)

    with pytest.raises(RuntimeError, match=f"the {broken} broke") as caught:
        run(source, stages, inbox, outlet_of(sink, source, well))

    assert caught.value.__cause__ is None and "second" not in caplog.text
    assert source.is_closed and not threads_left()
    assert well.records[-1].record.type == "stats"
    if broken == "sink":
        assert sink.attempts == len(sink.records) + 1 == 5
        assert well.records[:4] == sink.records and len(well.records) > 5
    else:
        assert sink.records == well.records
    with pytest.raises(QuestionRefused):
        inbox.ask("anybody?")


@pytest.mark.parametrize("is_live", [False, True])
def test_the_caller_leaves_early_and_a_running_answer_is_cut(is_live):
    left, entered, may_go_on = threading.Event(), threading.Event(), threading.Event()
    source = ListSource([*frames(3), *([None] * 10_000)], is_live=is_live)
    sink = CollectingSink()
    session = ScriptedSession(entered=entered, may_go_on=may_go_on)
    stages = stages_of(gate=ScriptedGate({0.25}), session=session, waiting_frames=100)
    done = threading.Thread(
        target=run,
        args=(source, stages, Inbox(source.now_s), outlet_of(sink, source)),
        kwargs={"left": left},
    )
    done.start()
    assert entered.wait(5)

    left.set()
    may_go_on.set()
    done.join(5)

    assert not done.is_alive() and source.is_closed and not threads_left()
    assert [body["is_cut"] for body in sink.bodies("final")] == [True]


def test_ctrl_c_in_the_speaker_leaves_no_thread():
    class Interrupted(ScriptedSession):
        def take(self, moment, cancelled, tell):
            raise KeyboardInterrupt
            yield

    source, sink = ListSource(frames(50), is_live=True, pause=Late(1, 0.002)), CollectingSink()
    stages = stages_of(gate=ScriptedGate({0.25}), session=Interrupted(), waiting_frames=100)
    with pytest.raises(KeyboardInterrupt):
        run(source, stages, Inbox(source.now_s), outlet_of(sink, source))
    assert source.is_closed and not threads_left()
    assert sink.records[-1].record.type == "stats"


def test_a_question_is_answered_while_the_camera_is_down():
    source = ListSource([frame_at(0), *([None] * 30)], is_live=True, pause=Late(3, 0.01))
    sink, inbox = CollectingSink(), Inbox(lambda: source.now_s())
    asked = threading.Timer(0.05, lambda: inbox.ask("still there?"))
    asked.start()
    run(source, stages_of(), inbox, outlet_of(sink, source))
    asked.join()
    (answer,) = sink.bodies("final")
    assert answer["cause"] == "question" and "still there?" in answer["text"]


@pytest.mark.parametrize("is_live", [False, True])
def test_a_question_asked_while_the_last_one_is_answered_is_answered_too(is_live):
    source, sink = ListSource(frames(2), is_live=is_live), CollectingSink()
    inbox = Inbox(source.now_s)

    class Asking(ScriptedSession):
        def take(self, moment, cancelled, tell):
            if moment.question.text == "first":
                inbox.ask("second", 1000.0)
            yield from super().take(moment, cancelled, tell)

    inbox.ask("first", 500.0)
    run(source, stages_of(session=Asking()), inbox, outlet_of(sink, source))

    texts = [body["text"] for body in sink.bodies("final")]
    assert texts == ["about first at 0.25 s", "about second at 0.25 s"]


def test_without_a_session_a_question_is_refused_and_a_turn_is_an_error():
    inbox = Inbox(lambda: 0.0, refusal="no language model is attached")
    with pytest.raises(QuestionRefused, match="no language model"):
        inbox.ask("hello?")
    source, sink = ListSource(frames(4)), CollectingSink()
    stages = stages_of(gate=ScriptedGate({0.25}), session=NoSession())
    with pytest.raises(SessionMissing, match="Turn reached a run without"):
        run(source, stages, Inbox(source.now_s), outlet_of(sink, source))
