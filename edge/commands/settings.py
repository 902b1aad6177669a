"""`edgestream settings`: every setting with its value, unit, origin and meaning."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..terminal import BOLD, CYAN, DIM, column_widths, columns_of, painted

if TYPE_CHECKING:
    from ..settings import Resolved

# Below this width of its column a meaning reads better on lines of its own.
NARROWEST_MEANING_COLUMNS = 48
GAP = "  "
HEADER = ("setting", "value", "unit", "origin")

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", help="Settings file (TOML), instead of the usual one."
    ),
]
SetValues = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="One setting, as source.fps=8. May be repeated."
    ),
]


def settings(
    settings_file: SettingsFile = None,
    sets: SetValues = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Show every setting, its value, unit, origin and meaning."""
    from ..settings import load_settings

    resolved = load_settings(settings_file, sets or [], {}, os.environ)
    if as_json:
        values = resolved.settings.model_dump(mode="json")
        values["service"]["cameras"] = without_secrets(resolved.value("service.cameras"))
        print(json.dumps({"settings": values, "origins": dict(resolved.origins)}))
        return
    print("\n".join(lines_of(resolved, columns_of(sys.stdout))))


def without_secrets(cameras: Any) -> dict[str, str]:
    """Name → address of cameras, without their passwords."""
    from ...runtime.addresses import redacted

    return {name: redacted(address) for name, address in cameras.items()}


def _shown(resolved: Resolved, key: str) -> object:
    value = resolved.value(key)
    return without_secrets(value) if key == "service.cameras" else value


def lines_of(resolved: Resolved, columns: int | None) -> list[str]:
    """The table, for a width of so many columns.

    Args:
        resolved: the settings.
        columns: of the terminal; None for a pipe: one whole line per setting, nothing cut.
    """
    from ..settings import toml_text
    from ..settings_tables import setting_rows

    rows = setting_rows()
    cells = [
        (row.key, toml_text(_shown(resolved, row.key)), row.unit, resolved.origins[row.key])
        for row in rows
    ]
    widths = column_widths([HEADER, *cells])
    indent = sum(widths) + len(GAP) * len(widths)
    is_narrow = columns is not None and columns - indent < NARROWEST_MEANING_COLUMNS
    titles = [cell.ljust(width) for cell, width in zip(HEADER, widths, strict=True)]
    heading = GAP.join(titles if is_narrow else [*titles, "meaning"]).rstrip()
    lines = [painted(heading, DIM, sys.stdout)]
    for row, row_cells in zip(rows, cells, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(row_cells, widths, strict=True)]
        start = GAP.join(_coloured(padded, is_default=row_cells[3] == "default"))
        if columns is None:
            lines.append(start + GAP + row.meaning)
        elif is_narrow:
            meaning = textwrap.wrap(row.meaning, max(20, columns - 4), break_on_hyphens=False)
            lines += [
                start.rstrip(),
                *("    " + painted(text, DIM, sys.stdout) for text in meaning),
            ]
        else:
            first, *rest = textwrap.wrap(row.meaning, columns - indent, break_on_hyphens=False)
            lines += [start + GAP + first, *(" " * indent + text for text in rest)]
    return lines


def _coloured(cells: list[str], *, is_default: bool) -> list[str]:
    key, value, unit, origin = cells
    return [
        painted(key, BOLD, sys.stdout),
        value if is_default else painted(value, CYAN, sys.stdout),
        unit,
        painted(origin, DIM if is_default else CYAN, sys.stdout),
    ]
