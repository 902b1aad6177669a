"""The program `edgestream`: its commands, and the one place where a fault becomes an exit code.

Exit codes (docs/FORMATS.md, section 6) come from the error's class. What is no EdgeStreamError is
our bug: it leaves with its traceback and code 1. Commands import what they need when they run, so
that `--help` answers at once on a bare device.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..runtime.errors import EdgeStreamError, OutputFull, UsageError
from .commands.bench import bench
from .commands.calibrate import calibrate
from .commands.doctor import doctor
from .commands.eval_dialogues import dialogues
from .commands.evaluate import evaluate
from .commands.export import export
from .commands.inspect import inspect
from .commands.merge import merge
from .commands.run import run
from .commands.serve import serve
from .commands.settings import settings
from .commands.train import train
from .commands.train_data import features, synthesize
from .commands.train_gate import gate
from .commands.train_lora import lora
from .commands.unpack import unpack
from .commands.verify import verify
from .terminal import BOLD, RED, painted

PROGRAM = "edgestream"

# Older typer takes this class from click, newer typer carries its own; the base of its public child
# is the right one in both.
_PARSER_FAULT: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name=PROGRAM,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watch a camera on your own device, speak when something happens, answer questions.",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(UsageError.exit_code)


app.command()(run)
app.command()(serve)
app.command()(settings)
app.command()(doctor)
app.command()(calibrate)
app.command()(export)
app.command()(inspect)
app.command()(verify)
app.command()(bench)
app.command()(unpack)
app.command()(merge)
train.command()(synthesize)
train.command()(features)
train.command()(gate)
train.command()(lora)
app.add_typer(train)
evaluate.command()(dialogues)
app.add_typer(evaluate)


def run_program(given: list[str]) -> int:
    """Run one command and return its exit code; results on stdout, everything for people on stderr.

    Args:
        given: arguments without the program's name.
    """
    code = 0
    try:
        code = _attempt(given)
        if sys.stdout is not None:  # None where the caller closed it before we started
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as with `| head -1`
        _let_go_of_output()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _let_go_of_output()
        full = OutputFull(
            "no space is left where the results are written",
            hint="free some space, or write elsewhere",
        )
        return _complain(full)
    return code


def _attempt(arguments: list[str]) -> int:
    try:
        return _invoke(arguments)
    except EdgeStreamError as fault:
        code = _complain(fault)
        if "--json" in arguments:
            print(json.dumps(fault.as_json()))
        return code


def _invoke(arguments: list[str]) -> int:
    """Hand the arguments to typer without its own ideas about exit codes and interrupts."""
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:  # the shell asks; typer answers and leaves
        app(prog_name=PROGRAM)
    command = typer.main.get_command(app)
    try:
        with command.make_context(PROGRAM, arguments) as context:
            result = command.invoke(context)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except _PARSER_FAULT as fault:
        group = getattr(fault, "ctx", None)
        if group is not None and str(fault) == group.get_help():  # `edgestream train` alone
            print(str(fault), file=sys.stderr)
            return UsageError.exit_code
        raise _usage_error(fault, arguments) from fault
    return result if isinstance(result, int) else 0


def _usage_error(fault: Exception, arguments: list[str]) -> UsageError:
    context = getattr(fault, "ctx", None)
    named = [word for word in arguments[:1] if not word.startswith("-")]
    command = context.command_path if context is not None else " ".join([PROGRAM, *named])
    words = getattr(fault, "format_message", fault.__str__)()
    return UsageError(words.rstrip("."), hint=f"{command} --help")


def _complain(fault: EdgeStreamError) -> int:
    """One line that says what is wrong and one that says what to do, and the exit code."""
    label = painted(f"error[{fault.code}]:", f"{BOLD};{RED}", sys.stderr)
    print(f"{label} {fault.message}", file=sys.stderr)
    if fault.hint:
        print(f"{painted('try:', BOLD, sys.stderr)} {fault.hint}", file=sys.stderr)
    return fault.exit_code


def _let_go_of_output() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at exit cannot fail again."""
    if sys.stdout is None:
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
