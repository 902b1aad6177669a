"""What a long command is doing, told on stderr while it does it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def told_steps() -> Iterator[Callable[[str, str], None]]:
    """One line per step on stderr with its seconds; on a terminal with a spinner while it works."""
    begun = [time.monotonic()]
    before: list[str] = []

    def finish() -> None:
        if before:
            print(f"{before.pop():24} {time.monotonic() - begun[0]:7.1f} s", file=sys.stderr)

    if not sys.stderr.isatty():

        def tell(stage: str, part: str) -> None:
            finish()
            before.append(f"{stage} {part}")
            begun[0] = time.monotonic()

        yield tell
        finish()
        return
    from rich.console import Console
    from rich.status import Status

    console = Console(stderr=True)
    status = Status("starting", console=console)

    def tell_on_terminal(stage: str, part: str) -> None:
        finish()
        before.append(f"{stage} {part}")
        begun[0] = time.monotonic()
        status.update(f"{stage} {part}")

    with status:
        yield tell_on_terminal
        finish()
