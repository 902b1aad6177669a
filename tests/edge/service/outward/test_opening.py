"""The outward connections as settings say: opened and closed by one call, no secret told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from edgestream.edge.service.outward.opening import USUAL_TYPES, outward_sinks
from edgestream.edge.service.outward.signature import verified
from edgestream.edge.settings import load_settings
from edgestream.edge.settings_tables import properties
from edgestream.runtime.errors import OutputUnwritable, SettingsInvalid
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.records import Record

from .receiver import SECRET, Receiver, stamped, until


def chosen(*sets):
    return load_settings(None, list(sets), {}, {}, folder=Path("nowhere")).settings


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


def test_without_an_address_there_is_no_sink_and_no_folder(tmp_path):
    with outward_sinks(chosen(), tmp_path, {"door": ["cut"]}) as outward:
        assert outward.sinks == () and dict(outward.stats()) == {}
        outward.add_camera("yard", [])
        outward.remove_camera("door")
    assert not list(tmp_path.iterdir())


def test_an_outlet_of_each_camera_sends_to_the_webhook(tmp_path, receiver):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    sets = [f"webhook.url={receiver.url}", f"webhook.secret_file={secret}"]
    with outward_sinks(chosen(*sets), tmp_path / "state", {}) as outward:
        for name in ("door", "yard"):
            outlet = Outlet(outward.sinks, camera=name, clock=lambda: 1.0)
            outlet.put(Record("warning", {"code": "so", "message": "so it is"}))
            outlet.put(Record("partial", {"turn_id": "t1", "text": "so"}))
        until(lambda: outward.stats()["webhook"].sent == 2)
    assert [json.loads(post.body)["camera"] for post in receiver.posts] == ["door", "yard"]
    header = receiver.posts[0].headers["X-EdgeStream-Signature"]
    assert verified(receiver.posts[0].body, header, SECRET, now_s=time.time())
    assert [path.name for path in (tmp_path / "state" / "outward").iterdir()] == ["webhook"]


def test_what_one_service_did_not_send_the_next_one_does(tmp_path, receiver):
    receiver.stop()
    settings = chosen(f"webhook.url={receiver.url}")
    with outward_sinks(settings, tmp_path, {}, tell=lambda record: None) as outward:
        outward.sinks[0].send(stamped("a"))
        with (
            pytest.raises(OutputUnwritable, match="in use by another process"),
            outward_sinks(settings, tmp_path, {}),
        ):
            pass
    receiver.start()
    with outward_sinks(settings, tmp_path, {}) as outward:
        until(lambda: outward.stats()["webhook"].sent == 1)
    assert receiver.texts == ["a"]


def test_a_standing_request_is_told_to_the_sinks_that_it_names(tmp_path, receiver):
    with outward_sinks(chosen(f"webhook.url={receiver.url}"), tmp_path, {}) as outward:
        for text, sinks in (
            ("a", ["mqtt"]),
            ("b", ["webhook"]),
            ("c", []),
            ("d", ["mqtt", "webhook"]),
        ):
            outward.sinks[0].send(stamped(text, sinks=sinks))
        outward.sinks[0].send(stamped("e"))
        until(lambda: outward.stats()["webhook"].sent == 4)
    assert receiver.texts == ["b", "c", "d", "e"]


@pytest.mark.medium
def test_the_usual_types_are_those_that_the_setting_names():
    for table in ("webhook", "mqtt"):
        assert all(name in properties()[f"{table}.types"]["description"] for name in USUAL_TYPES)
    chosen("webhook.types=" + ",".join(USUAL_TYPES))
    for wrong in ("partial", "opened,stats", "opened,", "opened closed"):
        with pytest.raises(SettingsInvalid, match=r"webhook\.types is"):
            chosen(f"webhook.types={wrong}")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["webhook.url=http://192.168.1.9/private"], r"\[webhook\] sends to 192.168.1.9 in plain"),
        (["webhook.url=https://me:private@example.org/"], "has a user in it"),
        (["webhook.url=https://e.org/", "webhook.secret_file=SHORT"], "holds 7 bytes, expected 16"),
        (
            ["webhook.url=https://e.org/", "webhook.secret_file=GONE"],
            "GONE cannot be read: no",
        ),
        (["webhook.url=https://e.org/", "webhook.ca_file=GONE"], "ca_file: .*GONE cannot be used"),
        (["webhook.url=https://e.org/", "webhook.ca_file=SHORT"], "ca_file: .*SHORT cannot be"),
        (["mqtt.host=192.168.1.9"], r"\[mqtt\] sends to 192.168.1.9 in plain text"),
        (
            ["mqtt.host=127.0.0.1", "mqtt.password_file=GONE"],
            "_file: .*GONE cannot be read",
        ),
        (["mqtt.host=127.0.0.1", "mqtt.password_file=LATIN"], "LATIN is no text in UTF-8"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_opened(tmp_path, sets, words):
    if sets[0].startswith("mqtt"):
        pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed: it is in serve")
    (tmp_path / "SHORT").write_text("private")
    (tmp_path / "LATIN").write_bytes("pässword".encode("latin-1"))
    for name in ("SHORT", "GONE", "LATIN"):
        sets = [one.replace(name, str(tmp_path / name)) for one in sets]
    with (
        pytest.raises(SettingsInvalid, match=words) as caught,
        outward_sinks(chosen(*sets), tmp_path / "state", {}),
    ):
        pass
    assert "private" not in f"{caught.value.message} {caught.value.hint}"
    assert not list(tmp_path.glob("state/outward/*/*.queue"))


def test_the_broker_of_the_settings_gets_cameras_and_records(tmp_path):
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed: it is in serve")
    from ....mosquitto import Listener, Mosquitto

    broker = Mosquitto(tmp_path / "broker")
    sets = ["mqtt.host=127.0.0.1", f"mqtt.port={broker.port}", "mqtt.topic=home/cameras"]
    with Listener(broker.port) as listener:
        for _ in range(2):
            listener.messages.clear()
            cameras = {"door": ["motion"], "yard": []}
            with outward_sinks(chosen(*sets), tmp_path / "state", cameras) as outward:
                outward.sinks[0].send(stamped("a", camera="yard"))
                config = "homeassistant/device/home_cameras_door/config"
                until(lambda config=config: listener.payloads(config))
                until(lambda: listener.payloads("home/cameras/yard/final"))
                until(lambda outward=outward: outward.stats()["mqtt"].sent == 1)
            until(lambda: listener.payloads("home/cameras/status")[-1:] == [b"offline"])
    broker.kill()
