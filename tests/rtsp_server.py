"""A small real RTSP server for tests and benchmarks: plays a clip in a loop, and fails on command.

H.264 over RTP inside the RTSP connection (RFC 2326 §10.12, RFC 6184), any number of clients, with
the standard library alone; PyAV renders the clip once, and its packets stay in memory.
"""

from __future__ import annotations

import base64
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from .video_files import UInt8, moving_texture, write_video

CLOCK_HZ = 90_000
LARGEST_PAYLOAD = 1400
FU_A, IDR, SPS, PPS = 28, 5, 7, 8
VIDEO_TYPE = 96
PUBLIC = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a clip as RTP payloads, the last of which ends it."""

    time_s: float
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """Pictures in order, and what a client must know before the first."""

    pictures: tuple[Picture, ...]
    length_s: float
    sps: bytes
    pps: bytes

    def sdp(self) -> bytes:
        sets = ",".join(base64.b64encode(one).decode() for one in (self.sps, self.pps))
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clip\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
            "a=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets};"
            f"profile-level-id={self.sps[1:4].hex()}\r\na=control:video\r\n"
        ).encode()


def clip_from_file(path: Path) -> Clip:
    """The H.264 of an MP4 without B-frames; parameter sets go before every key frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        sps, pps = _parameter_sets(bytes(stream.codec_context.extradata or b""))
        pictures = []
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            units = [unit for unit in _units(bytes(packet)) if unit[0] & 31 in range(1, 6)]
            if packet.is_keyframe:
                units = [sps, pps, *units]
            payloads = tuple(part for unit in units for part in _payloads(unit))
            pictures.append(Picture(float(packet.pts * packet.time_base), payloads))
    interval_s = pictures[1].time_s - pictures[0].time_s
    return Clip(tuple(pictures), pictures[-1].time_s + interval_s, sps, pps)


def clip_from_pictures(
    path: Path, pictures: Iterable[UInt8], *, fps: float = 10, key_every: int = 10
) -> Clip:
    """A clip of pictures (height, width, 3), by way of a file at `path`."""
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "g": str(key_every)}
    options["x264-params"] = f"scenecut=0:keyint={key_every}:min-keyint={key_every}"
    return clip_from_file(write_video(path, pictures, fps=fps, options=options))


def texture_clip(
    path: Path, size_px: tuple[int, int] = (320, 240), seconds: float = 4, fps: float = 10
) -> Clip:
    """A clip of a drifting texture."""
    return clip_from_pictures(path, moving_texture(round(seconds * fps), size_px), fps=fps)


def _parameter_sets(avcc: bytes) -> tuple[bytes, bytes]:
    """The first SPS and PPS of an AVC decoder configuration record (ISO 14496-15)."""
    sps_bytes = int.from_bytes(avcc[6:8], "big")
    at = 8 + sps_bytes + 1
    pps_bytes = int.from_bytes(avcc[at : at + 2], "big")
    return avcc[8 : 8 + sps_bytes], avcc[at + 2 : at + 2 + pps_bytes]


