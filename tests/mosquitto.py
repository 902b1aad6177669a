"""A real broker for tests: Mosquitto on a free port of this machine, killed and started at will."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# It saves after every round of its loop, so what it acknowledged a round ago outlives a kill. An
# acknowledgement goes out before the save of its own round: a kill between the two loses that one.
DURABLE = ("persistence true", "autosave_on_changes true", "autosave_interval 1")
PLACES = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto")


def mosquitto_program() -> str:
    """The broker's program; the test is skipped where it is not installed."""
    found = shutil.which("mosquitto") or next((one for one in PLACES if Path(one).exists()), None)
    if found is None:
        pytest.skip("mosquitto is not installed here; scripts/system_packages.sh installs it")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Mosquitto:
    """A broker in a folder of its own.

    Args:
        folder: for its configuration, its log and what it stores.
        lines: of the configuration; everyone may do everything where they do not say otherwise.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        self.program, self.port = mosquitto_program(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        given = [f"listener {self.port} 127.0.0.1", f"persistence_location {folder}/", *lines]
        if not any(line.startswith("allow_anonymous") for line in lines):
            given.append("allow_anonymous true")
        # Else it drops what a listener does not take fast enough, and a test would miss records.
        given += ["max_queued_messages 1000000", "log_dest stderr", "user root", ""]
        self._config.write_text("\n".join(given))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [self.program, "-c", str(self._config)], stdout=log, stderr=log
            )
        end_s = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end_s, "the broker did not start in time"
                time.sleep(0.02)

    def stop(self) -> None:
        """End it in an orderly way: at any moment; what it has acknowledged, it saves."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Heard:
    """One message as a listener got it."""

    topic: str
    payload: bytes
    is_retained: bool
    delivery_id: str | None


@dataclass
class Listener:
    """A client that hears everything, also after the broker was away. Use it in a `with` block.

    With a name, a durable broker keeps for it what comes while it is not there.
    """

    port: int
    topic: str = "#"
    name: str = ""
    messages: list[Heard] = field(default_factory=list)
    is_subscribed: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Listener:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self.name, protocol=paho.MQTTv5
        )
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        self.client.on_connect = lambda client, *_: client.subscribe(self.topic, qos=1)
        self.client.on_subscribe = lambda *_: self.is_subscribed.set()
        self.client.on_disconnect = lambda *_: self.is_subscribed.clear()
        self.client.on_message = self._on_message
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600 if self.name else 0
        self.client.connect("127.0.0.1", self.port, clean_start=not self.name, properties=session)
        self.client.loop_start()
        assert self.is_subscribed.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def payloads(self, topic: str) -> list[bytes]:
        """What was heard on one topic, in order."""
        return [one.payload for one in list(self.messages) if one.topic == topic]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something to everyone."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(30)

    def _on_message(self, _client: object, _data: object, message: object) -> None:
        told = dict(getattr(message.properties, "UserProperty", ()))
        delivery_id = told.get("edgestream-delivery")
        self.messages.append(
            Heard(message.topic, bytes(message.payload), bool(message.retain), delivery_id)
        )
