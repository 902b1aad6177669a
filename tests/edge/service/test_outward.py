"""The service tells others: a webhook and a broker that are down, back, and wiped."""

from __future__ import annotations

import json
import signal
import time

import pytest

from ...mosquitto import DURABLE, Listener, Mosquitto
from .outward.receiver import SECRET, Receiver
from .serving import CLIP, serving, until

pytest.importorskip("paho.mqtt", reason="MQTT needs the extra `serve`")

from edgestream.edge.service.outward.signature import SIGNATURE_HEADER, verified

CAMERA = f"door=loop:{CLIP}"


def words_for(state, receiver, broker, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    return (
        *("--state", str(state), "--set", f"webhook.url={receiver.url}"),
        *("--set", f"webhook.secret_file={secret}", "--set", "webhook.retry_most_s=1.0"),
        *("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}"),
        *("--set", "mqtt.retry_most_s=1.0", "--set", "context.kind=recent"),
    )


def sent(records):
    """What of them goes outward."""
    kinds = {"opened", "closed", "final", "standing", "camera", "warning"}
    return [record for record in records if record["type"] in kinds]


def records_of(service):
    return sent(service.get("/v1/records?limit=1000")["records"])


def without_id(record):
    return {name: value for name, value in record.items() if name != "id"}


def heard_on(listener):
    """Records that the broker passed on, by delivery id, in order."""
    found = {
        one.delivery_id: json.loads(one.payload) for one in listener.messages if one.delivery_id
    }
    return list(found.values())


def posted(receiver):
    found = {post.delivery_id: json.loads(post.body) for post in receiver.posts}
    return list(found.values())


@pytest.mark.slow
def test_both_get_everything_though_they_were_down_and_the_service_was_killed(tmp_path):
    receiver, state = Receiver(), tmp_path / "state"
    broker = Mosquitto(tmp_path / "broker", *DURABLE)
    words = words_for(state, receiver, broker, tmp_path)
    with Listener(broker.port, "edgestream/#", "listener") as listener:
        with serving(CAMERA, *words) as service:
            until(lambda: len(posted(receiver)) >= 3 and len(heard_on(listener)) >= 3)
            receiver.stop()
            broker.kill()
            begun = len(records_of(service))
            until(lambda: len(records_of(service)) >= begun + 8)
            waiting = service.ask("GET", "/metrics")[2].decode()
            assert 'edgestream_outward_connected{peer="webhook"} 0' in waiting
            told = records_of(service)
            service.stop(signal.SIGKILL)
        receiver = Receiver(port=receiver.port)
        broker.start()
        with serving(CAMERA, *words):
            wanted = [without_id(one) for one in told]
            until(lambda: all(one in posted(receiver) for one in wanted[-8:]))
            until(lambda: all(one in heard_on(listener) for one in wanted))
    assert [one for one in heard_on(listener) if one in wanted] == wanted, "in order"
    assert all(
        verified(post.body, post.headers[SIGNATURE_HEADER], SECRET, now_s=time.time())
        for post in receiver.posts
    )
    receiver.stop()
    broker.kill()


@pytest.mark.slow
def test_what_waits_for_others_is_wiped_with_the_camera(tmp_path):
    receiver, state = Receiver(), tmp_path / "state"
    receiver.stop()
    broker = Mosquitto(tmp_path / "broker")
    broker.kill()
    words = words_for(state, receiver, broker, tmp_path)
    with serving(CAMERA, *words) as service:
        until(lambda: len([r for r in records_of(service) if r["type"] == "final"]) >= 3)
        texts = [r["text"].encode() for r in records_of(service) if r["type"] == "final"]
        assert service.json("POST", "/v1/cameras/door/pause")[0] == 200
        time.sleep(1)
        assert any(texts[0] in file.read_bytes() for file in state.rglob("*.queue"))
        assert service.json("DELETE", "/v1/cameras/door/memory")[0] == 204
        files = [file for file in state.rglob("*") if file.is_file()]
        assert [f for f in files for text in texts if text and text in f.read_bytes()] == []
        metrics = service.ask("GET", "/metrics")[2].decode()
    assert 'edgestream_outward_queued{peer="webhook"} 0' in metrics
    assert 'edgestream_outward_queued{peer="mqtt"} 0' in metrics


def test_a_webhook_without_a_place_for_its_queue_is_refused(capsys):
    from edgestream.edge.cli import main

    from .serving import BUNDLE

    command = ["serve", "--bundle", str(BUNDLE), "--port", "0", "--set"]
    assert main([*command, "webhook.url=http://127.0.0.1:9/hook"]) == 2
    assert "--state" in capsys.readouterr().err


def test_a_request_names_only_those_who_are_told(service):
    body = {"text": "Tell me when it gets dark", "sinks": ["pager"]}
    status, value = service.json("POST", "/v1/standing", body)
    assert status in (400, 422) and "pager" in value["error"]["message"]
