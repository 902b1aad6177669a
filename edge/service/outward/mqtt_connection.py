"""One connection to a broker, from CONNECT to its end; the next one is another.

paho's client is driven by our own thread (its loop_read, loop_write and loop_misc), so that what is
on its way to the broker is known to one place alone, and an acknowledgement belongs to it.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .mqtt_wake import Wake

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.client import Client

KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
IN_FLIGHT = 20
"""Messages that wait for their acknowledgement: as many as brokers take by default."""
ACCEPTED, TOO_LARGE = 0, 0x95
HEAD_BYTES = 200
"""What a message has besides topic and payload, at most."""
DELIVERY_PROPERTY = "edgestream-delivery"
GOODBYE_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and who we are to it.

    Attributes:
        host, port: of it.
        client_id: ours, the same after a restart.
        status_topic: gets `online`, and `offline` when we are gone.
        username: empty for none.
        password: None for none. Never shown.
        context: of TLS; None for plain text.
        is_v5: version 5 of the protocol, else 3.1.1.
    """

    host: str
    port: int
    client_id: str
    status_topic: str
    username: str = ""
    password: str | None = None
    context: ssl.SSLContext | None = None
    is_v5: bool = True

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Broker({self.name})"


class BrokerDown(Exception):
    """There is no connection; its text is the reason, without user or password."""


