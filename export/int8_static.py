"""Static int8 for vision and connector: Q/DQ pairs whose ranges come from calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from ..quant.schemes import Ranges
from ..runtime.errors import EngineError
from ..runtime.values import Float32
from .int8_vision import stored_int8
from .onnx_from_torch import constant_matmuls, without_traces
from .quiet import quiet
from .unsigned_weights import keep_unsigned


def static_from_float(
    source: Path, target: Path, ranges: Ranges, examples: Sequence[Mapping[str, Float32]]
) -> None:
    """Write the static int8 form of a float32 graph: MatMul and Gemm by a constant, nothing else.

    What such a node reads and gives is quantized to uint8 with one scale each, found over the
    examples; what it multiplies by, to int8 with a scale per channel, kept as `unsigned_weights`
    says. Were what it gives left as it is, onnxruntime would join it with the bias behind it to a
    float product, three times slower.

    Args:
        source: .onnx, float32, weights inside.
        target: .onnx to write.
        ranges: `minmax`, `entropy` or `percentile` (99.999 %) of what was read.
        examples: inputs of the graph by name.

    Raises:
        EngineError: the quantizer left a matrix as it was.

    Cost: the graph once per example with all that its matrices read kept; `entropy` and
        `percentile` keep histograms, and take seconds a tensor.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    model = onnx.load(str(source))
    before = constant_matmuls(model)
    with quiet():
        quantize_static(
            str(source),
            str(target),
            _Reader(examples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            # Else a constant that is multiplied from the left, such as pooling, would go too.
            nodes_to_quantize=[n.name for n in model.graph.node if {*n.input[1:2]} & {*before}],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[ranges],
            extra_options={
                "MatMulConstBOnly": True,
                "QuantizeBias": False,
            },
        )
    graph = keep_unsigned(without_traces(onnx.load(str(target))))
    onnx.save(graph, str(target))
    left, made = constant_matmuls(graph), len(stored_int8(graph))
    if left or made != len(before):
        raise EngineError(
            f"static quantization made {made} of {len(before)} matrices of {source.name} and left "
            f"{', '.join(left) or 'none'}"
        )


class _Reader:
    """onnxruntime's CalibrationDataReader over a list."""

    def __init__(self, examples: Sequence[Mapping[str, Float32]]) -> None:
        self._left: Iterator[Mapping[str, Float32]] = iter(examples)

    def get_next(self) -> dict[str, Float32] | None:
        """The next inputs, or None behind the last."""
        found = next(self._left, None)
        return None if found is None else dict(found)
