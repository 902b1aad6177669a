"""MQTT against a real broker: killed and back, a service killed and back, two cameras, Home
Assistant that starts again; nothing is lost and nothing stays that should not."""

from __future__ import annotations

import json
import os
import random
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgestream.edge.service.outward.disk_queue import DiskQueue
from edgestream.edge.service.outward.mqtt import Mqtt, MqttRules
from edgestream.edge.service.outward.mqtt_connection import Broker
from edgestream.edge.service.outward.mqtt_topics import Topics
from edgestream.edge.service.outward.notices import Notices
from edgestream.edge.service.outward.queue_values import QueueBounds

from ....mosquitto import DURABLE, Listener, Mosquitto
from .receiver import stamped, until
from .test_webhook import certificate, listening, rss_bytes  # noqa: F401 - a fixture

pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed: it is in the extra serve")

USUAL = frozenset({"opened", "closed", "final", "camera", "warning"})
TOPICS = Topics("edgestream")


class Sender:
    """An MQTT peer, its queue's folder, and the warnings that it told."""

    def __init__(self, port, folder, *, bounds=None, base="edgestream", prefix="ha", **broker):
        self.told = []
        topics = Topics(base)
        given = {"client_id": f"edgestream-{base}", "status_topic": topics.status} | broker
        rules = MqttRules(Broker("127.0.0.1", port, **given), topics, USUAL, prefix, 1.0)
        self.mqtt = Mqtt(
            rules,
            DiskQueue(folder, bounds),
            Notices(lambda record: self.told.append(dict(record.body))),
            uniform=lambda: 0.0,
        )

    @property
    def codes(self):
        return [one["code"] for one in self.told]

    def send(self, *texts, **fields):
        for text in texts:
            self.mqtt.send(stamped(str(text), **fields))

    def tell(self, type_, **fields):
        self.mqtt.send(stamped(type_=type_, **fields))

    def stats(self):
        return self.mqtt.stats()


@pytest.fixture
def broker(tmp_path):
    made = Mosquitto(tmp_path / "broker")
    yield made
    made.kill()


@pytest.fixture
def durable(tmp_path):
    made = Mosquitto(tmp_path / "durable", *DURABLE)
    yield made
    made.kill()


@pytest.fixture
def sender_to(tmp_path):
    made = []

    def make(port, folder="queue", **more):
        made.append(Sender(port, tmp_path / folder, **more))
        return made[-1]

    yield make
    for one in made:
        one.mqtt.close(within_s=0.0)


def texts(payloads):
    return [json.loads(payload)["text"] for payload in payloads]


FINAL = "edgestream/door/final"


@pytest.mark.parametrize("is_v5", [True, False])
def test_records_come_in_order_on_the_topic_of_their_camera_and_type(broker, sender_to, is_v5):
    with Listener(broker.port) as listener:
        sender = sender_to(broker.port, is_v5=is_v5)
        sender.send(*range(100))
        sender.send("p", type_="partial")
        sender.send("w", type_="warning", camera="front door/1")
        topic = TOPICS.record("front door/1", "warning")
        until(lambda: len(listener.payloads(topic)) == 1)
        assert texts(listener.payloads(FINAL)) == [str(number) for number in range(100)]
        assert not listener.payloads("edgestream/door/partial")
        ids = [one.delivery_id for one in listener.messages if one.topic == FINAL]
        assert len(set(ids)) == (100 if is_v5 else 1) and (None in ids) is not is_v5
        assert not any(one.is_retained for one in listener.messages)
        until(lambda: sender.stats().sent == 101)
        stats = sender.stats()
        assert (stats.queued, stats.failed, stats.dropped, stats.retried) == (0, 0, 0, 0)
        assert stats.is_connected and not sender.told


def test_the_service_is_online_until_it_goes_or_dies(broker, sender_to):
    with Listener(broker.port, "edgestream/status") as listener:
        sender = sender_to(broker.port)
        until(lambda: listener.payloads("edgestream/status") == [b"online"])
        sender.mqtt.close()
        until(lambda: listener.payloads("edgestream/status")[-1] == b"offline")
    with Listener(broker.port, "edgestream/status") as late:
        until(lambda: late.messages)
        assert late.messages[0].payload == b"offline" and late.messages[0].is_retained


@pytest.mark.slow
def test_what_came_while_the_broker_was_down_comes_when_it_is_back(durable, sender_to):
    with Listener(durable.port, name="ear") as listener:
        sender = sender_to(durable.port)
        sender.send("before")
        until(lambda: listener.payloads(FINAL))
        durable.kill()
        until(lambda: not sender.stats().is_connected)
        sender.send(*range(2000))
        until(lambda: sender.stats().retried >= 1)
        assert sender.stats().queued == 2000
        durable.start()
        # A durable broker itself gives a message twice where a kill took the answer to it.
        until(lambda: len(dict.fromkeys(listener.payloads(FINAL))) == 2001)
        heard = list(dict.fromkeys(texts(listener.payloads(FINAL))))
        assert heard == ["before", *map(str, range(2000))]
        until(lambda: sender.stats().sent == 2001)
    (told,) = sender.told
    assert told["code"] == "mqtt-down" and f"127.0.0.1:{durable.port}" in told["message"]


