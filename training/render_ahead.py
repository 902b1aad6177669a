"""Batches rendered ahead by processes of their own: for a GPU, which would wait for one core."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import fields
from types import TracebackType
from typing import Any

import torch

from .reference_recipe import Recipe
from .team import Team
from .vision_batches import VisionBatch
from .vision_stage import batch_of

AHEAD = 2
"""Batches that each renderer has waiting."""


class RenderAhead:
    """Gives the batch of a step, the same as `batch_of`; use it in a `with` block.

    State: the batches that are under way.

    Args:
        recipe: of the run.
        team: which clips are ours.
        renderers: processes.
    """

    def __init__(self, recipe: Recipe, team: Team, renderers: int) -> None:
        self._recipe, self._team, self._renderers = recipe, team, renderers
        self._pool = ProcessPoolExecutor(renderers, multiprocessing.get_context("spawn"))
        self._waiting: dict[tuple[int, int], Future[dict[str, Any]]] = {}

    def __call__(self, step: int, frames: int) -> VisionBatch:
        """The batch of a step; those that follow are begun."""
        for later in range(step, step + 1 + AHEAD * self._renderers):
            if (later, frames) not in self._waiting:
                self._waiting[later, frames] = self._pool.submit(
                    _arrays, self._recipe, self._team, later, frames
                )
        arrays = self._waiting.pop((step, frames)).result()
        for key in [key for key in self._waiting if key[0] <= step or key[1] != frames]:
            self._waiting.pop(key).cancel()
        return _batch(arrays)

    def __enter__(self) -> RenderAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _arrays(recipe: Recipe, team: Team, step: int, frames: int) -> dict[str, Any]:
    """A batch as numpy arrays, which go through a pipe as they are."""
    batch = batch_of(recipe, team, step, frames)
    return {
        one.name: {key: value.numpy() for key, value in part.items()}
        if isinstance(part := getattr(batch, one.name), Mapping)
        else part.numpy()
        for one in fields(batch)
    }


def _batch(arrays: dict[str, Any]) -> VisionBatch:
    made: dict[str, Any] = {
        name: {key: torch.from_numpy(value) for key, value in part.items()}
        if isinstance(part, dict)
        else torch.from_numpy(part)
        for name, part in arrays.items()
    }
    return VisionBatch(**made)
