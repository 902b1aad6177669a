"""The processes that `torchrun` or `accelerate launch` started, as a team; else this one alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

from torch import distributed

from ..runtime.errors import EngineFailed, UsageError
from .team import Team, lost_the_others

HOW = "torchrun --nproc-per-node 2 --no-python edgestream train lora …"
SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where a launcher says how many there are: torchrun's first, then those of MPI."""
PATIENCE = timedelta(hours=12)
"""How long one waits for the first to extract all features; who is killed is missed at once."""


@contextmanager
def launched_team(device: str) -> Iterator[Team]:
    """This process in its team, for as long as the block lasts.

    Args:
        device: cpu (gloo between the processes) or cuda (nccl).

    Raises:
        UsageError: a launcher says that there are others, and they do not meet.
        EngineFailed: in the block, another process broke off, or the launcher ended this one.
    """
    size = launched_size(os.environ)
    if size == 1:
        yield Team()
        return
    from accelerate import PartialState  # type: ignore[import-untyped]

    try:
        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"the launcher asks for {size} processes, which do not meet: {reason}", hint=HOW
        ) from error
    team = Team(state.process_index, state.num_processes)
    try:
        with _ended_in_one_sentence(team):
            yield team
    except RuntimeError as error:
        if "gloo" in str(error) or isinstance(error, distributed.DistError):
            raise lost_the_others(team, error) from error
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        PartialState._reset_state()


def launched_size(environment: Mapping[str, str]) -> int:
    """How many processes a launcher has started; 1 without one.

    Raises:
        UsageError: `accelerate launch` was asked for several and has started one alone, which it
            does on a CPU without MPI, and says nothing.
    """
    size = max(int(environment.get(name) or 1) for name in SIZES)
    is_accelerate = "ACCELERATE_MIXED_PRECISION" in environment
    if size == 1 and is_accelerate and environment.get("MASTER_ADDR"):
        raise UsageError(
            "accelerate launch was asked for several processes and has started one alone, as it "
            "does with --cpu and on a machine without GPUs",
            hint="accelerate launch --multi_gpu --num_processes 2 --no_python edgestream train "
            f"lora … starts them on a CPU too; or {HOW}",
        )
    return size


@contextmanager
def _ended_in_one_sentence(team: Team) -> Iterator[None]:
    """Where the launcher ends this process, because another broke off, it says so."""

    def tell(number: int, frame: FrameType | None) -> None:
        raise EngineFailed(
            f"process {team.rank} of {team.size} was ended by its launcher: another has broken off",
            hint="repeat the command: the run goes on from its last checkpoint",
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