@pytest.mark.slow
def test_a_broker_that_goes_while_it_takes_records_loses_none(durable, sender_to):
    with Listener(durable.port, FINAL, name="ear") as listener:
        sender = sender_to(durable.port)
        for round_ in range(3):
            sender.send(*range(round_ * 300, round_ * 300 + 300))
            until(lambda: sender.stats().sent > 50)
            durable.stop()  # a kill would lose what the broker itself has not saved yet
            durable.start()
        until(lambda: sender.stats().queued == 0)
        until(lambda: len({one.payload for one in listener.messages}) == 900)
        heard = list(dict.fromkeys(texts(listener.payloads(FINAL))))
    assert heard == [str(number) for number in range(900)]


KILLED = """
import pathlib, sys
from edgestream.edge.service.outward.disk_queue import DiskQueue
from edgestream.edge.service.outward.mqtt import Mqtt, MqttRules
from edgestream.edge.service.outward.mqtt_connection import Broker
from edgestream.edge.service.outward.mqtt_topics import Topics
from edgestream.edge.service.outward.notices import Notices
from edgestream.runtime.records import Record, StampedRecord
topics = Topics("edgestream")
broker = Broker("127.0.0.1", int(sys.argv[1]), "edgestream-edgestream", topics.status)
mqtt = Mqtt(MqttRules(broker, topics, frozenset({"final"})), DiskQueue(pathlib.Path(sys.argv[2])),
            Notices())
number = 0
while True:
    mqtt.send(StampedRecord(Record("final", {"text": str(number)}), "door", 1.0, "now"))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.medium
def test_after_kill_9_in_the_middle_every_record_comes_at_least_once(broker, sender_to, tmp_path):
    command = [sys.executable, "-c", KILLED, str(broker.port), str(tmp_path / "queue")]
    with Listener(broker.port, "edgestream/#") as listener:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(200):
                process.stdout.readline()
            until(lambda: len(listener.payloads(FINAL)) >= 50)
            process.kill()
            put = 200 + len(process.stdout.read().split())
        until(lambda: listener.payloads("edgestream/status") == [b"online", b"offline"])  # its will
        sender = sender_to(broker.port)
        until(lambda: sender.stats().is_connected and sender.stats().queued == 0)
        until(lambda: len({one.delivery_id for one in listener.messages}) >= put)
        by_id = {one.delivery_id: one for one in listener.messages if one.topic == FINAL}
        heard = texts(one.payload for one in by_id.values())
        assert heard == [str(number) for number in range(len(heard))] and len(heard) >= put - 1


@pytest.mark.slow
def test_close_is_bounded_and_what_is_left_is_published_by_the_next_run(broker, sender_to):
    url, stop = listening(lambda peer, ended: ended.wait())  # it takes a connection and no more
    hanging = sender_to(int(url.rstrip("/").rpartition(":")[2]), folder="hanging")
    hanging.send(*range(5))
    time.sleep(0.1)
    started_s = time.monotonic()
    hanging.mqtt.close(within_s=0.2)
    hanging.mqtt.close(within_s=0.2)
    assert time.monotonic() - started_s < 30
    stop()
    with Listener(broker.port) as listener:
        again = sender_to(broker.port, folder="hanging")
        until(lambda: again.stats().sent == 5)
        until(lambda: texts(listener.payloads(FINAL)) == ["0", "1", "2", "3", "4"])


@pytest.mark.medium
def test_close_publishes_what_is_left_where_it_can(broker, sender_to):
    with Listener(broker.port) as listener:
        sender = sender_to(broker.port)
        until(lambda: sender.stats().is_connected)
        sender.send(*range(500))
        sender.mqtt.close(within_s=60)
        sender.send("late")  # a camera may be a little late
        assert sender.stats().sent == 500
        until(lambda: len(listener.payloads(FINAL)) == 500)


def test_two_cameras_and_their_threads_each_in_order(broker, sender_to):
    with Listener(broker.port) as listener:
        sender = sender_to(broker.port)
        threads = [
            threading.Thread(
                target=lambda name=name: [
                    sender.mqtt.send(stamped(str(number), camera=name)) for number in range(200)
                ]
            )
            for name in ("door", "yard")
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        for name in ("door", "yard"):
            topic = f"edgestream/{name}/final"
            until(lambda topic=topic: len(listener.payloads(topic)) == 200)
            assert texts(listener.payloads(topic)) == [str(number) for number in range(200)]


def test_home_assistant_learns_of_a_camera_and_forgets_it(broker, sender_to):
    config = "ha/device/edgestream_door/config"
    with Listener(broker.port) as listener:
        sender = sender_to(broker.port)
        sender.mqtt.add_camera("door", ["motion", "cut"])
        until(lambda: listener.payloads("edgestream/door/state/event/cut") == [b"OFF"])
        (message,) = listener.payloads(config)
        assert json.loads(message)["device"]["name"] == "door"
        sender.tell("camera", state="open", reason="watching door")
        sender.tell("opened", event="motion")
        until(lambda: listener.payloads("edgestream/door/state/event/motion") == [b"OFF", b"ON"])
        listener.publish("ha/status", b"online")  # Home Assistant has started anew
        until(lambda: len(listener.payloads(config)) == 2)
        motion = "edgestream/door/state/event/motion"
        until(lambda: listener.payloads(motion) == [b"OFF", b"ON", b"ON"])
        until(
            lambda: (
                json.loads(listener.payloads("edgestream/door/state/link")[-1])
                == {"state": "open", "reason": "watching door"}
            )
        )
        sender.mqtt.remove_camera("door")
        until(lambda: listener.payloads(config)[-1] == b"")
        until(lambda: listener.payloads(motion)[-1] == b"")
        sender.tell("camera", state="ended", reason="a late word")
        until(lambda: len(listener.payloads("edgestream/door/camera")) == 2)
    with Listener(broker.port) as late:
        late.publish("the/end", b"", retain=False)
        until(lambda: late.payloads("the/end"))
        assert {one.topic for one in late.messages} == {"edgestream/status", "the/end"}


@pytest.mark.medium
def test_a_new_broker_is_told_everything_that_stands(broker, sender_to):
    sender = sender_to(broker.port)
    sender.mqtt.add_camera("door", ["motion"])
    sender.send("someone is there")
    until(lambda: sender.stats().sent == 1)
    broker.kill()  # it stores nothing
    sender.tell("opened", event="motion")
    broker.start()
    with Listener(broker.port) as listener:
        until(lambda: b"ON" in listener.payloads("edgestream/door/state/event/motion"))
        until(lambda: listener.payloads("edgestream/door/state/said"))
        assert listener.payloads("ha/device/edgestream_door/config")
        assert listener.payloads("edgestream/status") == [b"online"]


def test_a_camera_that_is_gone_at_the_next_start_is_taken_away(broker, sender_to):
    sender = sender_to(broker.port)
    sender.mqtt.add_camera("door", ["motion"])
    sender.mqtt.add_camera("yard", [])
    with Listener(broker.port) as listener:
        config, link = "ha/device/edgestream_yard/config", "edgestream/yard/state/link"
        until(lambda: listener.payloads(config) and listener.payloads(link))
        sender.mqtt.close()
        again = sender_to(broker.port)
        again.mqtt.add_camera("door", ["motion"])
        until(lambda: listener.payloads(config)[-1] == listener.payloads(link)[-1] == b"")
        assert listener.payloads("ha/device/edgestream_door/config")[-1] != b""


def test_without_discovery_home_assistant_is_told_nothing(broker, sender_to):
    with Listener(broker.port) as listener:
        sender = sender_to(broker.port, prefix=None)
        sender.mqtt.add_camera("door", ["motion"])
        until(lambda: listener.payloads("edgestream/door/state/event/motion"))
        assert not [one for one in listener.messages if one.topic.startswith("ha")]


@pytest.fixture
def guarded(tmp_path):
    """A broker that wants a password, and lets nobody write below `closed`."""
    program = Path("/usr/bin/mosquitto_passwd")
    if not program.exists():
        pytest.skip("mosquitto_passwd is not installed here")
    passwords, rights = tmp_path / "passwords", tmp_path / "rights"
    subprocess.run([program, "-b", "-c", passwords, "me", "pässword"], check=True)
    rights.write_text("user me\ntopic readwrite open/#\n")
    lines = ["allow_anonymous false", f"password_file {passwords}", f"acl_file {rights}"]
    made = Mosquitto(tmp_path / "guarded", *lines)
    yield made
    made.kill()


def test_a_password_opens_the_broker_and_is_never_told(guarded, sender_to):
    wrong = sender_to(guarded.port, "wrong", base="open", username="me", password="private")
    wrong.send("a")
    until(lambda: wrong.stats().retried >= 1)
    assert wrong.codes == ["mqtt-down"] and "not authorized" in wrong.told[0]["message"]
    assert "private" not in wrong.told[0]["message"] and "private" not in repr(wrong.mqtt._rules)
    right = sender_to(guarded.port, "right", base="open", username="me", password="pässword")
    right.send("a")
    until(lambda: right.stats().sent == 1)


# paho leaves a socket whose handshake failed to be closed when it is freed, which is at once.
@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.usefixtures("certificate")
def test_over_tls_only_a_broker_whose_certificate_is_trusted_gets_records(tmp_path, sender_to):
    cert = tmp_path / "cert.pem"
    lines = [f"certfile {cert}", f"keyfile {tmp_path / 'key.pem'}"]
    broker = Mosquitto(tmp_path / "tls", *lines)
    stranger = sender_to(broker.port, "stranger", context=ssl.create_default_context())
    stranger.send("a")
    until(lambda: stranger.stats().retried >= 1)
    assert "certificate is not trusted" in stranger.told[0]["message"]
    friend = sender_to(broker.port, "friend", context=ssl.create_default_context(cafile=cert))
    friend.send(*range(200))
    until(lambda: friend.stats().sent == 200)
    assert stranger.stats().sent == 0
    broker.kill()


def test_what_the_broker_refuses_is_counted_and_told(guarded, sender_to):
    sender = sender_to(guarded.port, base="closed", username="me", password="pässword")
    sender.send("a", "b")
    until(lambda: sender.stats().failed == 2)
    assert (sender.stats().sent, sender.stats().queued) == (0, 0)
    assert "refused with code 0x87" in sender.told[0]["message"]


def test_a_record_that_is_too_large_for_the_broker_does_not_hold_up_the_others(tmp_path, sender_to):
    small = Mosquitto(tmp_path / "small", "max_packet_size 2000")
    with Listener(small.port) as listener:
        sender = sender_to(small.port)
        sender.send("a", "x" * 3000, "b")
        until(lambda: sender.stats().sent == 2)
        until(lambda: texts(listener.payloads(FINAL)) == ["a", "b"])
        assert (sender.stats().failed, sender.stats().queued) == (1, 0)
        assert "larger than it takes" in sender.told[0]["message"]
    small.kill()


def noise(seed):
    """Bytes that are no MQTT, for ever."""
    numbers = random.Random(seed)
    while True:
        content = numbers.randbytes(numbers.choice([1, 3, 50]))
        yield bytes(one & 0x7F for one in content)  # short packets


BROKEN = [
    b"\x40\x01\x00",  # an acknowledgement of half a number
    b"\x40\x03\x00\x01\x05",  # with a code that there is not
    b"\x30\x03\x00\x01\xff",  # a topic that is no text
    b"\x30\x02\x00\x09",  # a topic that is longer than its packet
    b"\x90\x03\x00\x01\x00\xff",
    b"\xd0\x01\x00",
    b"\x00\x00",
]


def babbling(packets):
    """A broker that lets everyone in and then sends these bytes."""

    def serve(peer, ended):
        try:
            peer.recv(65536)
            peer.sendall(b"\x20\x03\x00\x00\x00")
            for packet in packets:
                if ended.wait(0.01):
                    return
                peer.sendall(packet)
        except OSError:
            pass

    return serve


@pytest.mark.parametrize("seed", [*range(4), *BROKEN], ids=str)
def test_noise_ends_a_connection_and_nothing_else(sender_to, seed):
    url, stop = listening(babbling(noise(seed) if isinstance(seed, int) else [seed]))
    sender = sender_to(int(url.rstrip("/").rpartition(":")[2]))
    sender.send("a")
    until(lambda: sender.stats().retried >= 1)
    stop()
    assert sender.mqtt._thread.is_alive() and sender.codes == ["mqtt-down"]
    assert sender.stats().queued <= 1


@pytest.mark.medium
def test_beyond_the_bound_the_oldest_go_and_it_is_told(broker, sender_to):
    broker.kill()
    sender = sender_to(broker.port, bounds=QueueBounds(10**6, most_records=10))
    sender.send(*range(100))
    until(lambda: "mqtt-records-lost" in sender.codes)
    assert (sender.stats().queued, sender.stats().dropped) == (10, 90)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_stays_flat_while_the_broker_is_down_and_while_it_catches_up(broker, sender_to):
    broker.kill()
    sender = sender_to(broker.port, bounds=QueueBounds(4_000_000, 10**6))
    sender.mqtt.add_camera("door", ["motion"])
    sender.send(*range(5_000))
    before, files = rss_bytes(), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        sender.send(*range(5_000))
    stats = sender.stats()
    assert stats.queued_bytes <= 4_000_000 and stats.dropped + stats.queued == 55_000
    broker.start()
    until(lambda: sender.stats().queued == 0)
    assert rss_bytes() - before < 8_000_000 and len(os.listdir("/proc/self/fd")) <= files + 2
