"""A running service for tests: a process of its own with the real bundle, on a free port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "assets" / "reference"
CLIP = ROOT / "assets" / "sample.mp4"
WITHIN_S = 60.0
"""Generous: the machine may be busy with other tests."""


def until(condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """What a condition gives as soon as it is true."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {condition}")


class Serving:
    """A service that runs. `get`, `post` … give (status, value)."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.port = int(url.rpartition(":")[2])
        self.errors: list[str] = []
        self.draining = threading.Thread(target=self._drain, daemon=True)
        self.draining.start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request over a connection of its own: (status, headers in lower case, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request, its answer read as JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, _, text = self.ask(method, path, body, named)
        return status, json.loads(text) if text else None

    def get(self, path: str, **headers: str) -> Any:
        """What a path gives; it must be 200."""
        status, value = self.json("GET", path, **headers)
        assert status == 200, (status, value)
        return value

    def state(self, camera: str) -> str:
        """The state of one camera."""
        rows = {row["name"]: row for row in self.get("/v1/cameras")["cameras"]}
        return str(rows[camera]["state"]) if camera in rows else "deleted"

    def chat(self, question: str, **fields: Any) -> tuple[int, Any]:
        """Ask a question."""
        messages = [{"role": "user", "content": question}]
        body = {"model": "reference", "messages": messages, **fields}
        return self.json("POST", "/v1/chat/completions", body)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


@contextmanager
def serving(*words: str, waits: bool = True, environ: dict[str, str] | None = None):
    """A service with these words on its command line, until the block ends."""
    command = [sys.executable, "-m", "edgestream.edge.cli", "serve", *words]
    if "--bundle" not in words:
        command += ["--bundle", str(BUNDLE)]
    if "--port" not in words:
        command += ["--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    draining = None
    try:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().strip()
        if not url:
            raise AssertionError(process.stderr.read())
        service = Serving(process, url)
        draining = service.draining
        if waits:
            until(lambda: service.json("GET", "/ready")[0] == 200)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None and process.stderr is not None
        if draining is not None:
            draining.join(WITHIN_S)
        process.stdout.close()
        process.stderr.close()


@contextmanager
def in_thread(*sets: str) -> Iterator[tuple[Any, int]]:
    """(service, port) of one without cameras in this process, served by a thread."""
    import asyncio

    from edgestream.edge.service.access import Access
    from edgestream.edge.service.app import service_app
    from edgestream.edge.service.listening import listening_socket
    from edgestream.edge.service.server import ServeChoice, running, server_for
    from edgestream.edge.settings import load_settings

    settings = load_settings(None, [one for one in sets if one != "--set"], {}, {}).settings
    choice = ServeChoice(BUNDLE, {}, settings)
    access = Access(None, checks_host=True, session_s=60, is_tls=False)
    with listening_socket("127.0.0.1", 0) as listening, running(choice, access) as service:
        server = server_for(service_app(service), choice, service)

        async def serve() -> None:
            service.hub.serve_in(asyncio.get_running_loop())
            await server._serve([listening])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            until(lambda: server.started)
            yield service, listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(WITHIN_S)


def events(
    service: Serving, path: str = "/v1/events", headers: dict[str, str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """(kind, fields) of a stream of server-sent events; kind is event or comment."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WITHIN_S)
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    fields: dict[str, str] = {}
    try:
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line.startswith(":"):
                yield "comment", {"text": line[1:].strip()}
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield "event", fields
                fields = {}
    finally:
        connection.close()
