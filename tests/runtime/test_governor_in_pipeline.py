"""The governor in the loop: a new load comes at a frame boundary, and runs can be played again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgestream.runtime.deliveries import DeliveryLog, Replay, ReplayedCuts
from edgestream.runtime.governor import LADDER, Governor, GovernorRules
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.pipeline import run, speak, watch
from edgestream.runtime.values import Load

from ..fakes import (
    CollectingSink,
    Late,
    LevelEncoder,
    ListSource,
    ScriptedGate,
    ScriptedSession,
    frame_at,
    stages_of,
)
from .test_pipeline import outlet_of

EAGER = GovernorRules(down_after_s=0.02, up_after_s=0.05, least_frames=2)
BELLS_S = {0.5, 1.0, 2.75}


class SparingEncoder(LevelEncoder):
    """Tells in its one token at which load a frame was seen; a heavier load takes longer."""

    def __init__(self, pause=None):
        super().__init__()
        self.loads, self._load, self._slow = [], Load(), pause

    def carry(self, load):
        self._load = load

    def encode(self, frame):
        self.loads.append((frame.time_s, self._load.level))
        for _ in range(len(LADDER) - self._load.level if self._slow is not None else 0):
            self._slow()
        return super().encode(frame)


class SparingSession(ScriptedSession):
    """Says at which load it speaks."""

    def __init__(self):
        super().__init__()
        self.level = 0

    def take(self, moment, cancelled, tell):
        if isinstance(moment, Load):
            self.level = moment.level
            return
        yield from super().take(moment, cancelled, tell)

    def _response(self, moment, text, is_cut=False):
        return super()._response(moment, f"{text} at level {self.level}", is_cut)


def frames(count):
    return [frame_at(index) for index in range(count)]


def stages_with(encoder, **more):
    return stages_of(
        encoder=encoder,
        carriers=(encoder.carry,),
        session=SparingSession(),
        gate=ScriptedGate(BELLS_S),
        **more,
    )


def test_a_slow_stage_is_spared_from_the_next_frame_on_and_so_is_the_session():
    ticking = iter(range(10**6))
    metrics = Metrics(fps_target=4.0, monotonic=lambda: next(ticking) * 0.05)
    encoder = SparingEncoder()
    governor = Governor(40.0, GovernorRules(down_after_s=1.0, least_frames=2))
    stages = stages_with(encoder, metrics=metrics, governor=governor)
    source, sink = ListSource(frames(40)), CollectingSink()
    run(source, stages, Inbox(source.now_s), outlet_of(sink, source))
    levels = [level for _, level in encoder.loads]
    assert levels[0] == 0 and levels == sorted(levels) and levels[-1] >= 2
    assert all(later - sooner <= 1 for sooner, later in pairwise(levels))
    bells = [body["text"] for body in sink.bodies("final")]
    at = dict(encoder.loads)
    assert bells == [f"about bell at {t:g} s at level {at[t]}" for t in sorted(BELLS_S)]


def assert_same(seed):
    source = ListSource(frames(60), is_live=True, pause=Late(seed, 0.004))
    encoder = SparingEncoder(Late(seed + 1, 0.004))
    stages = stages_with(encoder, governor=Governor(400.0, EAGER))
    sink, log = CollectingSink(), DeliveryLog()
    inbox = Inbox(source.now_s)
    inbox.ask("one", 3.0)
    run(source, stages, inbox, outlet_of(sink, source), log=log)
    changes = [one for kind, given in log.watched if kind == "orders" for one in given]
    assert changes and all(isinstance(one, Load) for one in changes)

    replay, again_sink, again_encoder = Replay(log.watched), CollectingSink(), SparingEncoder()
    again = stages_with(again_encoder)  # without a governor: what it decided was delivered
    records = outlet_of(again_sink, ListSource([]))
    moments = list(watch(replay.frames(), again, replay, replay, replay.orders, records))
    cuts = ReplayedCuts(log)
    said = list(speak(cuts.moments(), again.session, cuts.cut, lambda record: None))
    assert again_encoder.loads == encoder.loads
    assert [one for one in moments if isinstance(one, Load)] == changes
    told = [dict(one.record().body) for one in said]
    assert sink.bodies("partial", "final") == told


@pytest.mark.parametrize("seed", range(5))
def test_threaded_is_plain_under_the_same_deliveries(seed):
    assert_same(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 60))
def test_threaded_is_plain_under_the_same_deliveries_55_times(seed):
    assert_same(seed)
