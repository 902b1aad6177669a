"""The options of `edgestream export` in another program's parser, and back into its words.

They are read from the command itself, so that both programs always have the same.
"""

from __future__ import annotations

import argparse
from typing import Any

_GIVEN = "edgestream_"
_OWN = ("--out", "--help", "-h")


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser `-m CHECKPOINT`, OUTPUT, and every option of `edgestream export`."""
    parser.add_argument(
        "-m", "--model", required=True, metavar="CHECKPOINT", help=_shown(_argument().help)
    )
    parser.add_argument("output", metavar="OUTPUT", help="Folder of the bundle.")
    for option in _options():
        shared = {"dest": _GIVEN + option.name, "default": argparse.SUPPRESS,
                  "help": _shown(option.help)}  # fmt: skip
        if option.is_flag:
            for words in filter(None, (option.opts, option.secondary_opts)):
                parser.add_argument(*words, action="append_const", const=words[0], **shared)
        else:
            metavar = option.metavar or option.name.upper()
            parser.add_argument(*option.opts, action="append", metavar=metavar, **shared)


def export_words(arguments: argparse.Namespace) -> list[str]:
    """The words of `edgestream export` for what such a parser read.

    Every value is handed on as it was typed; `edgestream export` checks it.
    """
    words = ["export"]
    for option in _options():
        for value in getattr(arguments, _GIVEN + option.name, ()):
            words += [value] if option.is_flag else [f"{option.opts[0]}={value}"]
    return [*words, f"--out={arguments.output}", "--", arguments.model]


def _options() -> list[Any]:
    found = [one for one in _command().params if one.param_type_name == "option"]
    return [one for one in found if not set(one.opts) & set(_OWN)]


def _argument() -> Any:
    return next(one for one in _command().params if one.param_type_name == "argument")


def _command() -> Any:
    """`edgestream export` as typer builds it."""
    import typer

    from .program import app

    group: Any = typer.main.get_command(app)
    return group.commands["export"]


def _shown(text: str | None) -> str:
    """A help text in which argparse takes no percent sign for a format."""
    return (text or "").replace("%", "%%")
