"""`edgestream serve`: watch cameras and serve them over HTTP, with a page to look at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .settings import SettingsFile, SetValues


def serve(
    cameras: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]ADDRESS...",
            help="Cameras: whatever `edgestream run` takes as a source. A file is played at its "
            "own speed. More can be added while it runs.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="DIR",
            help="Folder of the model that describes events and answers questions.",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Keep in DIR what each camera remembers, and the cameras that were added while "
            "it ran; the next start goes on from there.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where to listen; this machine alone when nothing is said. Any other needs a key.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="Port; 0 takes a free one.")
    ] = None,
    api_key_file: Annotated[
        str | None,
        typer.Option(
            "--api-key-file", metavar="FILE", help="File with the key that requests need."
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option("--tls-cert", metavar="FILE", help="Certificate in PEM, for https."),
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option("--tls-key", metavar="FILE", help="Its private key in PEM.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", metavar="N", help="Frames to look at per second, of each camera."),
    ] = None,
    target_fps: Annotated[
        float | None,
        typer.Option(
            "--target-fps",
            metavar="N",
            help="Hold N frames per second of each camera: encode less often, then read fewer "
            "tokens, then show less of memory where the device is too slow.",
        ),
    ] = None,
    logs_json: Annotated[
        bool, typer.Option("--log-json", help="One JSON line per request on stderr.")
    ] = False,
    settings_file: SettingsFile = None,
    sets: SetValues = None,
) -> None:
    """Watch cameras, speak when something happens, and answer over HTTP.

    The address to open is printed on stdout when it can be opened. There are a page, an API like
    OpenAI's, records as they come (/v1/events) and counters for Prometheus (/metrics); /docs lists
    all. Ctrl-C ends it when every camera has finished its sentence; a second one at once.
    """
    from ...runtime.errors import UsageError
    from ..service.choice import cameras_from_words, check_names, with_pictures
    from ..service.server import ServeChoice
    from ..service.server import serve as serve_cameras
    from ..settings import load_settings

    if bundle is None:
        raise UsageError(
            "the service needs a model; got none", hint="name its folder with --bundle DIR"
        )
    flags = {
        "service.host": host,
        "service.port": port,
        "service.api_key_file": api_key_file,
        "service.tls_cert": tls_cert,
        "service.tls_key": tls_key,
        "source.fps": fps,
        "governor.target_fps": target_fps,
    }
    resolved = load_settings(settings_file, sets or [], flags, os.environ)
    check_names(resolved.settings.service.cameras)
    choice = ServeChoice(
        bundle,
        cameras_from_words(cameras or []),
        with_pictures(resolved),
        state,
        logs_json,
    )
    code = serve_cameras(choice, lambda url: print(url, flush=True))
    if code:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(code)
