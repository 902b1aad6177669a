"""The processes that `torchrun` or `accelerate launch` started, as a team; else this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from ..runtime.errors import UsageError
from .team import PATIENCE, Team


@contextmanager
def launched_team(device: str) -> Iterator[Team]:
    """This process in its team, for as long as the block lasts.

    Args:
        device: cpu (gloo between the processes) or cuda (nccl).

    Raises:
        UsageError: a launcher says that there are others, and they do not meet.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    from accelerate import PartialState  # type: ignore[import-untyped]

    try:
        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"the launcher asks for {os.environ['WORLD_SIZE']} processes, which do not meet: "
            f"{reason}",
            hint="torchrun --nproc-per-node 2 --no-python edgestream train lora …",
        ) from error
    try:
        yield Team(state.process_index, state.num_processes)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        PartialState._reset_state()
