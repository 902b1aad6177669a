"""`edgestream run`: watch a source and say what happens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .settings import SettingsFile, SetValues


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video file, a folder of images, or test:NAME[?seed=N] for a rendered clip.",
        ),
    ],
    jsonl: Annotated[
        str | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help="Append every record to FILE, one JSON object a line; - writes them to stdout "
            "in place of the lines for people.",
        ),
    ] = None,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--no-realtime",
            help="Play a file at its own speed, as a camera would: what is too slow is dropped.",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", metavar="N", help="Frames to look at per second of stream time."),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            "--gate",
            metavar="KIND",
            help="What opens an event: change, every:N (seconds) or never.",
        ),
    ] = None,
    settings_file: SettingsFile = None,
    sets: SetValues = None,
) -> None:
    """Watch SOURCE and tell what happens, when it happens.

    Lines for people and --jsonl - go to stdout, everything else to stderr. Ctrl-C ends it.
    """
    from ..assistant import watch_source
    from ..settings import load_settings

    flags = {"source.fps": fps, "source.realtime": realtime, "gate.kind": gate}
    resolved = load_settings(settings_file, sets or [], flags, os.environ)
    to_stdout = jsonl == "-"
    path = None if jsonl is None or to_stdout else Path(jsonl)
    watch_source(source, resolved.settings, jsonl=path, json_to_stdout=to_stdout)
