"""The webhook against a real receiver: slow, faulty, gone and back, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgestream.edge.service.outward.addresses import checked_target
from edgestream.edge.service.outward.disk_queue import DiskQueue
from edgestream.edge.service.outward.notices import Notices
from edgestream.edge.service.outward.queue_values import QueueBounds
from edgestream.edge.service.outward.signature import verified
from edgestream.edge.service.outward.webhook import Webhook, WebhookRules

from .receiver import SECRET, Receiver, stamped, until

USUAL = frozenset({"opened", "closed", "final", "camera", "warning"})


class Sender:
    """A webhook, its queue's folder, and the warnings that it told."""

    def __init__(self, url, folder, *, bounds=None, **rules):
        self.told = []
        rules = {"secret": SECRET, "timeout_s": 5.0, "retry_most_s": 1.0} | rules
        target = checked_target(url, allow_plain=False)
        self.webhook = Webhook(
            WebhookRules(target, rules.pop("types", USUAL), **rules),
            DiskQueue(folder, bounds),
            Notices(lambda record: self.told.append(dict(record.body))),
            uniform=lambda: 0.0,
        )

    @property
    def codes(self):
        return [one["code"] for one in self.told]

    def send(self, *texts, **fields):
        for text in texts:
            self.webhook.send(stamped(str(text), **fields))

    def stats(self):
        return self.webhook.stats()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def sender_to(tmp_path):
    made = []

    def make(url, folder="queue", **rules):
        made.append(Sender(url, tmp_path / folder, **rules))
        return made[-1]

    yield make
    for one in made:
        one.webhook.close(within_s=0.0)


def test_records_come_in_order_signed_and_over_one_connection(receiver, sender_to):
    sender = sender_to(receiver.url)
    sender.send(*range(50))
    until(lambda: sender.stats().sent == 50)
    assert receiver.texts == [str(number) for number in range(50)]
    assert receiver.connections == 1
    for post in receiver.posts:
        assert post.path == "/hook?token=very-private"
        assert post.headers["Content-Type"] == "application/json"
        assert verified(
            post.body, post.headers["X-EdgeStream-Signature"], SECRET, now_s=time.time()
        )
    assert len({post.delivery_id for post in receiver.posts}) == 50
    stats = sender.stats()
    assert (stats.queued, stats.failed, stats.dropped, stats.retried) == (0, 0, 0, 0)
    assert stats.is_connected and not sender.told


def test_a_receiver_refuses_what_was_changed_or_is_old(receiver, sender_to):
    sender = sender_to(receiver.url)
    sender.send("a")
    until(lambda: receiver.posts)
    (post,) = receiver.posts
    header, now_s = post.headers["X-EdgeStream-Signature"], time.time()
    assert verified(post.body, header, SECRET, now_s=now_s)
    assert not verified(post.body.replace(b'"a"', b'"b"'), header, SECRET, now_s=now_s)
    assert not verified(post.body, header, SECRET, now_s=now_s + 3600)
    assert not verified(post.body, header, b"another secret", now_s=now_s)


def test_without_a_secret_nothing_is_signed(receiver, sender_to):
    sender_to(receiver.url, secret=None).send("a")
    until(lambda: receiver.posts)
    assert "X-EdgeStream-Signature" not in receiver.posts[0].headers


def test_only_the_chosen_types_are_posted(receiver, sender_to):
    sender = sender_to(receiver.url, types=frozenset({"warning"}))
    sender.send("a", "b")
    sender.send("p", type_="partial")
    sender.send("w", type_="warning")
    until(lambda: sender.stats().sent == 1)
    assert receiver.texts == ["w"] and sender.stats().queued == 0


@pytest.mark.medium
def test_what_came_while_the_receiver_was_down_comes_when_it_is_back(receiver, sender_to):
    sender = sender_to(receiver.url)
    sender.send("before")
    until(lambda: sender.stats().sent == 1)
    receiver.stop()
    sender.send(*range(200))
    until(lambda: sender.stats().retried >= 1)
    assert sender.stats().queued == 200 and not sender.stats().is_connected
    receiver.start()
    until(lambda: sender.stats().sent == 201)
    assert receiver.texts == ["before", *map(str, range(200))]
    (told,) = sender.told
    assert told["code"] == "webhook-down" and f"127.0.0.1:{receiver.port}" in told["message"]
    assert "very-private" not in told["message"] and SECRET.decode() not in told["message"]


