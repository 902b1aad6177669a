"""A webhook receiver on this machine: a real server that can be slow, faulty, down and back."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edgestream.runtime.records import Record, StampedRecord

SECRET = b"0123456789abcdef-secret"


def stamped(text="x", *, type_="final", camera="door", **body):
    """A record as the outlet stamps it."""
    fields = {"turn_id": "t1", "text": text} | body
    return StampedRecord(Record(type_, fields), camera, 1.5, "2026-11-20T10:00:01.500Z")


def until(is_so: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait for a condition."""
    end_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end_s, "it did not come true in time"
        time.sleep(0.01)


@dataclass
class Post:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float = field(default_factory=time.monotonic)

    @property
    def text(self) -> str:
        return json.loads(self.body)["text"]

    @property
    def delivery_id(self) -> str:
        return self.headers["X-EdgeStream-Delivery"]


class Receiver:
    """Answers as `behaviour` says: (status, headers) of each post, in its own time."""

    def __init__(self, behaviour=lambda post: (204, {}), *, port=0, context=None):
        self.posts: list[Post] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self.behaviour = behaviour
        self._context: ssl.SSLContext | None = context
        self._server = self._started(port)
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/hook?token=very-private"

    @property
    def texts(self) -> list[str]:
        return [post.text for post in self.posts]

    @property
    def taken(self) -> list[str]:
        """Texts without doubles, as a receiver that looks at the delivery id has them."""
        return list({post.delivery_id: post.text for post in self.posts}.values())

    def stop(self) -> None:
        """Go away, with every connection that is open."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for peer in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(peer, socket.SHUT_RDWR)
        until(lambda: not self._open)

    def start(self) -> None:
        """Be there again, at the same port."""
        self._server = self._started(self.port)

    def _started(self, port):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5

            def setup(self):
                receiver.connections += 1
                receiver._open.add(self.request)
                super().setup()

            def finish(self):
                receiver._open.discard(self.request)
                super().finish()

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the sender was killed while it sent
                    return
                post = Post(self.path, dict(self.headers), body)
                status, headers = receiver.behaviour(post)
                receiver.posts.append(post)
                if status is None:  # it goes away without a word
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204 and "Content-Length" not in headers:
                    self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """A sender that hangs up is no fault of ours."""

        server = Server(("127.0.0.1", port), Handler)
        if self._context is not None:
            server.socket = self._context.wrap_socket(server.socket, server_side=True)
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        self._thread.start()
        return server