class MqttConnection:
    """A connection that is open once it is made. One thread uses it.

    State: paho's client, messages that wait for their acknowledgement, what came meanwhile.

    Args:
        broker: where to.
        wake: ends a wait of `step`.
        listens_to: a topic whose messages `heard` gives; empty for none.

    Raises:
        BrokerDown: it cannot be reached, or does not let us in.
    """

    def __init__(self, broker: Broker, wake: Wake, listens_to: str = "") -> None:
        self._broker, self._wake = broker, wake
        self._reason = ""
        self._is_open = False
        self._most_bytes = 268_435_455
        self._most_in_flight = IN_FLIGHT
        self._waiting: OrderedDict[int, object] = OrderedDict()
        self._acks: dict[int, int] = {}
        self._not_sent = 0
        self.heard: list[bytes] = []
        self._client = _client_of(broker)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        try:
            self._connect()
        except BrokerDown:
            self.close()
            raise
        self.publish(broker.status_topic, b"online", None, retain=True)
        if listens_to:
            self._client.subscribe(listens_to, qos=1)

    @property
    def is_open(self) -> bool:
        """Whether the broker is still there."""
        return self._is_open

    @property
    def reason(self) -> str:
        """Why it is not."""
        return self._reason or "it closed the connection"

    @property
    def has_room(self) -> bool:
        """Whether one more message may be on its way."""
        return self._is_open and len(self._waiting) < self._most_in_flight

    @property
    def in_flight(self) -> int:
        """Messages that wait for their acknowledgement."""
        return len(self._waiting)

    def publish(
        self, topic: str, payload: bytes, token: object, *, retain: bool = False, delivery: str = ""
    ) -> None:
        """Send a message that is to be acknowledged (QoS 1).

        One that is larger than the broker takes would end the connection; it is not sent, and its
        code is TOO_LARGE.

        Args:
            topic: where to.
            payload: the message.
            token: given back by `acked`.
            retain: the broker keeps it for who comes later.
            delivery: the delivery id, which version 5 carries beside the message.
        """
        if len(topic) + len(payload) + HEAD_BYTES > self._most_bytes:
            self._not_sent -= 1
            self._waiting[self._not_sent] = token
            self._acks[self._not_sent] = TOO_LARGE
            return
        properties = _properties(delivery) if self._broker.is_v5 and delivery else None
        info = self._client.publish(topic, payload, 1, retain, properties)
        self._waiting[info.mid] = token

    def acked(self) -> list[tuple[object, int]]:
        """Tokens of acknowledged messages in the order of their sending, with the reason codes."""
        found = []
        while self._waiting and (mid := next(iter(self._waiting))) in self._acks:
            found.append((self._waiting.pop(mid), self._acks.pop(mid)))
        return found

    def step(self, timeout_s: float) -> None:
        """Read and write what can be; wait for it no longer than this, or until woken."""
        peer = self._client.socket()
        if peer is None:
            self._is_open = False
            return
        tls: Any = peer
        if self._broker.context is not None and tls.pending():
            timeout_s = 0.0  # the TLS layer has already read it
        poll = select.poll()
        poll.register(peer, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        self._wake.clear()
        events = ready.get(peer.fileno(), 0)
        try:
            if events & ~select.POLLOUT or timeout_s == 0.0:
                self._client.loop_read()
            if events & select.POLLOUT:
                self._client.loop_write()
            self._client.loop_misc()
        except _not_mqtt() as error:
            self._is_open = False
            self._reason = f"what it sends is no MQTT ({type(error).__name__})"
            peer.close()

    def close(self) -> None:
        """Say goodbye where somebody listens, and let go of the socket."""
        if self._is_open:
            self.publish(self._broker.status_topic, b"offline", None, retain=True)
            self._until(lambda: self._waiting.keys() <= self._acks.keys(), GOODBYE_WITHIN_S)
            with suppress(OSError):  # it has gone first
                self._client.disconnect()
        self._is_open = False
        if (peer := self._client.socket()) is not None:
            with suppress(OSError):
                peer.close()
        # Without them client and connection do not hold each other, and all is freed now.
        self._client.on_connect = self._client.on_disconnect = None
        self._client.on_publish = self._client.on_message = None

    def _connect(self) -> None:
        more: dict[str, Any] = {"clean_start": True} if self._broker.is_v5 else {}
        try:
            self._client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, **more)
        except (OSError, ValueError) as error:
            raise BrokerDown(_reason_of(error)) from error
        self._until(lambda: self._is_open or bool(self._reason), CONNECT_TIMEOUT_S)
        if not self._is_open:
            raise BrokerDown(self._reason or f"no answer within {CONNECT_TIMEOUT_S:g} s")

    def _until(self, is_so: Callable[[], bool], within_s: float) -> None:
        end_s = time.monotonic() + within_s
        while not is_so() and self._client.socket() is not None:
            if (left_s := end_s - time.monotonic()) <= 0:
                return
            self.step(min(left_s, 0.1))

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._reason = f"it refused us: {str(reason).lower()}"
            return
        self._is_open = True
        most = getattr(properties, "ReceiveMaximum", IN_FLIGHT)
        self._most_in_flight = max(1, min(IN_FLIGHT, most))
        self._most_bytes = getattr(properties, "MaximumPacketSize", self._most_bytes)

    def _on_disconnect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, _more: Any
    ) -> None:
        self._is_open = False
        self._reason = self._reason or f"it closed the connection: {str(reason).lower()}"

    def _on_publish(self, _1: Any, _2: Any, mid: int, reason: Any, _3: Any) -> None:
        self._acks[mid] = reason.value if reason.is_failure else ACCEPTED

    def _on_message(self, _1: Any, _2: Any, message: Any) -> None:
        del self.heard[:-1]
        self.heard.append(bytes(message.payload[:64]))


def _client_of(broker: Broker) -> Client:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=broker.client_id,
        clean_session=None if broker.is_v5 else True,
        protocol=paho.MQTTv5 if broker.is_v5 else paho.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.will_set(broker.status_topic, b"offline", qos=1, retain=True)
    if broker.username:
        client.username_pw_set(broker.username, broker.password)
    if broker.context is not None:
        client.tls_set_context(broker.context)
    return client


def _properties(delivery: str) -> Any:
    from paho.mqtt import packettypes, properties

    make: Any = properties.Properties
    made = make(packettypes.PacketTypes.PUBLISH)
    made.UserProperty = (DELIVERY_PROPERTY, delivery)
    made.ContentType = "application/json"
    return made


def _not_mqtt() -> tuple[type[Exception], ...]:
    """What paho 2.1 raises at bytes that it cannot read; 2.2 ends the connection itself."""
    from paho.mqtt import MQTTException

    return MQTTException, ValueError, TypeError, LookupError, AttributeError, struct.error, OSError


def _reason_of(error: Exception) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    return (getattr(error, "strerror", None) or str(error)).lower()
