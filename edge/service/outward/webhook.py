"""The webhook: each record posted to one address, in order, until the receiver has it.

A record that is not taken holds up those behind it: a receiver sees them in the order in which they
happened. What it will never take (a 4xx, a redirect) is given up and counted.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .... import __version__
from ....runtime.backoff import wait_s
from ....runtime.records import StampedRecord
from .addresses import Target
from .answers import Answer, Verdict
from .disk_queue import DiskQueue
from .notices import Notices
from .peers import PeerStats, body_of, is_for, stats_of
from .posting import Poster, Unreached
from .queue_care import FLUSH_EVERY_S, QueueCare
from .queue_values import Entry
from .signature import DELIVERY_HEADER, SIGNATURE_HEADER, signature_of

if TYPE_CHECKING:
    import ssl

FIRST_WAIT_S = 1.0
CLOSE_WITHIN_S = 3.0
ABORT_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """What a webhook is made of.

    Attributes:
        target: where to.
        types: of records that are posted.
        secret: that signs; None for no signature. Never shown.
        context: of TLS; None for http.
        timeout_s: for one post.
        retry_most_s: the longest pause of our own choice.
        give_up_s: how long one record may be answered with the receiver's own fault.
    """

    target: Target
    types: frozenset[str]
    secret: bytes | None = None
    context: ssl.SSLContext | None = None
    timeout_s: float = 10.0
    retry_most_s: float = 60.0
    give_up_s: float = 86400.0

    def __repr__(self) -> str:
        return f"WebhookRules({self.target.name})"


class Webhook:
    """Posts records from a thread of its own.

    State: the queue; the thread and its connection; counters.

    Args:
        rules: where to and how.
        queue: what waits; closed with the webhook.
        notices: take warnings.
        monotonic: a clock, seconds.
        wall: seconds since 1970, for signatures.
        uniform: a random number in [0, 1), for the jitter of pauses.
    """

    name = "webhook"

    def __init__(
        self,
        rules: WebhookRules,
        queue: DiskQueue,
        notices: Notices,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._rules, self._queue, self._notices = rules, queue, notices
        self._monotonic, self._wall, self._uniform = monotonic, wall, uniform
        self._care = QueueCare(queue, notices, self.name, monotonic)
        self._poster = Poster(rules.target, rules.timeout_s, rules.context)
        self._sent = self._failed = self._retried = 0
        self._is_connected = False
        self._closing = threading.Event()
        self._leave_s = 0.0
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, record: StampedRecord) -> None:
        if is_for(record, self.name, self._rules.types):
            self._queue.put(body_of(record))

    def erase(self, is_one: Callable[[bytes], bool]) -> int:
        """Forget records of the queue; see `Peer`."""
        return self._queue.erase(is_one)

    def stats(self) -> PeerStats:
        return stats_of(
            self._queue.counts(),
            sent=self._sent,
            failed=self._failed,
            retried=self._retried,
            is_connected=self._is_connected,
        )

    def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Post what can be posted in so many seconds; what is left stays on disk.

        Calling it twice is harmless.
        """
        self._leave_s = self._monotonic() + within_s
        self._closing.set()
        self._queue.wake()
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._poster.abort()
            # It may be looking up a name, which nothing ends; it then finds the queue closed.
            self._thread.join(ABORT_WITHIN_S)
        self._queue.close()

    def _run(self) -> None:
        number, is_taken = 0, True
        while not self._closing.is_set() or (is_taken and self._monotonic() < self._leave_s):
            timeout_s = 0.0 if self._closing.is_set() else FLUSH_EVERY_S
            entry = self._queue.next_after(number, timeout_s)
            self._care.step()
            if entry is not None:
                is_taken = self._delivered(entry)
                number = entry.number if is_taken else number
            elif self._closing.is_set():
                break
        self._poster.close()

    def _delivered(self, entry: Entry) -> bool:
        """Try until the record is taken, given up or dropped; False where we leave before."""
        tries, faulty_since_s = 0, None
        while self._queue.is_waiting(entry.number):
            answer = self._answer(entry)
            now_s = self._monotonic()
            if answer is not None:
                faulty_since_s = now_s if faulty_since_s is None else faulty_since_s
                is_given_up = now_s - faulty_since_s >= self._rules.give_up_s
                if answer.verdict is not Verdict.AGAIN or is_given_up:
                    self._settle(entry, answer)
                    return True
            self._retried += 1
            asked_s = 0.0 if answer is None else answer.asked_wait_s(self._now())
            own_s = wait_s(tries, FIRST_WAIT_S, self._rules.retry_most_s, self._uniform())
            tries += 1
            if self._left_during(max(asked_s, own_s)):
                return False
        return True

    def _answer(self, entry: Entry) -> Answer | None:
        """Of one try; None where there was none."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgestream/{__version__}",
            DELIVERY_HEADER: entry.delivery_id,
        }
        if self._rules.secret is not None:
            signature = signature_of(entry.body, self._rules.secret, int(self._wall()))
            headers[SIGNATURE_HEADER] = signature
        where = f"the webhook at {self._rules.target.name}"
        try:
            answer = self._poster.post(entry.body, headers)
        except Unreached as fault:
            self._is_connected = False
            if not self._closing.is_set():
                self._notices.say(
                    "webhook-down", f"{where} takes no records: {fault}; they wait on disk"
                )
            return None
        self._is_connected = True
        if answer.verdict is Verdict.AGAIN:
            status = f"it answers with status {answer.status}"
            self._notices.say("webhook-down", f"{where} takes no records: {status}; they wait")
        return answer

    def _settle(self, entry: Entry, answer: Answer) -> None:
        self._queue.done(entry.number)
        if answer.verdict is Verdict.TAKEN:
            self._sent += 1
            return
        self._failed += 1
        self._notices.say(
            "webhook-refused",
            f"the webhook at {self._rules.target.name} refused a record with status "
            f"{answer.status}; given up since the start: {self._failed}",
        )

    def _left_during(self, pause_s: float) -> bool:
        """Wait, taking care of the queue; True where the webhook is closed meanwhile."""
        until_s = self._monotonic() + pause_s
        while (left_s := until_s - self._monotonic()) > 0:
            if self._closing.wait(min(left_s, FLUSH_EVERY_S)):
                return True
            self._care.step()
        return self._closing.is_set()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), timezone.utc)