@pytest.mark.slow
def test_faults_of_the_receiver_cost_nothing(receiver, sender_to):
    faults = iter([500, 503, None, 408, 429, 502])
    receiver.behaviour = lambda post: (next(faults, 200), {})
    sender = sender_to(receiver.url)
    sender.send(*range(20))
    until(lambda: sender.stats().sent == 20)
    assert receiver.taken == [str(number) for number in range(20)]
    assert sender.stats().retried >= 5 and sender.stats().failed == 0
    ids = [post.delivery_id for post in receiver.posts if post.text == "0"]
    assert len(ids) >= 6 and len(set(ids)) == 1


def test_what_will_never_be_taken_is_given_up_and_counted(receiver, sender_to):
    elsewhere = Receiver()
    answers = {
        "bad": (400, {}),
        "redirect": (307, {"Location": elsewhere.url}),
        "moved": (301, {"Location": elsewhere.url}),
        "gone": (410, {}),
    }
    receiver.behaviour = lambda post: answers.get(post.text, (200, {}))
    sender = sender_to(receiver.url)
    sender.send("a", "bad", "redirect", "moved", "gone", "b")
    until(lambda: sender.stats().sent == 2)
    elsewhere.stop()
    assert receiver.texts == ["a", "bad", "redirect", "moved", "gone", "b"]
    assert not elsewhere.posts
    assert (sender.stats().failed, sender.stats().queued) == (4, 0)
    assert sender.codes == ["webhook-refused"] and "status 400" in sender.told[0]["message"]


@pytest.mark.medium
def test_a_record_that_always_makes_it_fail_does_not_hold_up_the_others_for_ever(
    receiver, sender_to
):
    receiver.behaviour = lambda post: (500 if post.text == "poison" else 200, {})
    sender = sender_to(receiver.url, give_up_s=1.0)
    sender.send("a", "poison", "b")
    until(lambda: sender.stats().sent == 2)
    assert receiver.taken == ["a", "poison", "b"] and sender.stats().failed == 1


@pytest.mark.medium
def test_a_pause_that_the_receiver_asks_for_is_kept(receiver, sender_to):
    answers = iter([(429, {"Retry-After": "1"})])
    receiver.behaviour = lambda post: next(answers, (200, {}))
    sender = sender_to(receiver.url, retry_most_s=1.0)
    sender.send("a")
    until(lambda: sender.stats().sent == 1)
    first, second = (post.at_s for post in receiver.posts)
    assert second - first >= 0.99  # of our own choice it would be half a second


@pytest.mark.medium
def test_a_slow_receiver_holds_nobody_up_and_loses_nothing(receiver, sender_to):
    receiver.behaviour = lambda post: (time.sleep(0.05), (200, {}))[1]
    sender = sender_to(receiver.url)
    sender.send(*range(20))
    assert len(receiver.posts) < 20  # a camera that waits for it would see all of them posted
    until(lambda: sender.stats().sent == 20)
    assert receiver.texts == [str(number) for number in range(20)]


