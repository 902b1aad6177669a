"""`edgestream run`: watch a source, say what happens and answer questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.errors import UsageError
from .settings import SettingsFile, SetValues


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video file, a folder of images, or test:NAME[?seed=N] for a rendered clip. "
            "Live: rtsp://USER:PASSWORD@HOST/PATH (also rtsps://), http:// or https:// (MJPEG, "
            "HLS), /dev/videoN[?size=WxH&fps=N], gst:PIPELINE, screen:[DISPLAY], or loop:FILE, "
            "a file again and again. A live source that is lost is tried again until it is back.",
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="DIR",
            help="Folder of the model that describes events and answers questions, as `edgestream "
            "export` writes it. Without one only events are told.",
        ),
    ] = None,
    ask: Annotated[
        list[str] | None,
        typer.Option(
            "--ask",
            metavar="[TIME:]QUESTION",
            help="A question, as '12.5:What is it?' or '1:02:03:Who is there?' (stream time, "
            "which with --state goes on from the run before); without a time: at the end of a "
            "file, or now. A space goes before a question that "
            "begins with a number: '5: 2 or 3?', ': 12:30 or later?'. - takes lines from stdin; "
            "a file is watched when stdin has ended. May be repeated. In a terminal, questions "
            "can be typed while it runs.",
        ),
    ] = None,
    tell: Annotated[
        list[str] | None,
        typer.Option(
            "--tell",
            metavar="REQUEST",
            help="A standing request, as 'Tell me when it gets dark': it is checked at events and "
            "every standing.check_s seconds, and told when it comes true. May be repeated.",
        ),
    ] = None,
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
    target_fps: Annotated[
        float | None,
        typer.Option(
            "--target-fps",
            metavar="N",
            help="Frames to look at per second, and to hold: what is too slow is done less often. "
            "For cameras, and for files with --realtime.",
        ),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            "--gate",
            metavar="KIND",
            help="What opens an event: change, learned (the gate that the bundle brings along), "
            "every:N (seconds), token (the model decides; needs context.kind = continuous) or "
            "never; learned where the bundle has such a gate, else change, when nothing is said.",
        ),
    ] = None,
    gate_query: Annotated[
        str | None,
        typer.Option(
            "--gate-query",
            metavar="TEXT",
            help="What the gate learned looks for, as 'a person at the door', where the bundle's "
            "gate reads that; `edgestream inspect` says so.",
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            metavar="NAME",
            help="Adapter of the bundle that describes and answers; `edgestream inspect` lists "
            "them.",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Keep what is remembered in DIR, saved every five minutes of the stream and "
            "at the end; the next run with it remembers, and stream time goes on. Needs --bundle.",
        ),
    ] = None,
    settings_file: SettingsFile = None,
    sets: SetValues = None,
) -> None:
    """Watch SOURCE, tell what happens when it happens, and answer questions about it.

    What the model sees: the last frames, read when it speaks (--set context.kind=recent, as
    usual), or every frame as it comes (--set context.kind=continuous). `edgestream settings` lists
    this and every other setting.

    A live source is watched until Ctrl-C. A password that stands in its address can be seen by
    other users of this device while it runs; it never gets into a record.

    Lines for people and --jsonl - go to stdout, everything else to stderr. Ctrl-C ends it.
    """
    from ..asking import asks_from_options
    from ..assistant import watch_source
    from ..settings import load_settings

    asks = asks_from_options(ask or [])
    needs = (
        ("--ask", ask, "a model that answers"),
        ("--tell", tell, "a model that can be asked"),
        ("--adapter", adapter, "the bundle that has it"),
        ("--gate-query", gate_query, "the bundle whose gate reads it"),
    )
    for option, given, what in needs:
        if given and bundle is None:
            raise UsageError(f"{option} needs {what}; got none", hint="name one with --bundle DIR")
    if fps is not None and target_fps is not None:
        raise UsageError(
            f"got --fps {fps:g} and --target-fps {target_fps:g}, expected one of them",
            hint="--target-fps sets the frames to look at as well",
        )
    flags = {
        "source.fps": fps,
        "source.realtime": realtime,
        "gate.kind": gate,
        "gate.query": gate_query,
        "governor.target_fps": target_fps,
        "session.adapter": adapter,
    }
    resolved = load_settings(settings_file, sets or [], flags, os.environ)
    to_stdout = jsonl == "-"
    path = None if jsonl is None or to_stdout else Path(jsonl)
    watch_source(
        source,
        resolved.settings,
        bundle=bundle,
        asks=asks,
        jsonl=path,
        json_to_stdout=to_stdout,
        state=state,
        tells=tell or (),
    )
