"""What the user may choose of the service: where it listens, whom it serves, how much at a time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .settings_field import Table, setting

Address = Annotated[str, Field(min_length=1, max_length=2048)]


class ServiceSettings(Table):
    """`edgestream serve`: cameras, access and bounds."""

    host: str = setting(
        "127.0.0.1",
        "",
        "Address on which the service listens. This machine alone, because whoever reaches it sees "
        "the cameras; any other one needs service.api_key_file.",
        min_length=1,
        max_length=255,
    )
    port: int = setting(
        8600,
        "",
        "Port on which it listens; 0 takes a free one, which is printed. 8600 is used by nothing "
        "that is common.",
        ge=0,
        le=65535,
    )
    cameras: dict[str, Address] = setting(
        {},
        "",
        'Cameras that are watched from the start, by name: {door = "rtsp://10.0.0.5/main"}. Empty, '
        "because they may be named on the command line or added while the service runs.",
        entries="cameras",
    )
    max_cameras: int = setting(
        4,
        "cameras",
        "Cameras at a time, at most; each gets the same share of service.budget_mb. 4 at 4 frames "
        "a second are what two cores can hold with the reference assistant (to be measured).",
        ge=1,
        le=64,
    )
    budget_mb: float = setting(
        256.0,
        "MB",
        "All that every camera together remembers, in millions of bytes: frames, pictures, words "
        "and the caches of the language model. 256 gives each of four what a bundle usually says.",
        gt=0,
        le=1_000_000,
    )
    api_key_file: str = setting(
        "",
        "",
        "File whose first line is the key that every request needs. Empty: no key, which is "
        "possible on this machine alone.",
        max_length=4096,
    )
    tls_cert: str = setting(
        "",
        "",
        "Certificate chain in PEM for https; empty: http. Off, because a certificate is the "
        "owner's to make.",
        max_length=4096,
    )
    tls_key: str = setting(
        "",
        "",
        "Private key in PEM of service.tls_cert. Empty where there is no certificate, or where "
        "its file holds the key too.",
        max_length=4096,
    )
    allow_addresses: list[Address] = setting(
        [],
        "",
        'What a request may add as a camera: ["rtsp://192.168.1.*"]; scheme, host and path are '
        "compared one by one. Empty, because else whoever may ask could have any file or host of "
        "the network opened; browser: is always allowed.",
        max_length=256,
    )
    max_body_mb: float = setting(
        16.0,
        "MB",
        "Size of a request or of one message, at most, in millions of bytes. 16 hold a few "
        "pictures of a phone, in base64.",
        gt=0,
        le=1024,
    )
    max_image_mpx: float = setting(
        40.0,
        "Mpx",
        "Pixels of a picture that is sent along, at most, in millions; looked up before it is "
        "decoded. 40 is a large photograph, 120 MB when decoded.",
        gt=0,
        le=1000,
    )
    images_waiting: int = setting(
        4,
        "requests",
        "Requests about pictures that may wait for the one that is being answered; beyond it they "
        "are refused with 429. 4 wait some seconds at most.",
        ge=0,
        le=1024,
    )
    arrive_within_s: float = setting(
        20.0,
        "s",
        "How long the head of a request, and then its body, may take to arrive. 20 s is 16 MB "
        "over a slow link; a client that sends a byte now and then holds nothing open for longer.",
        gt=0,
        le=3600,
    )
    requests_per_minute: int = setting(
        1200,
        "1/min",
        "Requests of one client address, at most; beyond it 429. 1200 let a page look 20 times a "
        "second and stop a loop that has gone wrong.",
        ge=1,
        le=10_000_000,
    )
    max_connections: int = setting(
        512,
        "connections",
        "Connections at a time, at most; beyond it 503. 512 leave room above all listeners and "
        "stay below the 1024 files that a process usually has.",
        ge=8,
        le=100_000,
    )
    max_listeners: int = setting(
        256,
        "listeners",
        "Streams of records or pictures at a time, at most; beyond it 503. 256, each with "
        "service.listener_records that wait, are bounded to some 30 MB.",
        ge=1,
        le=100_000,
    )
    listener_records: int = setting(
        256,
        "records",
        "Records that wait for one slow listener; beyond it partial texts and counters go first, "
        "and it is told how many it missed. 256 are a minute of a busy scene.",
        ge=1,
        le=100_000,
    )
    replay_mb: float = setting(
        8.0,
        "MB",
        "Records kept for listeners who come back and for the page's history, in millions of "
        "bytes. 8 are some ten thousand, hours of a usual scene.",
        ge=0,
        le=10_000,
    )
    session_h: float = setting(
        12.0,
        "h",
        "How long a browser stays signed in after its key was accepted. 12 h is a working day.",
        gt=0,
        le=8760,
    )
    stop_within_s: float = setting(
        10.0,
        "s",
        "How long a camera may take to finish its sentence when it is stopped; then it is cut. "
        "10 s is what a service manager waits for.",
        ge=0,
        le=3600,
    )
