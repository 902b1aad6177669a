"""Compiling an ONNX graph with TensorRT or TensorRT-RTX, for one GPU architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import EngineUnusable
from .trt_module import faults_told, log_of, refused
from .trt_phases import Phase, Range


def can_build(trt: Any) -> bool:
    """Whether a module compiles graphs; the `lean` one and the `dispatch` one only run them."""
    return hasattr(trt, "Builder") and hasattr(trt, "OnnxParser")


def built_engine(trt: Any, phase: Phase, target: str | None = None) -> bytes:
    """The engine of a graph.

    Args:
        trt: the imported module.
        phase: the graph, and the sizes that it shall run with.
        target: architecture such as `sm86`; None: the GPU of this machine. Only TensorRT-RTX
            compiles for another one than that.

    Raises:
        EngineUnusable: the graph cannot be read, a node cannot be compiled, a size has no range,
            or the module has no such target; the message has the parser's or builder's words.
        DeviceMemoryExhausted: the device has too little memory to compile it.

    Cost: seconds for a small graph, minutes for a language model on a small board.
    """
    what = f"{phase.graph.name} cannot be compiled"
    with faults_told(trt, what):
        builder = trt.Builder(log_of(trt))
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, log_of(trt))
        if not parser.parse_from_file(str(phase.graph)):
            raise _unread(trt, parser, what)
        config = builder.create_builder_config()
        if target is not None:
            _aim(trt, config, target, what)
        _add_profile(builder, config, network, phase, what)
        blob = builder.build_serialized_network(network, config)
        if blob is None:
            raise refused(trt, what)
        return bytes(blob)


def _strongly_typed(trt: Any) -> int:
    """Types are those of the graph: older versions have a flag for it, newer ones know no other."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _unread(trt: Any, parser: Any, what: str) -> EngineUnusable:
    if not parser.num_errors:
        return EngineUnusable(refused(trt, what).message)
    fault = parser.get_error(0)
    node = f"node {fault.node_name() or fault.node()} ({fault.node_operator() or 'the graph'})"
    return EngineUnusable(
        f"{what}: {node}: {' '.join(fault.desc().split())}",
        hint="export the bundle again; this TensorRT may be older than the one it was made for",
    )


def _aim(trt: Any, config: Any, target: str, what: str) -> None:
    """Compile for an architecture that need not be here."""
    wanted = getattr(getattr(trt, "ComputeCapability", None), target.upper(), None)
    if wanted is None:
        raise EngineUnusable(
            f"{what}: {trt.__name__} {trt.__version__} has no target {target}",
            hint="use the provider tensorrt or cuda on this GPU",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)


def _add_profile(builder: Any, config: Any, network: Any, phase: Phase, what: str) -> None:
    """One profile: every free size of an input gets the range that stands under its name."""
    profile, free = builder.create_optimization_profile(), []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        names = [tensor.get_dimension_name(axis) for axis in range(len(shape))]
        ranges = [
            _of(phase.sizes, name, size, tensor.name, what)
            for name, size in zip(names, shape, strict=True)
        ]
        bounds = [tuple(sizes) for sizes in zip(*ranges, strict=True)]
        profile.set_shape(tensor.name, *bounds)
        free.append(f"{tensor.name} {' '.join(str(list(bound)) for bound in bounds)}")
    if free and config.add_optimization_profile(profile) < 0:
        raise EngineUnusable(
            f"{what}: got the shapes {'; '.join(free)}, expected a least, a usual and a greatest "
            "one for each input",
            hint="export the bundle again",
        )


def _of(sizes: Mapping[str, Range], name: str, size: int, tensor: str, what: str) -> Range:
    if size >= 0:
        return size, size, size
    if name not in sizes:
        raise EngineUnusable(
            f"{what}: the size {name!r} of {tensor} has no range, expected one of "
            f"{', '.join(sizes) or 'none'}",
            hint="export the bundle again",
        )
    return sizes[name]
