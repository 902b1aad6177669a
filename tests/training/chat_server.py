"""A server of OpenAI's form on this machine, which answers with what a test gives it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], "str | int | bytes"]
"""Body of a request → words of the model, an HTTP status, or the whole answer."""


@dataclass
class ChatServer:
    """Attributes: url up to /v1; what was asked: (path, headers, body) of each request."""

    url: str = ""
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@contextmanager
def chat_server(answer: Answer) -> Iterator[ChatServer]:
    told = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append((self.path, dict(self.headers), body))
            said = answer(body)
            if isinstance(said, int):
                self.send_response(said)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Retry-After", "2")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            message = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            content = said if isinstance(said, bytes) else json.dumps(message).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
