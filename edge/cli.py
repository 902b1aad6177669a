"""The entry point of `edgestream`. It loads nothing before it can be interrupted in one line."""

from __future__ import annotations

import atexit
import fcntl
import os
import sys
import threading


def console() -> None:
    """Run one command and end the process with its exit code.

    A thread that is still connecting to a silent camera sits inside FFmpeg for some seconds more.
    Python would take itself down under it, which crashes now and then; so the process ends at
    once where such a thread is left, after what is done at every exit.
    """
    code = main()
    if threading.active_count() > 1:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except OSError:
                code = code or 8  # whoever read it has gone; there is nowhere left to say so
        os._exit(code)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; None for those of this process.
    """
    try:
        _occupy_closed_streams()
        from .program import run_program

        return run_program(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return _interrupted()
    except RuntimeError as error:
        # Before Python 3.12, what is raised while a class is being made comes wrapped.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _interrupted()
        raise


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130


def _occupy_closed_streams() -> None:
    """Put nothing where the caller closed stdin, stdout or stderr, as for a daemon.

    Else the next file that is opened gets that number, and what a library prints goes into it.
    `sys.stdout` is None then: who is asked for results there must know.
    """
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(file)
    if sys.stdout is sys.__stdout__ and not _is_writable(1):
        sys.stdout = None  # as Python itself says it
    if sys.stderr is None or (sys.stderr is sys.__stderr__ and not _is_writable(2)):
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it stays open


def _is_writable(file: int) -> bool:
    """False where a shell script was started without the stream and stands in its place itself."""
    return fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


if __name__ == "__main__":
    console()
