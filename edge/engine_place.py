"""Where a command finds compiled engines, and what it says while it compiles one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..runtime.engine import Backend, backend_for


def say(sentence: str) -> None:
    """A line on stderr, where there is one."""
    if sys.stderr is not None:
        print(sentence, file=sys.stderr, flush=True)


def chosen_folder(named: Path | None) -> Path | None:
    """The folder of compiled engines: the one that was named, else as a run would choose it.

    Args:
        named: by the option --engines.

    Returns:
        None for the user's cache folder.

    Raises:
        SettingsInvalid: the settings of a run cannot be read.
    """
    from .settings import load_settings
    from .speech_rules import folder_of_engines

    flags = {"engine.engines_dir": None if named is None else str(named)}
    return folder_of_engines(load_settings(None, [], flags, os.environ).settings)


def backends_with(engines_dir: Path | None, threads: int = 1) -> Callable[[str], Backend]:
    """Provider → its backend on this device.

    Args:
        engines_dir: folder of compiled engines; None: the user's cache folder.
        threads: of each engine on the CPU.
    """
    return lambda provider: backend_for(
        provider, threads=threads, engines_dir=engines_dir, tell=say
    )
