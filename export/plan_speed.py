"""How fast written graphs are on this machine: one frame, one prompt and one token, in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..models.family import Checkpoint
from ..runtime.arena import Arena
from ..runtime.decoder_call import PAST
from ..runtime.engine import Engine
from ..runtime.engines.lane import OpenLane
from ..runtime.engines.ort import OrtBackend
from ..runtime.language_model import LanguageModel
from ..runtime.manifest_values import CacheShape
from ..runtime.token_rows import TokenRows
from ..runtime.values import Float32
from .graphs import Graph
from .plan_choice import ANSWER_TOKENS, PROMPT_POSITIONS
from .proof_data import ProofData

MOST_FRAMES = 16
BUDGET_S = 0.5
"""Of one figure in one round; the first sample it always has."""


@dataclass(slots=True)
class Stopwatch:
    """Times of engines. State: CPU and wall seconds so far.

    An engine of one thread runs in the thread that calls it: its CPU time is the time that it would
    take on an idle machine, whoever else runs here. Of several threads only wall time tells.

    Args:
        threads: of each engine.
    """

    threads: int
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def ms(self, call: Callable[[], object]) -> float:
        """How long the call takes by `clock`, ms."""
        wall_s, cpu_s, thread_s = time.perf_counter(), time.process_time(), time.thread_time()
        call()
        thread_s = time.thread_time() - thread_s
        took_s = time.perf_counter() - wall_s
        self.wall_s, self.cpu_s = self.wall_s + took_s, self.cpu_s + time.process_time() - cpu_s
        return 1e3 * (thread_s if self.clock == "cpu" else took_s)

    @property
    def clock(self) -> str:
        """What is measured: `cpu` or `wall`."""
        return "cpu" if self.threads == 1 else "wall"

    @property
    def cpu_share(self) -> float:
        """CPU time by wall time and thread; 1 where nobody disturbed."""
        return self.cpu_s / (self.wall_s * self.threads) if self.wall_s else 0.0


def frame_ms(graphs: Sequence[Graph], data: ProofData, watch: Stopwatch) -> float:
    """Median of one frame through vision and connector, ms.

    What comes before them and the gate between them are the same in every plan.

    Cost: both are opened, and about BUDGET_S.
    """
    backend, of = OrtBackend("cpu", watch.threads), {graph.role: graph for graph in graphs}
    with ExitStack() as stack:
        vision, connector = (
            stack.enter_context(backend.open(of[role].path)) for role in ("vision", "connector")
        )
        names = [spec.name for spec in connector.inputs]

        def look(index: int) -> None:
            tokens = vision.run({vision.inputs[0].name: data.pixels[index]})["tokens"]
            states = data.states[index : index + 1]
            connector.run(dict(zip(names, (tokens, *states), strict=False)))

        look(0)
        taken: list[float] = []
        begun_s = time.perf_counter()
        while not taken or (len(taken) < MOST_FRAMES and time.perf_counter() - begun_s < BUDGET_S):
            index = len(taken) % len(data.pixels)
            taken.append(watch.ms(lambda: look(index)))  # noqa: B023
    return median(taken)


def answer_ms(
    graph: Graph, checkpoint: Checkpoint, data: ProofData, watch: Stopwatch
) -> tuple[float, float]:
    """Medians of reading PROMPT_POSITIONS and of saying one token behind them, ms.

    The language model of the runtime, on its arena and in its chunks, as `edgestream run` has it.

    Cost: the decoder is opened, and about twice BUDGET_S.
    """
    rows = np.concatenate([one.embeds for one in data.prefixes])[:PROMPT_POSITIONS]
    with OrtBackend("cpu", watch.threads).open(graph.path) as engine:
        model = _language_model(engine, checkpoint, rows)

        def read() -> None:
            model.arena.reset()
            model.append(rows)

        read()
        model.append(rows[:1])
        prompts: list[float] = []
        tokens: list[float] = []
        begun_s = time.perf_counter()
        while not prompts or time.perf_counter() - begun_s < 2 * BUDGET_S:
            prompts.append(watch.ms(read))
            tokens += [watch.ms(lambda: model.append(rows[:1])) for _ in range(ANSWER_TOKENS)]
    return median(prompts), median(tokens)


def _language_model(engine: Engine, checkpoint: Checkpoint, rows: Float32) -> LanguageModel:
    """With an arena for one answer; tokens come as rows, so its table has none that counts."""
    past = [spec for spec in engine.inputs if spec.name.startswith(PAST)]
    _, heads, _, head_dim = past[0].shape
    assert isinstance(heads, int) and isinstance(head_dim, int)
    capacity = PROMPT_POSITIONS + ANSWER_TOKENS
    shape = CacheShape(len(past) // 2, heads, head_dim, capacity)
    arena = Arena(shape, checkpoint.positions, dtype=past[0].dtype)
    return LanguageModel(engine, arena, TokenRows(rows[:1]), OpenLane())
