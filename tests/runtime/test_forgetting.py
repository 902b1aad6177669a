"""Wiping and retention in the loop: from any thread, at a frame boundary, and played again."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from edgestream.runtime.deliveries import DeliveryLog, Replay
from edgestream.runtime.errors import OutputUnwritable, StreamBusy
from edgestream.runtime.forgetting import Wipe
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.mailbox import Mailbox, newest_event_all_questions
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.pipeline import run, watch
from edgestream.runtime.values import Forget, Question, Turn

from ..fakes import (
    CollectingSink,
    Late,
    ListSource,
    ScriptedGate,
    ScriptedSession,
    frame_at,
    stages_of,
)
from .memory.key_frame_streams import said
from .test_pipeline import outlet_of

BUDGET_BYTES = 300_000


class ForgetfulSession(ScriptedSession):
    """Notes what it is told to forget."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.forgot = []

    def take(self, moment, cancelled, tell):
        if isinstance(moment, Forget):
            self.forgot.append(moment.before_s)
            return
        yield from super().take(moment, cancelled, tell)

    def _response(self, moment, text, is_cut=False):
        response = super()._response(moment, text, is_cut)
        return replace(response, question=moment.question and moment.question.text)


def memory():
    return KeyFrameMemory(KeyFrameRules(clip_len=1), BUDGET_BYTES)


def frames(count):
    return [frame_at(index) for index in range(count)]


def times_of(kept):
    view = kept.view()
    times_s = [frame.time_s for frame in view.key_frames]
    return times_s + [t for t, _ in view.recent.frames] + [turn.time_s for turn in view.dialogue]


@pytest.mark.medium
def test_nothing_older_than_the_retention_is_kept_at_any_frame():
    source, kept, session = ListSource(frames(80)), memory(), ForgetfulSession()
    oldest = []

    class Watched(KeyFrameMemory):
        def forget_before(self, time_s):
            super().forget_before(time_s)
            if time_s > 0:
                oldest.append(min(times_of(self)) - time_s)

    kept = Watched(KeyFrameRules(clip_len=1), BUDGET_BYTES)
    stages = stages_of(memory=kept, session=session, retention_s=5.0)
    inbox = Inbox(source.now_s)
    for time_s in (1.0, 9.0, 17.0):
        inbox.ask("what?", time_s)
    run(source, stages, inbox, outlet_of(CollectingSink(), source))
    assert min(oldest) >= 0 and len(oldest) > 50
    assert [turn.time_s for turn in kept.view().dialogue] == [17.0]
    assert session.forgot == sorted(session.forgot) and len(session.forgot) >= 10
    assert session.forgot[-1] >= 19.75 - 5.0 - 1.0


def test_what_is_old_goes_also_where_no_frame_comes():
    ticks = [None] * 80  # eight seconds of a camera that is paused
    source, kept, session = (
        ListSource([*frames(20), *ticks], is_live=True),
        memory(),
        ForgetfulSession(),
    )
    stages = stages_of(memory=kept, session=session, retention_s=4.0)
    run(source, stages, Inbox(source.now_s), outlet_of(CollectingSink(), source), in_threads=False)
    assert not times_of(kept) and kept.forgotten == 20
    assert session.forgot[-1] > frames(20)[-1].time_s


class WipesInTheMiddle(CollectingSink):
    """Another thread wipes while the run goes on; what memory held just after it."""

    def __init__(self):
        super().__init__()
        self.stages, self.held, self.thread = None, None, None

    def send(self, record):
        super().send(record)
        if record.record.type == "closed" and self.thread is None:
            self.thread = threading.Thread(target=self._wipe)
            self.thread.start()

    def _wipe(self):
        self.stages.wipe()
        self.held = self.stages.memory.frames, self.stages.memory.forgotten


