"""Variants beside those of the CPU, for the device that --target names: written, then proven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.family import Checkpoint
from ..runtime.engines.trt_module import MODULES
from ..runtime.errors import UsageError
from .cuda_graphs import remove_twins, write_cuda_graphs
from .graphs import Graph, Schemes
from .proof_data import ProofData
from .prove import Proof
from .prove_cuda import prove_cuda
from .prove_trt import prove_trt
from .trt_variants import check_trt, write_trt_graphs

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """What was written for a target.

    Attributes:
        graphs: of all parts; none for the CPU.
        prove: data, what the CPU's proof found, threads, and who hears of each part → checks and
            golden calls of `graphs`. Called once: what was written for the proof alone goes then.
    """

    graphs: tuple[Graph, ...] = ()
    prove: Callable[[ProofData, Proof, int, Tell], Proof] = lambda *given: Proof()


def check_target(
    target: str, checkpoint: Checkpoint, schemes: Schemes, *, has_adapters: bool = False
) -> None:
    """Refuse before anything heavy what a target cannot hold.

    Raises:
        SchemeUnknown: as `check_trt` says.
        UsageError: adapters that are swapped in a run.
    """
    if target in MODULES:
        if has_adapters:
            raise UsageError(
                f"got --adapters with --target {target}, whose decoder has no inputs for them",
                hint="merge one with --adapter, or export without --target",
            )
        check_trt(checkpoint, schemes)


def added_variants(
    target: str,
    checkpoint: Checkpoint,
    graphs: Sequence[Graph],
    folder: Path,
    capacity: int,
    tell: Tell,
) -> Added:
    """Write the variants of a target.

    Args:
        target: cpu, cuda, tensorrt or tensorrt-rtx.
        checkpoint: full precision.
        graphs: of the CPU, as written.
        folder: where they lie, and these shall.
        capacity: slots of the cache.
        tell: called with the name of each part before it is written.

    Raises:
        EngineError: a part cannot be turned into ONNX.
    """
    if target == "cuda":
        cuda = write_cuda_graphs(checkpoint, graphs, folder, tell)

        def prove_it(data: ProofData, cpu: Proof, threads: int, told: Tell) -> Proof:
            found = prove_cuda(checkpoint, cuda, data, threads, told)
            remove_twins(cuda)
            return found

        return Added(tuple(one.graph for one in cuda), prove_it)
    if target in MODULES:
        trt = write_trt_graphs(checkpoint, graphs, target, folder, capacity, tell)
        return Added(
            trt,
            lambda data, cpu, threads, told: prove_trt(
                checkpoint, trt, data, cpu, threads=threads, tell=told
            ),
        )
    return Added()
