"""ONNX Runtime's CPU in the place of other engines, for proofs: it rounds where the graph does."""

from __future__ import annotations

from typing import Any

from ..runtime.engines.ort import OrtBackend

EXACT_PRODUCTS = 1
"""MatMulNBits' accuracy_level: activations stay float32."""


class ExactBackend(OrtBackend):
    """ONNX Runtime that multiplies stored blocks by float32, where it would round to int8."""

    def _options(self) -> Any:
        options = super()._options()
        key = "session.qdq_matmulnbits_accuracy_level"
        options.add_session_config_entry(key, str(EXACT_PRODUCTS))
        return options


class PairwiseBackend(OrtBackend):
    """ONNX Runtime that computes Q/DQ pairs as they stand, where it would join them with products.

    Joined, 1.31 fails at pairs of int8 before a product with a sum behind it.
    """

    def _options(self) -> Any:
        options = super()._options()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        return options
