"""Standing requests of the whole service: each is held by every camera it is for, and saved."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import OutputUnwritable, StandingUnknown, StateInvalid
from ...runtime.standing import Standing, StandingRequests
from ...runtime.standing_request import StandingRequest
from .state_files import write_private

FILE_NAME = "standing.json"
OF_REQUEST = ("text", "question", "events", "check_s", "refractory_s", "sinks", "cameras")


@dataclass(frozen=True, slots=True)
class NewStanding:
    """What is wanted; see `StandingRequests.add`. What is None is as the settings say."""

    text: str
    question: str | None = None
    events: tuple[str, ...] | None = None
    check_s: float | None = None
    refractory_s: float | None = None
    sinks: tuple[str, ...] = ()
    cameras: tuple[str, ...] | None = None


class StandingBoard:
    """See the module. Safe for any number of threads.

    State: the requests, as many as one camera may hold; what holds them at each camera that is
    watched; the file that keeps them.

    Args:
        holder: makes what holds requests; this board has one of its own, which checks them.
        folder: of the service's state; None: they last as long as the process.

    Raises:
        StateInvalid, OutputUnwritable: the file is no such list, or cannot be read.
        StandingInvalid, StandingRefused: it holds what is no request, or too many.
    """

    def __init__(self, holder: Callable[[], StandingRequests], folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._lock = threading.RLock()
        self._held = holder()
        self._at: dict[str, StandingRequests] = {}
        for saved in _saved(self._path):
            self._hold(self._held, saved)

    def add(self, wanted: NewStanding) -> StandingRequest:
        """Take a request; the cameras that it is for watch for it from their next frame on.

        Raises:
            StandingInvalid, StandingRefused: it cannot be held.
            OutputUnwritable: it cannot be saved; it is not held.
        """
        with self._lock:
            values = {name: getattr(wanted, name) for name in OF_REQUEST}
            # Never a name that was used before: records of the past tell of it.
            request = self._held.add(request_id=f"r{secrets.token_hex(4)}", **values)
            try:
                self._save()
            except OutputUnwritable:
                self._held.cancel(request.request_id)
                raise
            for camera, held in self._at.items():
                if is_for(request, camera):
                    self._hold(held, request.as_json())
            return request

    def cancel(self, request_id: str) -> None:
        """Let a request go, at every camera.

        Raises:
            StandingUnknown: there is none of this name.
            OutputUnwritable: the file cannot be written; no camera watches for it all the same.
        """
        with self._lock:
            if not self._held.cancel(request_id):
                raise StandingUnknown(
                    f"there is no standing request {request_id}", hint="GET /v1/standing lists them"
                )
            for held in self._at.values():
                held.cancel(request_id)
            self._save()

    def attach(self, camera: str, held: StandingRequests) -> None:
        """A camera begins to be watched: it holds every request that is for it."""
        with self._lock:
            self._at[camera] = held
            for one in self._held.list():
                if is_for(one.request, camera):
                    self._hold(held, one.request.as_json())

    def detach(self, camera: str) -> None:
        """A camera is watched no more."""
        with self._lock:
            self._at.pop(camera, None)

    def all(self) -> list[Standing]:
        """Every request: met where it is at one camera, last fired where it did so last."""
        with self._lock:
            found = [one.request for one in self._held.list()]
            states = [one for held in self._at.values() for one in held.list()]
        return [_together(request, states) for request in found]

    def _hold(self, held: StandingRequests, saved: dict[str, Any]) -> None:
        values = {name: saved[name] for name in OF_REQUEST}
        for name in ("events", "sinks", "cameras"):
            values[name] = None if values[name] is None else tuple(values[name])
        held.add(request_id=saved["request_id"], **values)

    def _save(self) -> None:
        if self._path is not None:
            requests = [one.request.as_json() for one in self._held.list()]
            write_private(self._path, json.dumps({"requests": requests}, indent=1) + "\n")


def is_for(request: StandingRequest, camera: str) -> bool:
    """Whether a camera watches for a request."""
    return request.cameras is None or camera in request.cameras


def _together(request: StandingRequest, states: Iterable[Standing]) -> Standing:
    its = [one for one in states if one.request.request_id == request.request_id]
    fired = [one.last_fired_s for one in its if one.last_fired_s is not None]
    return Standing(request, any(one.is_met for one in its), max(fired, default=None))


def _saved(path: Path | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    try:
        requests = json.loads(path.read_text(encoding="utf-8"))["requests"]
        if not all({*OF_REQUEST, "request_id"} <= one.keys() for one in requests):
            raise KeyError("a request lacks a field")
        return list(requests)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputUnwritable(f"the standing requests {path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateInvalid(
            f"{path} is no list of standing requests: {type(error).__name__}: {error}",
            hint=f"remove {path} and ask again",
        ) from error