def _units(packet: bytes) -> list[bytes]:
    units, at = [], 0
    while at + 4 <= len(packet):
        length = int.from_bytes(packet[at : at + 4], "big")
        units.append(packet[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def _payloads(unit: bytes) -> list[bytes]:
    """A NAL unit as it is, or in fragments (FU-A)."""
    if len(unit) <= LARGEST_PAYLOAD:
        return [unit]
    header, body = unit[0], unit[1:]
    parts = [body[at : at + LARGEST_PAYLOAD] for at in range(0, len(body), LARGEST_PAYLOAD)]
    marks = [0x80, *[0] * (len(parts) - 2), 0x40]
    indicator = (header & 0xE0) | FU_A
    return [
        bytes([indicator, mark | (header & 31)]) + part
        for mark, part in zip(marks, parts, strict=True)
    ]


class RtspServer:
    """Serves one clip to whoever asks, in real time and in a loop, until it is closed.

    Args:
        clip: what is played.
        user: `name:password` that a client must give (Basic); empty for anyone.
        port: 0 for a free one; `restart` takes the same again.
        start_at: number of the picture at which a client comes in, as in the middle of a film.
    """

    def __init__(self, clip: Clip, user: str = "", port: int = 0, start_at: int = 0) -> None:
        self.requests: list[str] = []
        self._clip = clip
        self._user = user
        self._start_at = start_at
        self._frozen = threading.Event()
        self._corrupt_share = 0.0
        self._random = random.Random(0)
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._listen(port)

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def url(self, user: str = "") -> str:
        """The address, with `name:password@` where one is given, as it is to be written."""
        return f"rtsp://{user and user + '@'}127.0.0.1:{self.port}/live"

    def freeze(self, is_frozen: bool = True) -> None:
        """Send no more pictures, on connections that stay open."""
        (self._frozen.set if is_frozen else self._frozen.clear)()

    def corrupt(self, share: float) -> None:
        """From now on spoil this share of all packets."""
        self._corrupt_share = share

    def switch(self, clip: Clip) -> None:
        """Play another clip from now on, on connections that stay open."""
        self._clip = clip

    def viewers(self) -> int:
        """How many connections are open."""
        return len(self._clients)

    def kill(self) -> None:
        """Close the port and every connection, as when the power goes."""
        self._stopped.set()
        self._listener.close()
        for client in list(self._clients):
            _shut(client)
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()

    def restart(self) -> None:
        """Serve again, on the same port."""
        self._stopped.clear()
        self._listen(self.port)

    def close(self) -> None:
        """End it for good."""
        self.kill()

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.1)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:  # closed
                return
            client.settimeout(10)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients.add(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """Answer requests; the pictures come from a second thread once they are asked for."""
        sending, gone = threading.Lock(), threading.Event()
        unread = b""
        try:
            while not self._stopped.is_set():
                try:
                    came = client.recv(65536)
                except TimeoutError:
                    continue
                if not came:
                    return
                unread = _without_interleaved(unread + came)
                while b"\r\n\r\n" in unread:
                    head, unread = unread.split(b"\r\n\r\n", 1)
                    verb, answer = self._answer(head.decode("utf-8", "replace"))
                    with sending:
                        client.sendall(answer)
                    if verb == "PLAY" and b" 200 " in answer:
                        self._start(self._play, client, sending, gone)
                    unread = _without_interleaved(unread)
        except OSError:
            return
        finally:
            gone.set()
            self._clients.discard(client)
            _shut(client)

    def _answer(self, head: str) -> tuple[str, bytes]:
        self.requests.append(head)
        verb = head.split(" ", 1)[0]
        sequence = re.search(r"(?i)^CSeq: *(\d+)", head, re.MULTILINE)
        lines = [f"CSeq: {sequence[1] if sequence else 0}"]
        status, body = "200 OK", b""
        if self._user and not self._may(head) and verb != "OPTIONS":
            status = "401 Unauthorized"
            lines.append('WWW-Authenticate: Basic realm="test"')
        elif verb == "OPTIONS":
            lines.append(f"Public: {PUBLIC}")
        elif verb == "DESCRIBE":
            body = self._clip.sdp()
            lines += [f"Content-Base: {self.url()}/", "Content-Type: application/sdp"]
        elif verb == "SETUP":
            status = "200 OK" if "interleaved=" in head else "461 Unsupported Transport"
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000001")
        if verb in ("SETUP", "PLAY", "TEARDOWN"):
            lines.append("Session: 1;timeout=60")
        lines.append(f"Content-Length: {len(body)}")
        return verb, "\r\n".join([f"RTSP/1.0 {status}", *lines, "", ""]).encode() + body

    def _may(self, head: str) -> bool:
        given = re.search(r"(?im)^Authorization: Basic (\S+)", head)
        return given is not None and base64.b64decode(given[1]) == self._user.encode()

    def _play(self, client: socket.socket, sending: threading.Lock, gone: threading.Event) -> None:
        """Send pictures when their time has come, round after round."""
        sequence, start_at = self._random.randrange(1 << 16), self._start_at
        began_s, round_s = time.monotonic() - self._clip.pictures[start_at].time_s, 0.0
        base = self._random.randrange(1 << 32)
        try:
            while True:
                clip = self._clip
                for picture in clip.pictures[start_at:]:
                    due_s = began_s + round_s + picture.time_s
                    while time.monotonic() < due_s or self._frozen.is_set():
                        wait_s = due_s - time.monotonic()
                        if gone.wait(min(max(wait_s, 0.01), 0.5)) or self._stopped.is_set():
                            return
                    if clip is not self._clip:
                        break
                    stamp = (base + round((round_s + picture.time_s) * CLOCK_HZ)) % (1 << 32)
                    packets = self._packets(picture, sequence, stamp)
                    sequence += len(packets)
                    with sending:
                        client.sendall(b"".join(packets))
                else:
                    picture = None
                start_at = 0
                round_s += clip.length_s if picture is None else picture.time_s
        except OSError:
            _shut(client)

    def _packets(self, picture: Picture, sequence: int, stamp: int) -> list[bytes]:
        packets, last = [], len(picture.payloads) - 1
        for index, payload in enumerate(picture.payloads):
            marker = 0x80 if index == last else 0
            head = struct.pack(
                ">BBHII", 0x80, VIDEO_TYPE | marker, (sequence + index) % (1 << 16), stamp, 1
            )
            if self._corrupt_share and self._random.random() < self._corrupt_share:
                payload = self._spoiled(payload)
            packets.append(struct.pack(">cBH", b"$", 0, len(head) + len(payload)) + head + payload)
        return packets

    def _spoiled(self, payload: bytes) -> bytes:
        """The payload with random bytes behind its first few, where a line loses bits."""
        spoiled = np.frombuffer(payload, np.uint8).copy()
        at = np.random.default_rng(len(payload)).integers(2, max(3, len(spoiled)), 16)
        spoiled[at % len(spoiled)] ^= 0x5A
        return spoiled.tobytes()


def _without_interleaved(unread: bytes) -> bytes:
    """Without the client's own RTCP packets in front."""
    while unread[:1] == b"$" and len(unread) >= 4:
        length = int.from_bytes(unread[2:4], "big")
        if len(unread) < 4 + length:
            break
        unread = unread[4 + length :]
    return unread


def _shut(client: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        client.shutdown(socket.SHUT_RDWR)
    client.close()
