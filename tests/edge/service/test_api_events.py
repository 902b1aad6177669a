"""HTTP: records as server-sent events, over a WebSocket and as a list; many and slow listeners."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace

import pytest

from edgestream.runtime.records import StampedRecord, warning

from .serving import CLIP, events, in_thread, serving, until

websockets = pytest.importorskip("websockets", reason="the service needs the extra `serve`")


def taken(stream, count):
    found = []
    for kind, fields in stream:
        if kind == "event":
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        if len(found) == count:
            break
    return found


def ask(service, count=1):
    for _ in range(count):
        assert service.chat("What do you see?")[0] == 200


def test_records_come_with_growing_numbers_and_their_type(service):
    stream = events(service, "/v1/events?types=final,partial")
    assert next(stream)[0] == "comment", "it says at once that it listens"
    ask(service, 3)
    found = taken(stream, 3)
    stream.close()
    numbers = [number for number, _, _ in found]
    assert numbers == sorted(set(numbers))
    for _, kind, record in found:
        assert kind == record["type"] and record["schema"] == "edgestream.record/1"
        assert kind in ("final", "partial")


@pytest.mark.parametrize("by", ["header", "query"])
def test_who_comes_back_gets_what_was_missed_and_nothing_twice(service, by):
    ask(service, 4)
    kept = service.get("/v1/records?types=final&limit=1000")["records"]
    last = kept[-3]["id"]
    if by == "header":
        stream = events(service, "/v1/events?types=final", {"Last-Event-ID": str(last)})
    else:
        stream = events(service, f"/v1/events?types=final&after={last}")
    replayed = taken(stream, 2)
    assert [number for number, _, _ in replayed] == [one["id"] for one in kept[-2:]]
    ask(service)
    (fresh,) = taken(stream, 1)
    stream.close()
    assert fresh[0] > replayed[-1][0]


def test_a_number_of_an_earlier_process_replays_all_and_tells_the_gap(service):
    ask(service)
    stream = events(service, "/v1/events?types=final", {"Last-Event-ID": "12"})
    kinds = [next(stream) for _ in range(3)]
    stream.close()
    assert kinds[1] == ("comment", {"text": "missed 1"})
    assert kinds[2][0] == "event"


def test_a_type_that_is_none_is_refused(service):
    for path in ("/v1/events", "/v1/records"):
        status, value = service.json("GET", f"{path}?types=finals")
        assert status == 422 and value["error"]["message"].startswith("query.types")


def test_the_list_is_of_the_newest_and_oldest_first(service):
    ask(service, 2)
    records = service.get("/v1/records?types=final&camera=door&limit=2")["records"]
    assert len(records) == 2 and records[0]["id"] < records[1]["id"]
    # It may have said something more meanwhile.
    kept = service.get("/v1/records?types=final&camera=door&limit=1000")["records"]
    at = kept.index(records[0])
    assert kept[at : at + 2] == records and at >= len(kept) - 4
    assert service.get("/v1/records?camera=nobody")["records"] == []


def test_the_web_socket_tells_the_same_and_takes_questions(service):
    async def talk():
        url = service.url.replace("http", "ws") + "/v1/stream?types=final"
        async with websockets.connect(url) as socket:
            await socket.send(json.dumps({"ask": "Over the socket?", "camera": "door"}))
            while True:
                record = json.loads(await asyncio.wait_for(socket.recv(), 60))
                if record["question"] == "Over the socket?":
                    break
            for wrong in ("{}", "[", '{"ask": "x", "camera": "nobody"}', '{"ask": ""}'):
                await socket.send(wrong)
                while "error" not in (value := json.loads(await socket.recv())):
                    pass
                assert value["error"]["code"] in ("request-invalid", "camera-unknown")
            return record

    record = asyncio.run(talk())
    kept = service.get("/v1/records?types=final&limit=1000")["records"]
    assert record in kept


@pytest.mark.slow
def test_two_hundred_listeners_all_hear_everything(service):
    """Each gets every record, in order, while all the others listen too."""

    async def listen(begun, ready):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /v1/events?types=final HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await writer.drain()
        while b": from" not in await reader.readline():
            pass
        ready.append(1)
        found = []
        while len(found) < 5:
            line = await reader.readline()
            if line.startswith(b"id: "):
                found.append(int(line[4:]))
        writer.close()
        return found

    async def all_listen():
        ready = []
        tasks = [asyncio.create_task(listen(None, ready)) for _ in range(200)]
        while len(ready) < 200:
            await asyncio.sleep(0.01)
        assert service.get("/health")["status"] == "ok"
        for _ in range(5):
            await asyncio.to_thread(ask, service)
        return await asyncio.wait_for(asyncio.gather(*tasks), 120)

    heard = asyncio.run(all_listen())
    assert len(heard) == 200 and len({tuple(one) for one in heard}) == 1
    until(lambda: "edgestream_listeners 0" in service.ask("GET", "/metrics")[2].decode())


@pytest.mark.slow
def test_a_slow_listener_is_bounded_and_told_and_holds_nobody_up():
    """It reads nothing while 20 MB of records are made; then it is told how many it missed."""
    record = StampedRecord(warning("much", "x" * 1000), "door", 1.0, "2026-11-20T10:00:00.000Z")
    count, capacity = 20_000, 16
    with in_thread("--set", f"service.listener_records={capacity}") as (running, port):
        hub = running.hub
        with socket.create_connection(("127.0.0.1", port), 60) as slow:
            slow.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            until(lambda: hub.listeners == 1)
            (listener,) = hub._listeners
            quick = events(SimpleNamespace(port=port))
            assert next(quick)[0] == "comment"
            (reader,) = set(hub._listeners) - {listener}
            first = hub.last + 1
            for number in range(100):
                if number % 10 == 0:  # the quick one has as little room, but it reads
                    until(lambda: reader.n_waiting <= capacity - 10)
                hub.put(record)
            numbers = [number for number, _, _ in taken(quick, 100)]
            assert numbers == list(range(first, first + 100))
            quick.close()
            for _ in range(count - 100):
                hub.put(record)
                assert listener.n_waiting <= capacity
            heard, missed = 0, 0
            for line in slow.makefile("rb"):
                heard += line.startswith(b"id: ")
                missed += int(line.split()[2]) if line.startswith(b": missed ") else 0
                if heard + missed == count:
                    break
            assert missed > count / 2 and heard + missed == count


@pytest.mark.medium
def test_there_are_no_more_listeners_than_may_be():
    with serving(f"door=loop:{CLIP}", "--set", "service.max_listeners=2") as service:
        streams = [events(service) for _ in range(2)]
        for stream in streams:
            next(stream)
        status, value = service.json("GET", "/v1/events")
        assert status == 503 and value["error"]["code"] == "service-full"
        streams.pop().close()

        def has_room():
            stream = None
            status, _, _ = service.ask("GET", "/v1/records")
            assert status == 200
            try:
                stream = events(service)
                return next(stream)[0] == "comment"
            except AssertionError:
                return False
            finally:
                if stream is not None:
                    stream.close()

        until(has_room)
        streams.pop().close()
