"""The program: source → frames → encoder → gate → memory → router → language model → sinks.

`watch` and `speak` are plain generators. The same deliveries give the same output, in threads or
without: deliveries.py writes down, in order, which frame, order, question, clock reading and heard
response each step received, and plays them again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial

from .deliveries import Asked, DeliveryLog, Heard
from .inbox import Inbox
from .mailbox import Mailbox, keep_all, keep_newest_frame, newest_event_all_questions
from .metrics import Metrics
from .orders import Order
from .outlet import Outlet
from .records import Record, camera_state
from .router import QUIET
from .running import Running
from .sources import Source, tells_its_state
from .stages import Session, Stages
from .values import Frame, Moment, Response, Turn

# A question that came after the last frame is looked for this often while another one is answered.
AFTER_END_POLL_S = 0.1


def run(
    source: Source,
    stages: Stages,
    inbox: Inbox,
    records: Outlet,
    *,
    in_threads: bool | None = None,
    left: threading.Event | None = None,
    log: DeliveryLog | None = None,
) -> None:
    """Watch a stream and speak when it matters, until the source ends or the caller leaves.

    Args:
        source: frames, with times that never go back.
        stages: what a frame meets, in order.
        inbox: what the user asks; closed at the end.
        records: what a person or program may see.
        in_threads: None means: as the source is live. A file runs in this thread alone.
        left: set it to leave early; seen within the source's stated bound.
        log: receives every delivery, for a repetition of this very run.

    Raises:
        EdgeStreamError: the first fault of source, stage or sink; all threads are joined by then.
    """
    log = log or DeliveryLog.off()
    heard = Mailbox[Response](keep_all())
    with Running(
        is_live=source.is_live, in_threads=in_threads, left=left, on_drop=stages.metrics.drop
    ) as running:
        records.start(running, is_live=source.is_live, metrics=stages.metrics)
        running.say_last(lambda: _end(source, stages, inbox, records, log, heard))
        frames = running.hand_over(
            frames_until_answered(source, stages, inbox, records, running.cancelled),
            keep_newest_frame(stages.waiting_frames),
        )
        moments = running.hand_over(
            watch(
                log.frames(frames),
                stages,
                log.asked(inbox),
                log.heard(heard),
                log.orders(stages.orders.take),
                records,
            ),
            newest_event_all_questions(stages.waiting_observed),
        )
        cut = log.cuts(lambda moment: running.cancelled() or _gives_way(moment, stages, inbox))
        tell = partial(_tell, records, stages.metrics)
        for response in speak(log.moments(moments), stages.session, cut, tell):
            if response.cause != "standing":  # the answer to a check is for `watch` alone
                records.put(response.record())
            if response.is_final:
                heard.put(response)
                stages.metrics.spoke(response)
                if response.cause == "question":
                    inbox.answered()


def _gives_way(moment: Moment, stages: Stages, inbox: Inbox) -> bool:
    """Whether a check, or a sentence that nobody asked for, should end, because somebody asks."""
    cause = moment.cause if isinstance(moment, Turn) else "event"
    may_cut = cause == "standing" or (cause == "event" and stages.question_cuts_event)
    return may_cut and inbox.is_owed()


def _tell(records: Outlet, metrics: Metrics, record: Record) -> None:
    """Emit what the session itself has to tell; an event that it opens counts as one of a gate."""
    records.put(record)
    if record.type == "opened":
        metrics.opened()


def _end(
    source: Source,
    stages: Stages,
    inbox: Inbox,
    records: Outlet,
    log: DeliveryLog,
    heard: Mailbox[Response],
) -> None:
    """What is done and said when every stage has stopped: nothing about a frame comes after it.

    What was said and ordered after the last frame has no other frame to be carried out at.
    """
    inbox.close()
    orders, said = log.at_the_end(stages.orders.close(), heard.take())
    for _ in stages.obey(orders):
        pass  # the session has stopped
    fired = stages.hear(said)
    ended = camera_state("ended", f"{source.name} has ended")
    drops = stages.metrics.drops(inbox.clock())
    last = [*([ended] if inbox.has_ended else []), *drops, stages.metrics.stats()]
    records.put_last([*fired, *last])


def frames_until_answered(
    source: Source,
    stages: Stages,
    inbox: Inbox,
    records: Outlet,
    cancelled: Callable[[], bool],
) -> Iterator[Frame | None]:
    """The source's frames, then ticks (None) until every question that was asked is answered."""
    if not tells_its_state(source):
        records.put(camera_state("open", f"watching {source.name}"))
    source_frames = frames = source.frames(records.put)
    if not source.is_live:  # what a camera takes to give a frame is its frame rate, not our work
        frames = stages.metrics.timed_items("source", frames)
    try:
        for frame in frames:
            if cancelled():
                return
            yield frame
    finally:
        if isinstance(source_frames, Generator):  # a connection is closed now, also after an error
            source_frames.close()
    inbox.end()
    while not (cancelled() or inbox.close_if_settled()):
        yield None
        inbox.wait_settled(AFTER_END_POLL_S)


def watch(
    frames: Iterable[Frame | None],
    stages: Stages,
    asked: Asked,
    heard: Heard,
    orders: Callable[[], tuple[Order, ...]],
    records: Outlet,
) -> Iterator[Moment]:
    """Frames (or None: nothing new within 100 ms) in, Moments out. Never waits for the speaker."""
    for frame in frames:
        yield from stages.obey(orders())  # what is wanted, and what was said: at a frame boundary
        records.put_all(stages.hear(heard.take()))
        if frame is None:
            now_s = asked.clock()
            decision = stages.idle(now_s)  # phases time out; never a fresh event
            records.put_all(stages.opened(decision))
            yield from stages.turns(decision, asked.due(now_s), now_s)
            yield from stages.let_go(now_s)
            continue
        features = stages.encode(frame)
        decision = stages.decide(features)
        embeds = stages.connect(features, decision)
        records.put_all(stages.opened(decision))
        # Asked before this frame: answered before it.
        yield from stages.turns(QUIET, asked.due(frame.time_s), frame.time_s)
        due = asked.due(frame.time_s, inclusive=True)
        yield from stages.observed(features, embeds, due)  # only `continuous`
        stages.keep(features, embeds, decision)
        yield from stages.let_go(frame.time_s)  # what is older than the user wants kept
        yield from stages.turns(decision, due, frame.time_s)
        yield from stages.checks(decision, frame.time_s)
        stages.govern()
        records.put_all(stages.metrics.due(frame.time_s))


def speak(
    moments: Iterable[Moment],
    session: Session,
    cut: Callable[[Moment], bool],
    tell: Callable[[Record], None],
) -> Iterator[Response]:
    """Moments in, Responses out: partial texts, then exactly one final per Turn."""
    for moment in moments:
        yield from session.take(moment, partial(cut, moment), tell)
