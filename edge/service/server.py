"""`edgestream serve`, from the listening socket to the last record.

Read it downwards: `serve` takes the address, opens the engines, starts the cameras and serves the
app until it is told to stop; then the listeners are let go, every camera finishes its sentence and
saves what it remembers. Cameras run in threads of their own (`cameras.py`), requests in the asyncio
loop of the main thread (`app.py`); the hub (`hub.py`) stands between them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.bundle import open_bundle
from ...runtime.engine_pool import engine_pool
from ...runtime.errors import OutputUnwritable, SettingsInvalid
from ...runtime.heap import bound_heaps
from ...runtime.outlet import utc_now, wall_text
from ...runtime.state_folder import locked_state
from ..gate_queries import queries_without_camera
from ..gate_rules import check_gate, event_types
from ..governing import with_target
from ..privacy_rules import zones_without_camera
from ..progress import work_shown
from ..settings_tables import Settings
from ..speech_rules import engine_rules
from ..staging import with_facts_of
from ..standing_rules import standing_of
from ..state_keeping import check_state
from ..systemd import ALIVE, READY, STOPPING, notify, watchdog_every_s
from .access import Access
from .app import Service, service_app
from .camera_list import CameraList
from .cameras import CameraBoard
from .connections import guarded_protocol
from .faults import App
from .guest import opened_guest
from .hub import Hub
from .limits import limits_of
from .listening import (
    check_certificate,
    check_listening,
    is_loopback,
    key_from_file,
    listening_socket,
)
from .outward.opening import NOBODY, Outward, outward_sinks
from .shares import Shares, shares_of
from .standing_board import StandingBoard
from .state_files import make_folder
from .watch_run import Shared

if TYPE_CHECKING:
    import uvicorn

    from ...runtime.bundle import Bundle

log = logging.getLogger(__name__)
FORGET_EVERY_S = 60.0
HEAPS = 2
LEAVE_WITHIN_S = 3
"""Responses that are on their way when the service stops have so long."""


@dataclass(frozen=True, slots=True)
class ServeChoice:
    """What `edgestream serve` was asked for.

    Attributes:
        bundle: folder of the model.
        cameras: name → address, of the command line.
        settings: all choices of the user; `service` among them.
        state: folder of what is saved; None for nothing.
        logs_json: one JSON line per request on stderr.
    """

    bundle: Path
    cameras: Mapping[str, str]
    settings: Settings
    state: Path | None = None
    logs_json: bool = False


def serve(choice: ServeChoice, announce: Callable[[str], None]) -> int:
    """Watch the cameras and serve the API until SIGTERM or Ctrl-C; the exit code.

    Args:
        choice: what was asked for.
        announce: takes the address to open, when it can be.

    Raises:
        ListenUnsafe: others could reach the service without a key.
        AddressTaken: it cannot listen there.
        EdgeStreamError: bundle, settings or state are at fault.
    """
    bound_heaps(HEAPS)
    service = choice.settings.service
    key = key_from_file(service.api_key_file) if service.api_key_file else None
    check_listening(service.host, key)
    check_gate(choice.settings, has_language_model=True)
    if choice.state is not None:
        check_state(choice.settings, has_bundle=True)
        make_folder(choice.state)
    if service.tls_cert:
        check_certificate(service.tls_cert, service.tls_key)
    access = Access(
        key,
        checks_host=is_loopback(service.host),
        session_s=service.session_h * 3600,
        is_tls=bool(service.tls_cert),
    )
    with ExitStack() as stack:
        if choice.state is not None:
            stack.callback(os.close, locked_state(choice.state))
        listening = stack.enter_context(listening_socket(service.host, service.port))
        served = stack.enter_context(running(choice, access))
        app = service_app(served, logs_json=choice.logs_json)
        return asyncio.run(
            _serve_app(app, listening, served, choice, lambda: announce(_url(choice, listening)))
        )


@contextmanager
def running(choice: ServeChoice, access: Access) -> Iterator[Service]:
    """Engines and cameras, for as long as the block lasts; then every camera has saved."""
    with ExitStack() as stack:
        with work_shown(f"opening {choice.bundle.name}"):
            bundle = open_bundle(choice.bundle)
            _check_bundle(bundle)
            settings = with_facts_of(with_target(choice.settings), bundle.manifest)
            shares = shares_of(settings, bundle.manifest)
            settings = _with_share(settings, shares)
            pool = stack.enter_context(engine_pool(bundle, engine_rules(settings)))
            bounds = limits_of(settings.service)
            guest = stack.enter_context(opened_guest(pool, settings, shares, bounds.images_waiting))
        hub = _hub(settings)
        standing = StandingBoard(lambda: standing_of((), settings, bundle.manifest), choice.state)
        outward = stack.enter_context(_outward(settings, choice.state))
        known = event_types(settings, bundle.manifest)
        board = CameraBoard(
            Shared(pool, settings, shares, hub, standing, choice.state, outward, known),
            most=settings.service.max_cameras,
            stop_within_s=settings.service.stop_within_s,
            added=CameraList(choice.state),
        )
        stack.callback(board.close)
        board.start_all({**settings.service.cameras, **choice.cameras})
        names = [one.name for one in board.all()]
        slips = (
            zones_without_camera(names, settings.privacy),
            queries_without_camera(names, settings.gate),
        )
        for slip in filter(None, slips):
            log.warning("%s", slip)
        made = datetime.fromisoformat(bundle.manifest.created.replace("Z", "+00:00"))
        yield Service(
            board, standing, hub, guest, access, bounds, bundle.manifest.name, int(made.timestamp())
        )


def _outward(settings: Settings, state: Path | None) -> AbstractContextManager[Outward]:
    """Whom the settings name; they have queues on the disk, so there must be a place for them."""
    if state is not None:
        return outward_sinks(settings, state, {})
    if settings.webhook.url or settings.mqtt.host:
        raise SettingsInvalid(
            "a webhook or a broker has a queue on the disk; got no folder for it",
            hint="name one with --state",
        )
    return nullcontext(NOBODY)


def _check_bundle(bundle: Bundle) -> None:
    if bundle.manifest.cache is None or bundle.manifest.embeddings is None:
        raise SettingsInvalid(
            f"{bundle.folder.name} has no language model, which the service needs",
            hint="name another bundle with --bundle",
        )


def _with_share(settings: Settings, shares: Shares) -> Settings:
    """The settings of one camera: it may remember its share, or less where the user says so."""
    chosen = settings.memory.budget_mb
    share = shares.memory / 1e6
    budget_mb = min(chosen, share) if chosen else share
    memory = settings.memory.model_copy(update={"budget_mb": budget_mb})
    return settings.model_copy(update={"memory": memory})


def _hub(settings: Settings) -> Hub:
    service = settings.service
    return Hub(
        keep_bytes=int(service.replay_mb * 1e6),
        first=int(time.time() * 1e3),  # so numbers grow over restarts, below 1000 records a second
        capacity=service.listener_records,
        most=service.max_listeners,
        retention_s=settings.privacy.retention_s,
    )


async def _serve_app(
    app: App,
    listening: socket.socket,
    service: Service,
    choice: ServeChoice,
    announce: Callable[[], None],
) -> int:
    """Serve until told to stop; the exit code."""
    loop = asyncio.get_running_loop()
    service.hub.serve_in(loop)
    server = server_for(app, choice, service)
    signals: list[int] = []

    def stop(number: int) -> None:
        if signals:  # whoever asks twice will not wait
            os._exit(128 + number)
        signals.append(number)
        service.hub.close()
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    serving = asyncio.create_task(server._serve([listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if serving.done():
        return serving.result() or 1  # it could not start; what was wrong is raised here
    announce()
    notify(READY)
    tasks = [
        asyncio.create_task(_tell_alive(watchdog_every_s())),
        asyncio.create_task(_forget_old(service, choice.settings.privacy.retention_s)),
    ]
    await serving
    for task in tasks:
        task.cancel()
    notify(STOPPING)
    await asyncio.to_thread(service.board.close)  # a second Ctrl-C is still heard meanwhile
    return 130 if signals == [signal.SIGINT] else 0


async def _forget_old(service: Service, retention_s: float) -> None:
    """Have what waits for others go too when it is older than it may be."""
    while retention_s:
        await asyncio.sleep(min(FORGET_EVERY_S, retention_s / 2))
        oldest = utc_now() - timedelta(seconds=retention_s)
        try:
            await asyncio.to_thread(service.board.shared.outward.forget_before, wall_text(oldest))
        except OutputUnwritable as fault:
            log.error("%s", fault.message)


async def _tell_alive(every_s: float) -> None:
    """Tell systemd that the loop, which answers every request, still turns."""
    while every_s:
        notify(ALIVE)
        await asyncio.sleep(every_s)


def server_for(app: App, choice: ServeChoice, service: Service) -> uvicorn.Server:
    import uvicorn

    chosen = choice.settings.service
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=guarded_protocol(service.limits),
            ws="websockets-sansio",
            ws_per_message_deflate=False,  # records are small, and it costs memory per listener
            ws_max_size=service.limits.body_bytes,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=LEAVE_WITHIN_S,
            ssl_certfile=chosen.tls_cert or None,
            ssl_keyfile=chosen.tls_key or None,
        )
    )


def _url(choice: ServeChoice, listening: socket.socket) -> str:
    """The address to open."""
    service = choice.settings.service
    host, port = listening.getsockname()[:2]
    host = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host
    scheme = "https" if service.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
