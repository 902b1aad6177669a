"""Any endpoint of OpenAI's form, asked for one text at a time; what it said is kept in a file."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..runtime.addresses import redacted
from ..runtime.backoff import wait_s
from ..runtime.errors import EndpointFailed, OutputUnwritable, UsageError

TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 5, 1.0, 30.0
TRIED_AGAIN = (408, 409, 429, 500, 502, 503, 504)
LARGEST_ANSWER_BYTES = 4 << 20

Messages = Sequence[Mapping[str, str]]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that the user named, and nowhere else."""

    def redirect_request(self, *given: Any) -> None:
        """Nothing is followed; the answer is an error then."""


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """Where a language model answers, and how it is asked.

    Attributes:
        url: such as http://127.0.0.1:8000/v1; `/chat/completions` is put behind it.
        model: its name there.
        key: sent as a bearer token; None for none.
        temperature: of the answers.
        timeout_s: for one answer.
        sleep: between two tries.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 0.7
    timeout_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_one = parts.scheme in ("http", "https") and bool(parts.hostname)
            is_one &= parts.username is None and parts.port != 0
        except ValueError:  # of a port or an address that is none
            is_one = False
        if not is_one:
            raise UsageError(
                f"got the endpoint {redacted(self.url)!r}, expected http[s]://HOST[:PORT]/v1",
                hint="a server on this machine: --endpoint http://127.0.0.1:8000/v1; a key: "
                "--key-file",
            )

    def text(self, messages: Messages, seed: int) -> str:
        """What the model says; it is asked again where it is busy.

        Raises:
            EndpointFailed: it cannot be reached, refuses, or answers in another form.

        Cost: an answer; up to a minute of waiting where it is busy.
        """
        body = {"model": self.model, "messages": list(messages), "seed": seed,
                "temperature": self.temperature}  # fmt: skip
        for tried in range(TRIES):
            try:
                return self._asked(json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                with error:
                    why = f"HTTP {error.code} {error.reason}"
                    again = error.code in TRIED_AGAIN
                    waited = error.headers.get("Retry-After", "")
            except (OSError, HTTPException) as error:  # URLError is one
                why, again, waited = str(getattr(error, "reason", error)), True, ""
            if not again or tried == TRIES - 1:
                break
            asked_for = float(waited) if waited.isdigit() else 0.0
            self.sleep(min(max(wait_s(tried, FIRST_WAIT_S, LONGEST_WAIT_S, 0.0), asked_for),
                           LONGEST_WAIT_S))  # fmt: skip
        raise EndpointFailed(
            f"{redacted(self.url)} did not answer: {why}",
            hint="what was answered so far is kept: the same command goes on from there",
        )

    def _asked(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        url = self.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(url, body, headers)
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=self.timeout_s) as answer:
            read = answer.read(LARGEST_ANSWER_BYTES)
        try:
            text = json.loads(read)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise self._another_form(read) from error
        if not isinstance(text, str):
            raise self._another_form(read)
        return text

    def _another_form(self, read: bytes) -> EndpointFailed:
        return EndpointFailed(
            f"{redacted(self.url)} answered {read[:80]!r}, expected an object with "
            "choices[0].message.content",
            hint="name the address up to and with /v1 of a server of OpenAI's form",
        )


class KeptAnswers:
    """What an endpoint said, in a file of JSON lines, so that nothing is asked twice.

    State: the answers in memory and on disk.

    Args:
        path: made with the first answer; a half last line is passed over.
        endpoint: asked for what is not there.
    """

    def __init__(self, path: Path, endpoint: ChatEndpoint) -> None:
        self._path, self._endpoint = path, endpoint
        self._known: dict[str, str] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            try:
                told = json.loads(line)
                self._known[told["sha256"]] = told["text"]
            except (ValueError, LookupError, TypeError):
                continue

    def text(self, messages: Messages, seed: int) -> str:
        """As `ChatEndpoint.text`.

        Raises:
            EndpointFailed: as there.
            OutputUnwritable: the answer cannot be kept.
        """
        endpoint = self._endpoint
        asked = json.dumps([endpoint.model, endpoint.temperature, list(messages), seed])
        name = hashlib.sha256(asked.encode()).hexdigest()
        if name not in self._known:
            text = self._known[name] = endpoint.text(messages, seed)
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"sha256": name, "text": text}) + "\n")
            except OSError as error:
                raise OutputUnwritable(
                    f"{self._path} cannot be written: {error.strerror}",
                    hint="give --out in a folder that you may write to",
                ) from error
        return self._known[name]
