"""Processes that train one model: each takes a share of a batch, gradients are averaged."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from ..runtime.errors import EngineFailed

PATIENCE = timedelta(minutes=10)
"""How long one waits for another: longer than writing a checkpoint, shorter than a night."""


@dataclass(frozen=True, slots=True)
class Team:
    """Who takes part.

    Attributes:
        rank: of this process, from 0; the first one writes, logs and decides.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def average_(self, gradients: Iterable[Tensor], numbers: Tensor) -> Tensor:
        """Average gradients in place, and a few numbers with them.

        Args:
            gradients: the same shapes in every process.
            numbers: (n,) float32.

        Returns:
            (n,) the numbers' average over all processes.

        Raises:
            EngineFailed: another process has broken off.

        Cost: one exchange of everything; about 10 ms for 2 M numbers between two processes.
        """
        if self.size == 1:
            return numbers
        parts = list(gradients)
        flat = torch.cat([*(part.reshape(-1) for part in parts), numbers.to(torch.float32)])
        try:
            distributed.all_reduce(flat)
        except RuntimeError as error:
            raise lost_the_others(self, error) from error
        flat /= self.size
        at = 0
        for part in parts:
            part.copy_(flat[at : at + part.numel()].view_as(part))
            at += part.numel()
        return flat[at:].clone()

    def wait(self) -> None:
        """Until all are here.

        Raises:
            EngineFailed: another process has broken off.
        """
        if self.size == 1:
            return
        try:
            distributed.barrier()
        except RuntimeError as error:
            raise lost_the_others(self, error) from error


def lost_the_others(team: Team, error: RuntimeError) -> EngineFailed:
    """What a process says whose exchange with the others failed."""
    told = " ".join(str(error).split()).partition(". This is typically")[0]
    reason = told[told.find("]") + 1 :].strip() if told.startswith("[/") else told
    return EngineFailed(
        f"process {team.rank} of {team.size} has lost the others, one of which broke off: {reason}",
        hint="repeat the command: the run goes on from its last checkpoint",
    )


@contextmanager
def team_of(
    size: int, meeting: Path, work: Callable[..., object], given: tuple[Any, ...]
) -> Iterator[Team]:
    """This process as the first of a team, for as long as the block lasts.

    The others call `work(team, *given)` in processes of their own. Where one of them breaks off,
    the next exchange fails here; where this one is killed, it fails there.

    Args:
        size: 1 for this process alone.
        meeting: a file by which they find each other; it is made anew.
        work: a function of a module.
        given: what it takes, can be pickled.
    """
    if size == 1:
        yield Team()
        return
    meeting.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_begin, args=(rank, size, meeting, work, given), daemon=True)
        for rank in range(1, size)
    ]
    for other in others:
        other.start()
    try:
        with _joined(0, size, meeting) as team:
            yield team
        for other in others:
            other.join(PATIENCE.total_seconds())
    finally:
        for other in others:
            if other.is_alive():
                other.terminate()
        meeting.unlink(missing_ok=True)


@contextmanager
def _joined(rank: int, size: int, meeting: Path) -> Iterator[Team]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting.resolve()}", rank=rank, world_size=size,
        timeout=PATIENCE,
    )  # fmt: skip
    try:
        yield Team(rank, size)
    finally:
        distributed.destroy_process_group()


def _begin(
    rank: int, size: int, meeting: Path, work: Callable[..., object], given: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    try:
        with _joined(rank, size, meeting) as team:
            work(team, *given)
    except (KeyboardInterrupt, EngineFailed):
        return  # the first process has left, or tells the same