def listening(serve):
    """A server of raw bytes: `serve(peer)` has each connection."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def run():
        while not ended.is_set():
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                serve(peer, ended)

    thread = threading.Thread(target=run)
    thread.start()

    def stop():
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()

    return f"http://127.0.0.1:{server.getsockname()[1]}/", stop


def drip(peer, ended):
    """An answer that never ends, a byte at a time."""
    try:
        peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not ended.wait(0.05):
            peer.sendall(b"x")
    except OSError:
        pass


def babble(peer, ended):
    peer.recv(65536)
    peer.sendall(b"\x00\xffSMTP ready\r\n\r\n")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("serve", "words"), [(drip, "no answer within 0.5 s"), (babble, "does not speak HTTP")]
)
def test_a_receiver_that_is_none_costs_time_but_no_record(sender_to, serve, words):
    url, stop = listening(serve)
    sender = sender_to(url, timeout_s=0.5)
    sender.send("a")
    until(lambda: sender.stats().retried >= 2)
    stop()
    assert sender.stats().queued == 1 and sender.stats().sent == 0
    assert sender.codes == ["webhook-down"] and words in sender.told[0]["message"]


@pytest.mark.medium
def test_close_is_bounded_and_what_is_left_is_sent_by_the_next_run(receiver, sender_to):
    url, stop = listening(drip)
    hanging = sender_to(url, folder="hanging", timeout_s=300)
    hanging.send(*range(5))
    time.sleep(0.2)
    started_s = time.monotonic()
    hanging.webhook.close(within_s=0.5)
    hanging.webhook.close(within_s=0.5)
    assert time.monotonic() - started_s < 30
    stop()
    again = sender_to(receiver.url, folder="hanging")
    until(lambda: again.stats().sent == 5)
    assert receiver.texts == ["0", "1", "2", "3", "4"]


def test_close_sends_what_is_left_where_it_can(receiver, sender_to):
    receiver.behaviour = lambda post: (time.sleep(0.01), (200, {}))[1]
    sender = sender_to(receiver.url)
    sender.send(*range(20))
    sender.webhook.close(within_s=60)
    assert receiver.texts == [str(number) for number in range(20)]
    sender.send("after")  # a camera may be a little late
    assert sender.stats().queued == 0


@pytest.mark.medium
def test_beyond_the_bound_the_oldest_go_and_it_is_told(receiver, sender_to):
    receiver.stop()
    sender = sender_to(receiver.url, bounds=QueueBounds(10**6, most_records=10))
    sender.send(*range(100))
    until(lambda: "webhook-records-lost" in sender.codes)
    assert (sender.stats().queued, sender.stats().dropped) == (10, 90)
    receiver.start()
    until(lambda: sender.stats().sent == 10)
    assert receiver.taken[-10:] == [str(number) for number in range(90, 100)]


def test_two_cameras_post_at_once_each_in_its_own_order(receiver, sender_to):
    sender = sender_to(receiver.url)
    cameras = [
        threading.Thread(
            target=lambda name=name: [
                sender.webhook.send(stamped(f"{name}{number}", camera=name))
                for number in range(100)
            ]
        )
        for name in ("door", "yard")
    ]
    for one in cameras:
        one.start()
    for one in cameras:
        one.join()
    until(lambda: sender.stats().sent == 200)
    for name in ("door", "yard"):
        own = [text for text in receiver.texts if text.startswith(name)]
        assert own == [f"{name}{number}" for number in range(100)]


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed here")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    files = ["-keyout", key, "-out", cert, "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *made, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


@pytest.mark.medium
def test_over_tls_only_a_receiver_whose_certificate_is_trusted_gets_records(certificate, sender_to):
    cert, context = certificate
    receiver = Receiver(context=context)
    stranger = sender_to(receiver.url, "stranger", context=ssl.create_default_context())
    stranger.send("a")
    until(lambda: stranger.stats().retried >= 1)
    assert "certificate is not trusted" in stranger.told[0]["message"] and not receiver.posts
    friend = sender_to(receiver.url, "friend", context=ssl.create_default_context(cafile=cert))
    friend.send("a", "b")
    until(lambda: friend.stats().sent == 2)
    receiver.stop()
    assert receiver.texts == ["a", "b"] and receiver.connections >= 1


KILLED = """
import pathlib, sys
from edgestream.edge.service.outward.addresses import checked_target
from edgestream.edge.service.outward.disk_queue import DiskQueue
from edgestream.edge.service.outward.notices import Notices
from edgestream.edge.service.outward.webhook import Webhook, WebhookRules
from edgestream.runtime.records import Record, StampedRecord
url, folder, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
rules = WebhookRules(checked_target(url, allow_plain=False), frozenset({"final"}))
webhook = Webhook(rules, DiskQueue(folder), Notices())
for number in range(count):
    webhook.send(StampedRecord(Record("final", {"text": str(number)}), "door", 1.0, "now"))
print("put", flush=True)
sys.stdin.read()
"""


@pytest.mark.medium
def test_after_kill_9_in_the_middle_every_record_comes_at_least_once(receiver, sender_to, tmp_path):
    receiver.behaviour = lambda post: (time.sleep(0.005), (200, {}))[1]
    command = [sys.executable, "-c", KILLED, receiver.url, str(tmp_path / "queue"), "150"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"put\n"
        until(lambda: len(receiver.posts) >= 20)
        process.kill()
    before = len(receiver.posts)
    assert before < 150
    sender = sender_to(receiver.url)
    until(lambda: sender.stats().queued == 0)
    assert receiver.taken == [str(number) for number in range(150)]
    assert len(receiver.posts) <= 150 + before + 1  # one was on its way


def rss_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_stays_flat_while_the_receiver_is_down(receiver, sender_to):
    receiver.stop()
    sender = sender_to(receiver.url, bounds=QueueBounds(4_000_000, 10**6))
    sender.send(*range(5_000))
    before = rss_bytes()
    for _ in range(10):
        sender.send(*range(5_000))
    assert rss_bytes() - before < 8_000_000  # what was sent meanwhile is 7 MB
    stats = sender.stats()
    assert stats.queued_bytes <= 4_000_000 and stats.dropped + stats.queued == 55_000
    receiver.start()
