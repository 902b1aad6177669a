"""The MQTT peer: records published to a broker in order, and what stands there of each camera.

Records wait on disk until the broker has acknowledged them (QoS 1). Retained messages do not wait:
of them the newest counts, and all are published anew on every connection.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....runtime.backoff import wait_s
from ....runtime.records import StampedRecord
from .camera_states import CameraStates
from .disk_queue import DiskQueue
from .mqtt_connection import ACCEPTED, TOO_LARGE, Broker, BrokerDown, MqttConnection
from .mqtt_topics import Topics
from .mqtt_wake import Wake
from .notices import Notices
from .peers import PeerStats, body_of, is_for, stats_of
from .queue_care import FLUSH_EVERY_S, QueueCare
from .queue_values import Entry
from .retained import Retained

FIRST_WAIT_S = 1.0
CLOSE_WITHIN_S = 3.0
ABORT_WITHIN_S = 1.0
QUOTA_EXCEEDED = 0x97
"""The one refusal of version 5 that passes by itself."""
HELD_S = 10.0
"""A connection that lasted so long was a good one: the next try comes soon again."""


@dataclass(frozen=True, slots=True)
class MqttRules:
    """What is published where.

    Attributes:
        broker: where to.
        topics: of the service.
        types: of records that are published.
        discovery_prefix: of Home Assistant; None where it is not told.
        retry_most_s: the longest pause between two tries to connect.
    """

    broker: Broker
    topics: Topics
    types: frozenset[str]
    discovery_prefix: str | None = "homeassistant"
    retry_most_s: float = 30.0


class Mqtt:
    """Publishes records and states from a thread of its own.

    State: the queue, the retained messages, the connection of the thread, counters.

    Args:
        rules: where to and how.
        queue: what waits; closed with the peer.
        notices: take warnings.
        monotonic: a clock, seconds.
        uniform: a random number in [0, 1), for the jitter of pauses.
    """

    name = "mqtt"

    def __init__(
        self,
        rules: MqttRules,
        queue: DiskQueue,
        notices: Notices,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._rules, self._queue, self._notices = rules, queue, notices
        self._monotonic, self._uniform = monotonic, uniform
        self._care = QueueCare(queue, notices, self.name, monotonic)
        self._states = CameraStates(rules.topics, rules.discovery_prefix)
        self._states_lock = threading.Lock()
        self._retained = Retained(queue.folder)
        self._wake = Wake()
        self._sent = self._failed = self._retried = self._number = 0
        self._is_connected = False
        self._closing = threading.Event()
        self._leave_s = 0.0
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def send(self, record: StampedRecord) -> None:
        with self._states_lock:
            self._retained.set(self._states.told(record))
        if is_for(record, self.name, self._rules.types):
            self._queue.put(body_of(record))
        self._wake.call()

    def add_camera(self, camera: str, events: Sequence[str]) -> None:
        """A camera is there: announce it, with the types of events that its gate knows."""
        with self._states_lock:
            self._retained.set(self._states.add(camera, events))
        self._wake.call()

    def remove_camera(self, camera: str) -> None:
        """A camera has gone for good: take it away from the broker and Home Assistant."""
        with self._states_lock:
            self._retained.set(self._states.remove(camera))
        self._wake.call()

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
        """Publish what can be published in so many seconds; what is left stays on disk.

        Calling it twice is harmless.
        """
        self._leave_s = self._monotonic() + within_s
        self._closing.set()
        self._wake.call()
        self._thread.join(within_s + ABORT_WITHIN_S)
        # If it is still looking up a name, which nothing ends, it then finds the queue closed.
        self._queue.close()

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._wake.close()

    def _serve(self) -> None:
        tries = 0
        while not self._closing.is_set():
            held_s = self._served()
            tries = 0 if held_s >= HELD_S else tries
            if self._closing.is_set():
                return
            self._retried += 1
            self._pause(wait_s(tries, FIRST_WAIT_S, self._rules.retry_most_s, self._uniform()))
            tries += 1

    def _served(self) -> float:
        """One connection, from its first word to its last; how long it lasted, seconds."""
        prefix = self._rules.discovery_prefix
        try:
            listens_to = "" if prefix is None else f"{prefix}/status"
            connection = MqttConnection(self._rules.broker, self._wake, listens_to)
        except BrokerDown as fault:
            self._tell_down(str(fault))
            return 0.0
        began_s = self._monotonic()
        self._is_connected = True
        self._number = 0  # what was on its way and was not acknowledged is sent again
        self._retained.all_again()
        while connection.is_open and not self._has_left(connection):
            self._publish(connection)
            self._care.step()
            connection.step(FLUSH_EVERY_S)
            if b"online" in connection.heard:  # Home Assistant has started, and knows nothing
                connection.heard.clear()
                self._retained.all_again()
            if not self._settled(connection):
                break
        self._is_connected = False
        if not connection.is_open:
            self._tell_down(connection.reason)
        connection.close()
        self._settled(connection)
        return self._monotonic() - began_s

    def _publish(self, connection: MqttConnection) -> None:
        """Send what there is, states first: they are few, and tell what the records are about."""
        while connection.has_room and (update := self._retained.take()) is not None:
            topic, payload = update
            connection.publish(topic, payload, topic, retain=True)
        while connection.has_room and (entry := self._queue.next_after(self._number)) is not None:
            self._number = entry.number
            record = json.loads(entry.body)
            topic = self._rules.topics.record(record["camera"], record["type"])
            connection.publish(topic, entry.body, entry, delivery=entry.delivery_id)

    def _settled(self, connection: MqttConnection) -> bool:
        """Let go of what the broker has; False where it asks for a pause."""
        for token, code in connection.acked():
            if isinstance(token, Entry):
                if code == QUOTA_EXCEEDED:
                    return False
                self._settle(token, code)
            elif isinstance(token, str):
                self._retained.published(token)
        try:
            self._retained.save()
        except OSError as error:
            self._notices.say(
                "mqtt-topics-not-saved",
                f"the topics on the broker cannot be saved: {error.strerror}; a camera that is "
                "gone at the next start may stay there",
            )
        return True

    def _settle(self, entry: Entry, code: int) -> None:
        self._queue.done(entry.number)
        if code == ACCEPTED:
            self._sent += 1
            return
        self._failed += 1
        why = "is larger than it takes" if code == TOO_LARGE else f"was refused with code {code:#x}"
        self._notices.say(
            "mqtt-refused",
            f"a record for the broker at {self._rules.broker.name} {why}; given up since the "
            f"start: {self._failed}",
        )

    def _has_left(self, connection: MqttConnection) -> bool:
        if not self._closing.is_set():
            return False
        is_done = self._queue.counts().records == 0 and connection.in_flight == 0
        return is_done or self._monotonic() >= self._leave_s

    def _tell_down(self, reason: str) -> None:
        if not self._closing.is_set():
            where = f"the broker at {self._rules.broker.name}"
            self._notices.say("mqtt-down", f"{where} takes no records: {reason}; they wait on disk")

    def _pause(self, pause_s: float) -> None:
        until_s = self._monotonic() + pause_s
        while (left_s := until_s - self._monotonic()) > 0:
            if self._closing.wait(min(left_s, FLUSH_EVERY_S)):
                return
            self._care.step()
