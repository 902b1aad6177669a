"""A gate that hears when it last spoke, left to itself: what it decides is what it hears next."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.cognition_gate import CognitionGate
from ..runtime.last_spoke import spoken_of
from .gate_stage import told_of
from .gate_streams import GateBatch
from .gate_thresholds import GRID, Wishes

Scores = NDArray[np.float32]


@torch.no_grad()
def free_scores(
    gate: CognitionGate, batch: GateBatch, times_s: NDArray[np.float64], ratio: float
) -> Scores:
    """Scores of `speak` along one stream, for each threshold on its own.

    Where it speaks depends on the threshold, and its score on where it spoke. The state does not:
    it is made once, and the head alone goes from frame to frame, at all thresholds side by side.

    Args:
        gate: it reads `spoken`.
        batch: one whole stream; what it has of `spoken` is not read.
        times_s: (T,) of its frames, seconds.
        ratio: close_below as a share of open_above.

    Returns:
        (len(GRID), T) in [0, 1], for `run_at`.

    Cost: the head over len(GRID) rows a frame, on one thread at width 128: 0.2 ms of a linear one,
        0.4 of an MLP, 5 of four layers of a small language model.
    """
    count, device = len(GRID), batch.dt_s.device
    states = told_of(gate, batch).state_summary[0]
    query = None if batch.query is None else batch.query[0]
    tokens = batch.seen["tokens"][0] if "tokens" in batch.seen else None
    wishes, spoke_s = Wishes(np.array(GRID), ratio), np.full(count, -np.inf)
    nothing, found = np.zeros(count, np.bool_), np.zeros((count, len(times_s)), np.float32)
    for frame, time_s in enumerate(times_s):
        rows = (_rows(part, frame, count) for part in (states, query, tokens))
        state, asked, seen = rows
        assert state is not None
        spoken = torch.from_numpy(spoken_of(time_s - spoke_s)[:, None]).to(device)
        logits = gate.wish(state, asked, seen, spoken)[:, 0]
        found[:, frame] = torch.sigmoid(logits).cpu().numpy()
        spoke_s[wishes.step(found[:, frame], nothing)] = time_s
    return found


def run_at(scores: Scores, above: float) -> Scores:
    """(T,) of one stream at a threshold of GRID; scores (T,) are the same at all of them."""
    return scores if scores.ndim == 1 else scores[GRID.index(above)]


def _rows(part: Tensor | None, frame: int, count: int) -> Tensor | None:
    """What is there at a frame, once for each threshold."""
    return None if part is None else part[frame].expand(count, *part.shape[1:])
