"""What the user may choose of telling others: a webhook, and a broker of MQTT."""

from __future__ import annotations

from typing import Literal

from .settings_field import Table, setting

# partial and stats never wait in a queue: the next one says it better.
ONE_TYPE = "(opened|closed|final|standing|camera|warning|drop)"


class WebhookSettings(Table):
    """Records posted to one address."""

    url: str = setting(
        "",
        "",
        "Where records are posted, each as JSON. Empty posts none. https, or http on this machine; "
        "more needs webhook.allow_plain.",
        max_length=2000,
    )
    secret_file: str = setting(
        "",
        "",
        "File whose text signs every post, so that the receiver knows who it came from. Empty "
        "signs none, which is right where only this machine can reach the receiver.",
        max_length=1000,
    )
    allow_plain: bool = setting(
        False,
        "",
        "Post over http to another machine as well. Off, because then everyone on the way reads "
        "what the cameras saw.",
    )
    ca_file: str = setting(
        "",
        "",
        "Certificates (PEM) that the receiver's is checked with; empty for those of this system. "
        "For a receiver at home that signs its own.",
        max_length=1000,
    )
    types: str = setting(
        "",
        "",
        "Types of records that are posted; empty: opened, closed, final, standing, camera and "
        "warning. These, because partial texts and counters are old by the time they come.",
        pattern=f"^({ONE_TYPE}(,{ONE_TYPE})*)?$",
        examples=["opened,final,standing"],
    )
    timeout_s: float = setting(
        10.0,
        "s",
        "How long one post may take in all. 10 s, as common senders of webhooks allow; a receiver "
        "that needs longer should answer first and work then.",
        ge=0.1,
        le=300,
    )
    retry_most_s: float = setting(
        60.0,
        "s",
        "The longest pause between two tries, where the receiver does not name one; the first is a "
        "second, each next one twice as long. A minute after it is back, it gets its records.",
        ge=1,
        le=3600,
    )
    give_up_s: float = setting(
        86400.0,
        "s",
        "How long a receiver may answer one record with a fault of its own (5xx) until that "
        "is given up. A day, so that one record it cannot take does not hold up the others for "
        "ever; one that cannot be reached costs none.",
        ge=1,
        le=31_536_000,
    )
    queue_mb: float = setting(
        32.0,
        "MB",
        "Records that wait on the disk, at most, in millions of bytes; beyond it the oldest go. 32 "
        "are some 60 000 records, weeks of a quiet scene.",
        ge=1,
        le=100_000,
    )


class MqttSettings(Table):
    """Records published to a broker, and what Home Assistant shows of them."""

    host: str = setting(
        "",
        "",
        "The broker's name or address. Empty publishes nothing.",
        max_length=253,
    )
    port: int = setting(
        1883,
        "",
        "The broker's port. 1883 is the usual one; with mqtt.tls it is mostly 8883.",
        ge=1,
        le=65535,
    )
    username: str = setting(
        "",
        "",
        "Who we are to the broker; empty where it does not ask.",
        max_length=1000,
    )
    password_file: str = setting(
        "",
        "",
        "File with the password; empty for none. A file, because settings are shown and passwords "
        "are not.",
        max_length=1000,
    )
    tls: bool = setting(
        False,
        "",
        "Talk to the broker over TLS, its certificate checked. Off, because a broker of a home "
        "mostly has none; one on another machine then needs mqtt.allow_plain.",
    )
    ca_file: str = setting(
        "",
        "",
        "Certificates (PEM) that the broker's is checked with; empty for those of this system. "
        "For a broker at home that signs its own.",
        max_length=1000,
    )
    allow_plain: bool = setting(
        False,
        "",
        "Talk to a broker on another machine without TLS as well. Off, because then everyone on "
        "the way reads the password and what the cameras saw.",
    )
    version: Literal["5", "3.1.1"] = setting(
        "5",
        "",
        "Version of the protocol. 5, because only there a broker says what it did not take, and "
        "messages carry their delivery id; 3.1.1 for a broker that knows nothing newer.",
    )
    topic: str = setting(
        "edgestream",
        "",
        "What all topics begin with: edgestream/door/opened. Two services on one broker need two.",
        pattern="^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$",
        max_length=200,
        examples=["edgestream", "home/cameras"],
    )
    types: str = setting(
        "",
        "",
        "Types of records that are published; empty: opened, closed, final, standing, camera and "
        "warning. These, because partial texts and counters are old by the time they come.",
        pattern=f"^({ONE_TYPE}(,{ONE_TYPE})*)?$",
        examples=["opened,final,standing"],
    )
    discovery: bool = setting(
        True,
        "",
        "Tell Home Assistant (2024.11 or newer) of every camera, so that it shows up there without "
        "being set up. On, because it costs a message a camera where nobody listens.",
    )
    discovery_prefix: str = setting(
        "homeassistant",
        "",
        "What the topics of discovery begin with. homeassistant, unless it was changed there.",
        pattern="^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$",
        max_length=200,
        examples=["homeassistant"],
    )
    retry_most_s: float = setting(
        30.0,
        "s",
        "The longest pause between two tries to reach the broker; the first is a second, each next "
        "one twice as long. Half a minute after it is back, it gets its records.",
        ge=1,
        le=3600,
    )
    queue_mb: float = setting(
        32.0,
        "MB",
        "Records that wait on the disk, at most, in millions of bytes; beyond it the oldest go. 32 "
        "are some 60 000 records, weeks of a quiet scene.",
        ge=1,
        le=100_000,
    )