@pytest.mark.medium
def test_another_thread_wipes_at_a_frame_boundary_and_the_run_goes_on():
    # On a busy machine a live run drops frames: one of many events is seen all the same.
    opens = {0.5 * number for number in range(1, 20)}
    source = ListSource(frames(60), is_live=True, pause=Late(1, 0.01))
    sink, session, log = WipesInTheMiddle(), ForgetfulSession(), DeliveryLog()
    stages = sink.stages = stages_of(memory=memory(), session=session, gate=ScriptedGate(opens))
    inbox = Inbox(source.now_s)
    inbox.ask("what?", 0.25)
    inbox.ask("and now?", 14.0)
    run(source, stages, inbox, outlet_of(sink, source), log=log)
    sink.thread.join(10)
    assert not sink.thread.is_alive() and session.forgot == [math.inf]
    frames_then, forgotten_then = sink.held
    assert forgotten_then >= 1 and frames_then - forgotten_then <= 1, "all that was kept went"
    view = stages.memory.view()
    assert [turn.question for turn in view.dialogue if turn.time_s < 10] == []
    assert sum(f.covers for f in view.key_frames) == stages.memory.frames - stages.memory.forgotten

    replay, again = Replay(log.watched), stages_of(memory=memory(), gate=ScriptedGate(opens))
    records = outlet_of(CollectingSink(), ListSource([]))
    moments = list(watch(replay.frames(), again, replay, replay, replay.orders, records))
    list(again.obey(log.last_orders))
    again.hear(log.last_heard)
    assert times_of(again.memory) == times_of(stages.memory)
    assert again.memory.forgotten == stages.memory.forgotten
    assert [one.before_s for one in moments if isinstance(one, Forget)] == [math.inf]


def test_what_was_being_said_about_the_time_before_a_wipe_is_not_remembered():
    stages = stages_of(memory=memory())
    for frame in frames(9):
        features = stages.encode(frame)
        stages.keep(features, stages.connect(features, stages.decide(features)), stages.idle(0.0))
    order = Wipe()
    assert list(stages.obey([order])) == [Forget(math.inf)]
    order.wait(0.0)
    stages.hear([said("It was red.", 1.75), said("It is the end.", 2.0)])
    assert stages.memory.view().dialogue == ()
    stages.hear([said("It is green.", 2.25)])
    assert [turn.answer for turn in stages.memory.view().dialogue] == ["It is green."]


def test_a_wipe_that_no_frame_boundary_comes_for_is_told_and_one_after_the_run_is_done_at_once():
    stages = stages_of(memory=memory())
    with pytest.raises(StreamBusy, match=r"no frame boundary within 0\.01 s"):
        stages.wipe(timeout_s=0.01)
    source = ListSource(frames(4))
    run(source, stages, Inbox(source.now_s), outlet_of(CollectingSink(), source))
    assert stages.memory.forgotten == 0, "it was done before the first frame"
    assert times_of(stages.memory)
    stages.wipe()
    assert not times_of(stages.memory) and stages.memory.forgotten == 4


def test_a_wipe_that_fails_is_told_to_who_wants_it_and_the_stream_goes_on():
    class Full(KeyFrameMemory):
        def wipe(self):
            super().wipe()
            raise OutputUnwritable("something is still there")

    stages = stages_of(memory=Full(KeyFrameRules(), BUDGET_BYTES))
    order = Wipe()
    assert list(stages.obey([order])) == [Forget(math.inf)]
    with pytest.raises(OutputUnwritable, match="still there"):
        order.wait(0.0)


def test_what_is_to_be_forgotten_takes_the_place_of_what_is_less_and_drops_nothing_else():
    dropped = []
    mailbox = Mailbox(newest_event_all_questions(), dropped.append)
    turn = Turn("t1", "question", 1.0, "answer", question=Question("q1", "what?", 1.0))
    for moment in (Forget(1.0), turn, Forget(2.0), Forget(math.inf), Forget(3.0), Forget(4.0)):
        mailbox.put(moment)
    assert mailbox.take() == (turn, Forget(math.inf), Forget(4.0)) and not dropped
