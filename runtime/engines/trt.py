"""TensorRT and TensorRT-RTX as backends: a compiled engine from the cache, or compiled here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..engine import Tell, unheard
from ..engine_cache import EngineCache, EngineKey, default_folder, engine_key
from ..errors import EngineUnusable, OutputError
from ..manifest import TensorSpec, Variant
from .cuda_device import Device, first_gpu
from .declared import check_declared
from .trt_build import built_engine, can_build
from .trt_engine import CompiledPhase, TrtEngine
from .trt_module import DTYPES, MODULES, faults_told, imported, log_of, refused
from .trt_phases import Phase, phases_of

PAST = "past_key_values."
"""Begins the names of a decoder's cache."""


class TrtBackend:
    """Opens variants with TensorRT; see `Backend`.

    Args:
        provider: a key of MODULES.
        engines_dir: where compiled engines lie; None: the user's cache folder.
        tell: hears of each engine that is compiled, before and after.
        trt, device: the module and the GPU; None: those that are here.

    Raises:
        BackendMissing: the module is not installed, or there is no GPU.
    """

    def __init__(
        self,
        provider: str,
        engines_dir: Path | None = None,
        tell: Tell = unheard,
        *,
        trt: Any = None,
        device: Device | None = None,
    ) -> None:
        self.provider = provider
        self.cache = EngineCache(engines_dir or default_folder())
        self._tell = tell
        self._trt = imported(provider) if trt is None else trt
        # Before the module is asked for a runtime: without a driver, some versions crash at that.
        self._device = first_gpu() if device is None else device

    def open(self, graph: Path, variant: Variant) -> TrtEngine:
        """The engine of a variant, all its phases; see `Backend.open`.

        Cost: reads its compiled engines; where there are none, compiles them, for minutes.
        """
        trt = self._trt
        with faults_told(trt, f"{graph.name} cannot be opened"):
            runtime = trt.Runtime(log_of(trt))
            phases = [self._opened(runtime, phase) for phase in phases_of(graph, variant)]
            first = phases[0]
            for phase in phases:
                check_declared(phase.name, "inputs", phase.inputs, variant.inputs)
                check_declared(phase.name, "outputs", phase.outputs, variant.outputs)
            is_decoder = any(spec.name.startswith(PAST) for spec in first.inputs)
            return TrtEngine(self.provider, trt, phases, variant, self._device, not is_decoder)

    def _opened(self, runtime: Any, phase: Phase) -> CompiledPhase:
        trt = self._trt
        key = engine_key(phase.graph, phase.data, phase.sizes, trt, self._device.target)
        kept = self.cache.find(key)
        engine = None if kept is None else runtime.deserialize_cuda_engine(kept)
        if engine is None:
            # What was kept may be of another driver: it is compiled anew, once.
            engine = runtime.deserialize_cuda_engine(self._built(phase, key))
        if engine is None:
            raise refused(trt, f"the engine of {phase.graph.name} cannot be loaded")
        return _compiled(trt, phase.graph.name, engine)

    def _built(self, phase: Phase, key: EngineKey) -> bytes:
        trt = self._trt
        if not can_build(trt):
            raise EngineUnusable(
                f"got no compiled engine of {phase.graph.name} for {self._device.name} "
                f"({key.target}) and {key.module} {key.version}, which cannot compile one",
                hint=f"build it with `edgestream export CHECKPOINT --target {self.provider} "
                "--engines DIR`, and name DIR with --set engine.engines_dir=DIR",
            )
        is_elsewhere = self.provider == "tensorrt-rtx"
        what = f"{key.graph} ({phase.name}) for {key.target} with {key.module} {key.version}"
        self._tell(f"compiling {what}: once on this device, which may take minutes")
        begun_s = time.monotonic()
        blob = built_engine(trt, phase, key.target if is_elsewhere else None)
        self._tell(f"compiled {what} in {time.monotonic() - begun_s:.1f} s")
        with suppress(OutputError):  # it runs all the same, and is compiled again the next time
            self.cache.publish(key, blob)
        return blob


def _compiled(trt: Any, name: str, engine: Any) -> CompiledPhase:
    """An engine with a context, and what it takes and gives; free sizes have made-up names."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    is_input = {one: engine.get_tensor_mode(one) == trt.TensorIOMode.INPUT for one in names}
    specs = [_spec(name, engine, one) for one in names]
    context = engine.create_execution_context()
    if context is None:
        raise refused(trt, f"{name} got no room to run in")
    return CompiledPhase(
        name=name,
        engine=engine,
        context=context,
        inputs=tuple(spec for spec in specs if is_input[spec.name]),
        outputs=tuple(spec for spec in specs if not is_input[spec.name]),
        ranges={
            spec.name: tuple(map(tuple, engine.get_tensor_profile_shape(spec.name, 0)))
            for spec in specs
            if is_input[spec.name]
        },
        aliases=_aliases(engine, [one for one in names if not is_input[one]]),
    )


def _spec(name: str, engine: Any, tensor: str) -> TensorSpec:
    dtype = engine.get_tensor_dtype(tensor).name
    if dtype not in DTYPES:
        raise EngineUnusable(f"{name}: {tensor} is of the type {dtype}, which no array here has")
    shape = tuple(
        f"{tensor}.{axis}" if size < 0 else int(size)
        for axis, size in enumerate(engine.get_tensor_shape(tensor))
    )
    return TensorSpec(tensor, DTYPES[dtype], shape)


def _aliases(engine: Any, outputs: Sequence[str]) -> dict[str, str]:
    """Output → the input in whose memory it must lie; older versions know none."""
    ask = getattr(engine, "get_aliased_input_tensor", lambda name: None)
    found = ((name, ask(name)) for name in outputs)
    return {name: str(source) for name, source in found if source}


__all__ = ["MODULES", "TrtBackend"]
