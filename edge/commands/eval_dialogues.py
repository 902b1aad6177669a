"""`edgestream eval dialogues`: when a bundle speaks along videos, and what is written of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from .settings import SettingsFile, SetValues


def dialogues(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIALOGUES...", help="Files of `edgestream train synthesize`, or your own."
        ),
    ],
    bundle: Annotated[Path, typer.Option("--bundle", metavar="BUNDLE", help="Folder of it.")],
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.01, max=120, help="Frames a second; else the bundle's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
    settings_file: SettingsFile = None,
    sets: SetValues = None,
) -> None:
    """Measure when a bundle speaks of its own accord, and what it says, on your own videos.

    It watches as `edgestream run` does; questions are asked at their times. Precision, recall and
    F1 of the moments are within 0.5, 1 and 5 seconds, with intervals over the dialogues.
    """
    from ...training.dialogues import read_all_dialogues
    from ..dialogue_evaluation import evaluate_dialogues
    from ..settings import load_settings
    from .evaluate import counted_bar, print_lines

    settings = load_settings(settings_file, sets or [], {}, os.environ).settings
    read = list(read_all_dialogues(files))
    with counted_bar("dialogues") as tell:
        found = evaluate_dialogues(bundle, read, settings, fps=fps, on_dialogue=tell)
    if not as_json:
        print_lines(found.lines)
    print(json.dumps(found.as_json()))
