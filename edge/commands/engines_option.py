"""The option --engines of the commands that open a bundle's engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

EnginesFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--engines",
        metavar="DIR",
        help="Folder of compiled engines of TensorRT and TensorRT-RTX; what is not in it is "
        "compiled and kept there. Else as engine.engines_dir says to a run.",
        show_default=False,
    ),
]
