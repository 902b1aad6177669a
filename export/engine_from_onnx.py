"""Compiles the TensorRT variants of a bundle into a folder of engines, ahead of time.

TensorRT-RTX compiles on any x86 machine, for architectures that need not be there; TensorRT for
the GPU of this machine alone. The bundle is not changed: a device finds an engine by what it was
made of (runtime/engine_cache.py), and the same graph gives the same bytes again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from ..runtime.bundle import Bundle
from ..runtime.engine_cache import EngineCache, engine_key
from ..runtime.engines.cuda_device import first_gpu
from ..runtime.engines.trt_build import can_build
from ..runtime.engines.trt_module import imported
from ..runtime.engines.trt_phases import Phase, phases_of
from ..runtime.errors import BackendMissing, EngineUnusable, UsageError
from .engine_worker import compiled_apart

RTX_TARGETS = ("sm86", "sm89", "sm120")
"""GeForce and RTX cards of the series 30, 40 and 50; it knows no data-centre card of SM 9.0."""
# Types that some architectures lack, as builders call them → as ONNX does.
_SPECIAL = {
    "int4": TensorProto.INT4,
    "fp8": TensorProto.FLOAT8E4M3FN,
    "bf16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """One engine.

    Attributes:
        role: of the part.
        phase: what it is compiled for, as `decode`.
        target: architecture, as `sm89`.
        path: its folder.
        n_bytes: of the engine.
    """

    role: str
    phase: str
    target: str
    path: Path
    n_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Its entry in what `export --json` prints."""
        return {**asdict(self), "path": str(self.path)}


def check_builder(provider: str) -> Any:
    """The module that compiles for a provider.

    Raises:
        BackendMissing: it is not installed, or only runs engines; or there is no GPU, and it
            compiles for one that is there.
        UsageError: the provider has no engines.
    """
    if provider not in ("tensorrt", "tensorrt-rtx"):
        raise UsageError(
            f"got --engines with --target {provider}, which has none",
            hint="--target tensorrt-rtx, or tensorrt on the device itself",
        )
    module = imported(provider)
    if not can_build(module):
        raise BackendMissing(
            f"{module.__name__} {module.__version__} runs engines and compiles none",
            hint="install the whole package, not its lean or dispatch runtime",
        )
    if provider == "tensorrt":
        first_gpu()
    return module


def build_engines(
    bundle: Bundle,
    provider: str,
    folder: Path,
    targets: Sequence[str] = (),
    *,
    tell: Callable[[str, str], None] = lambda stage, part: None,
) -> tuple[BuiltEngine, ...]:
    """Compile every variant of a provider; engines that are there already are not made again.

    Args:
        bundle: with variants of the provider.
        provider: tensorrt or tensorrt-rtx.
        folder: gets one folder for each engine.
        targets: architectures as `sm89`; none: RTX_TARGETS, or the GPU of this machine.
        tell: called before each engine is compiled.

    Raises:
        BackendMissing, UsageError: as `check_builder`.
        EngineUnusable: a graph cannot be compiled for a target; the message names the node.
        OutputError: the folder cannot be written.

    Cost: seconds for small graphs; three times the weights in memory.
    """
    module = check_builder(provider)
    if not targets:
        targets = RTX_TARGETS if provider == "tensorrt-rtx" else (first_gpu().target,)
    # What was asked for by name is not thrown away to make room.
    cache = EngineCache(folder, most_bytes=sys.maxsize)
    return tuple(_built(bundle, provider, module, cache, targets, tell))


def _built(
    bundle: Bundle,
    provider: str,
    module: Any,
    cache: EngineCache,
    targets: Sequence[str],
    tell: Callable[[str, str], None],
) -> Iterator[BuiltEngine]:
    for role, variant in bundle.manifest.variants():
        if variant.provider != provider:
            continue
        for phase in phases_of(bundle.path(variant.file), variant):
            for target in targets:
                tell("compiling", f"{role} ({target})")
                key = engine_key(phase.graph, phase.data, phase.sizes, module, target)
                if cache.find(key) is None:
                    cache.publish(key, engine_of(provider, phase, target))
                kept = cache.find(key)
                assert kept is not None, "it was published, and nothing is too large"
                yield BuiltEngine(role, phase.name, target, cache.folder / key.name, kept.nbytes)


def engine_of(provider: str, phase: Phase, target: str) -> bytes:
    """The engine of one phase.

    Raises:
        EngineUnusable: names the node, with the words of the parser or builder.
    """
    try:
        return compiled_apart(provider, phase, target if provider == "tensorrt-rtx" else None)
    except EngineUnusable as fault:
        node = node_of_type(onnx.load(str(phase.graph), load_external_data=False), fault.message)
        if node is None:
            raise
        raise EngineUnusable(
            f"{fault.message}; for {target}, the first such node is {node}",
            hint="choose another scheme for this architecture, as --llm fp32",
        ) from fault


def node_of_type(model: ModelProto, words: str) -> str | None:
    """The first node that reads an element type of which a builder complains; None without one."""
    if "datatype" not in words.lower():
        return None
    for word, kind in _SPECIAL.items():
        if word not in words.lower():
            continue
        typed = {one.name for one in model.graph.initializer if one.data_type == kind}
        for node in model.graph.node:
            if typed.intersection(node.input):
                return f"{node.name} ({node.op_type})"
    return None
