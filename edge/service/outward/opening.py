"""The outward connections as the settings say: one call opens them, leaving the block closes them.

Each gets every camera's records and has a queue of its own below the state folder
(`outward/webhook`, `outward/mqtt`), so that one that is down does not hold up the other.
"""

from __future__ import annotations

import importlib.util
import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....runtime.errors import OutputUnwritable, SettingsInvalid
from .addresses import SMALLEST_SECRET_BYTES, check_plain, checked_target, secret_from
from .disk_queue import DiskQueue
from .mqtt import Mqtt, MqttRules
from .mqtt_connection import Broker
from .mqtt_topics import Topics
from .notices import Notices, Tell, tell_log
from .peers import Peer, PeerStats
from .queue_folder import client_name
from .queue_values import QueueBounds
from .webhook import Webhook, WebhookRules

if TYPE_CHECKING:
    from ...settings_outward import MqttSettings, WebhookSettings
    from ...settings_tables import Settings

USUAL_TYPES = ("opened", "closed", "final", "standing", "camera", "warning")


@dataclass(frozen=True, slots=True)
class Outward:
    """The connections of a service.

    Attributes:
        sinks: for the outlet of every camera, the same for all; never close one of them by itself.
        mqtt: the broker's, which knows the cameras; None without one.
    """

    sinks: tuple[Peer, ...]
    mqtt: Mqtt | None = None

    def stats(self) -> Mapping[str, PeerStats]:
        """The counters of each by its name, `webhook` and `mqtt`."""
        return {sink.name: sink.stats() for sink in self.sinks}

    def forget(self, camera: str) -> None:
        """What waits of a camera is not sent any more, and nothing of it is left on the disk.

        Raises:
            OutputUnwritable: the disk does not let go of it.
        """
        self._erase(lambda record: record["camera"] == camera)

    def forget_before(self, wall: str) -> None:
        """The same of all records before a time of day, as records have it.

        Raises:
            OutputUnwritable: the disk does not let go of them.
        """
        self._erase(lambda record: record["wall"] < wall)

    def _erase(self, is_one: Callable[[Mapping[str, Any]], bool]) -> None:
        for sink in self.sinks:
            try:
                sink.erase(lambda body: is_one(json.loads(body)))
            except OSError as error:
                raise OutputUnwritable(
                    f"the queue of {sink.name} does not let go of records: {error.strerror}",
                    hint="see to the disk of the state folder, then wipe again",
                ) from error

    def add_camera(self, name: str, events: Sequence[str] = ()) -> None:
        """A camera was added, or its gate has got to know these types of events."""
        if self.mqtt is not None:
            self.mqtt.add_camera(name, events)

    def remove_camera(self, name: str) -> None:
        """A camera was removed for good; one that is only lost or paused says so in its records."""
        if self.mqtt is not None:
            self.mqtt.remove_camera(name)


NOBODY = Outward(())
"""Where the settings name none."""


@contextmanager
def outward_sinks(
    settings: Settings,
    state_dir: Path,
    cameras: Mapping[str, Sequence[str]],
    tell: Tell = tell_log,
) -> Iterator[Outward]:
    """The sinks that the settings name, until the block ends.

    At the end each has a few seconds to send what it can; the rest stays on disk, and the next
    service with this state folder sends it.

    Args:
        settings: all of them.
        state_dir: of the service; a folder `outward` is made in it where there is a sink.
        cameras: name → the types of events that its gate knows, of those that are there now.
        tell: takes `warning` records about a peer that is down, refuses or costs records; called
            from the sinks' own threads.

    Raises:
        SettingsInvalid: an address, a file or the package of MQTT is at fault.
        OutputUnwritable: the folder cannot be used, or another service holds it.
    """
    sinks: list[Peer] = []
    mqtt: Mqtt | None = None
    try:
        if settings.webhook.url:
            sinks.append(_webhook(settings.webhook, state_dir, tell))
        if settings.mqtt.host:
            mqtt = _mqtt(settings.mqtt, state_dir, tell)
            sinks.append(mqtt)
        outward = Outward(tuple(sinks), mqtt)
        for name, events in cameras.items():
            outward.add_camera(name, events)
        yield outward
    finally:
        # All at once: a service manager gives the whole process ten seconds.
        with ThreadPoolExecutor(max_workers=max(1, len(sinks))) as closing:
            for sink in sinks:
                closing.submit(sink.close)


def _webhook(chosen: WebhookSettings, state_dir: Path, tell: Tell) -> Webhook:
    target = checked_target(chosen.url, allow_plain=chosen.allow_plain)
    key, file = "webhook.secret_file", chosen.secret_file
    rules = WebhookRules(
        target=target,
        types=_types(chosen.types),
        secret=secret_from(file, key, least_bytes=SMALLEST_SECRET_BYTES) if file else None,
        context=_context(chosen.ca_file, "webhook.ca_file") if target.is_tls else None,
        timeout_s=chosen.timeout_s,
        retry_most_s=chosen.retry_most_s,
        give_up_s=chosen.give_up_s,
    )
    return Webhook(rules, _queue(state_dir, "webhook", chosen.queue_mb), Notices(tell))


def _mqtt(chosen: MqttSettings, state_dir: Path, tell: Tell) -> Mqtt:
    if importlib.util.find_spec("paho") is None:
        raise SettingsInvalid(
            f"mqtt.host is {chosen.host}, and the package paho-mqtt is not installed",
            hint="pip install 'edgestream[serve]'",
        )
    check_plain("mqtt", chosen.host, is_tls=chosen.tls, allow_plain=chosen.allow_plain)
    topics = Topics(chosen.topic)
    broker = Broker(
        host=chosen.host,
        port=chosen.port,
        client_id=client_name(_folder(state_dir, "mqtt")),
        status_topic=topics.status,
        username=chosen.username,
        password=_password(chosen.password_file) if chosen.password_file else None,
        context=_context(chosen.ca_file, "mqtt.ca_file") if chosen.tls else None,
        is_v5=chosen.version == "5",
    )
    prefix = chosen.discovery_prefix if chosen.discovery else None
    rules = MqttRules(broker, topics, _types(chosen.types), prefix, chosen.retry_most_s)
    return Mqtt(rules, _queue(state_dir, "mqtt", chosen.queue_mb), Notices(tell))


def _password(file: str) -> str:
    try:
        return secret_from(file, "mqtt.password_file").decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsInvalid(
            f"mqtt.password_file: {file} is no text in UTF-8", hint="write the password as text"
        ) from None


def _types(chosen: str) -> frozenset[str]:
    return frozenset(chosen.split(",") if chosen else USUAL_TYPES)


def _folder(state_dir: Path, name: str) -> Path:
    return state_dir / "outward" / name


def _queue(state_dir: Path, name: str, most_mb: float) -> DiskQueue:
    return DiskQueue(_folder(state_dir, name), QueueBounds(most_bytes=int(most_mb * 1e6)))


def _context(ca_file: str, key: str) -> ssl.SSLContext:
    """TLS that checks the peer's certificate and name."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise SettingsInvalid(
            f"{key}: {ca_file} cannot be used: {reason}", hint="name a file of PEM certificates"
        ) from error
