"""The proof of a bundle, repeated on the host against the checkpoint it was made of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ..calibration.parity import ParityReport
from ..models.adapters import merge_adapter
from ..models.families import load_checkpoint
from ..models.family import Checkpoint, LoadOptions
from ..quant.schemes import Scheme, scheme_from_json, scheme_named
from ..runtime.bundle import Bundle
from ..runtime.errors import HashMismatch, PromptInvalid
from ..runtime.manifest_values import Variant
from ..runtime.prompt_json import layout_as_json
from ..runtime.prompt_layout import check_layout
from .calibration_of_export import calibration_for
from .graphs import Graph, write_large_part
from .int8_large import is_large
from .onnx_from_torch import onnx_from_torch
from .part_inputs import traced_parts
from .proof_data import proof_data
from .prove import prove

Tell = Callable[[str], None]


def reproven(
    bundle: Bundle,
    folder: Path,
    *,
    adapter: Path | None = None,
    calibration: Path | None = None,
    threads: int = 1,
    tell: Tell = lambda part: None,
) -> ParityReport:
    """All checks of an export, over the files of a bundle.

    Args:
        bundle: opened, its hashes checked.
        folder: the checkpoint.
        adapter: that was merged before the export.
        calibration: the set of the export; None for frames of the rendered clips.
        threads: of each engine.
        tell: called with the name of each part before it is proven.

    Raises:
        HashMismatch: the bundle was made of another checkpoint.
        PromptInvalid: the bundle's prompt is not the checkpoint's.

    Cost: that of the proofs in an export.
    """
    seen = bundle.manifest.input
    chosen = LoadOptions(seen.size_px[0], bundle.manifest.tokens_per_frame, seen.fps)
    checkpoint = load_checkpoint(folder, chosen)
    if adapter is not None:
        checkpoint = merge_adapter(checkpoint, adapter)
    _check_source(bundle, checkpoint, folder)
    layout = bundle.manifest.layout()
    check_layout(layout, checkpoint.tokenizer)
    if layout_as_json(layout) != layout_as_json(checkpoint.layout):
        raise PromptInvalid(
            f"prompt: gate engine: the layout of {bundle.manifest.name} is not that of {folder}",
            hint="export the bundle again",
        )
    data = proof_data(checkpoint, calibration_for(checkpoint, calibration))
    with tempfile.TemporaryDirectory(prefix="edgestream-verify-") as work:
        graphs = [
            _graph(bundle, checkpoint, role, variant, Path(work))
            for role, variant in bundle.manifest.variants()
        ]
        proof = prove(checkpoint, graphs, data, threads, tell)
    return ParityReport(tuple(proof.checks), {"against": folder.name})


def _check_source(bundle: Bundle, checkpoint: Checkpoint, folder: Path) -> None:
    made_of, given = bundle.manifest.source, checkpoint.source
    if made_of.sha256 != given.sha256 or made_of.adapter != given.adapter:
        raise HashMismatch(
            f"{bundle.manifest.name} was made of {made_of.checkpoint} {made_of.sha256[:12]}, "
            f"adapter {made_of.adapter}; got {folder} {given.sha256[:12]}, adapter {given.adapter}",
            hint="give the checkpoint and adapter that the manifest names",
        )


def _graph(
    bundle: Bundle, checkpoint: Checkpoint, role: str, variant: Variant, work: Path
) -> Graph:
    scheme = _scheme(variant)
    float_model = None
    if role in ("vision", "connector") and scheme.weights != "float32":
        part = traced_parts(checkpoint)[role]
        if is_large(part.module):
            traced = write_large_part(part, scheme, work / f"{role}.onnx")
            return Graph(role, variant.id, bundle.path(variant.file), scheme, traced=traced)
        names, examples = list(part.inputs), list(part.inputs.values())
        work_file = work / f"{role}.onnx"
        float_model = onnx_from_torch(part.module, examples, names, part.outputs, work_file)
    return Graph(role, variant.id, bundle.path(variant.file), scheme, float_model)


def _scheme(variant: Variant) -> Scheme:
    return scheme_named("fp32") if variant.scheme is None else scheme_from_json(variant.scheme)
