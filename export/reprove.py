"""The proof of a bundle, repeated on the host against the checkpoint it was made of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..calibration.dataset import CalibrationSet
from ..calibration.parity import ParityReport
from ..models.adapters import merge_adapter
from ..models.families import load_checkpoint
from ..models.family import Checkpoint, LoadOptions
from ..models.other_gate import with_gate
from ..quant.llm_words import exceptions_from_json
from ..quant.schemes import Scheme, scheme_from_json, scheme_named
from ..runtime.bundle import Bundle
from ..runtime.errors import AdapterMismatch, HashMismatch, PromptInvalid
from ..runtime.manifest_values import Source, Variant
from ..runtime.prompt_json import layout_as_json
from ..runtime.prompt_layout import check_layout
from .calibration_of_export import calibration_for
from .decoder_examples import decoder_hessians
from .given_graph import weights_of_given
from .graphs import Graph
from .onnx_from_torch import constant_matmuls, onnx_from_torch
from .part_inputs import traced_parts
from .proof_data import proof_data
from .prove import prove
from .traced_weights import traced_weights

Tell = Callable[[str], None]


def reproven(
    bundle: Bundle,
    folder: Path,
    *,
    adapter: Path | None = None,
    gate: Path | None = None,
    calibration: Path | None = None,
    threads: int = 1,
    tell: Tell = lambda part: None,
) -> ParityReport:
    """All checks of an export, over the files of a bundle that a CPU runs.

    Variants for other providers are held to their golden calls, on the device.

    Args:
        bundle: opened, its hashes checked.
        folder: the checkpoint.
        adapter: that was merged before the export.
        gate: that took the place of the checkpoint's own.
        calibration: the set of the export; None for frames of the rendered clips.
        threads: of each engine.
        tell: called with the name of each part before it is proven.

    Raises:
        HashMismatch: the bundle was made of another checkpoint, or with another gate.
        AdapterMismatch: it was made with another adapter, or with none.
        PromptInvalid: the bundle's prompt is not the checkpoint's.

    Cost: that of the proofs in an export.
    """
    seen = bundle.manifest.input
    chosen = LoadOptions(seen.size_px[0], bundle.manifest.tokens_per_frame, seen.fps)
    checkpoint = with_gate(load_checkpoint(folder, chosen), gate)
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
    calibrated = calibration_for(checkpoint, calibration)
    data = proof_data(checkpoint, calibrated)
    with tempfile.TemporaryDirectory(prefix="edgestream-verify-") as work:
        graphs = [
            _graph(bundle, checkpoint, role, variant, Path(work))
            for role, variant in bundle.manifest.variants()
            if variant.provider == "cpu"
        ]
        graphs = [_with_hessians(graph, checkpoint, calibrated) for graph in graphs]
        proof = prove(checkpoint, graphs, data, threads, tell)
    return ParityReport(tuple(proof.checks), {"against": folder.name})


def _check_source(bundle: Bundle, checkpoint: Checkpoint, folder: Path) -> None:
    """Refuse a checkpoint, an adapter or a gate that the bundle was not made of.

    Hashes say which it is; names are for people, as a copy has another one.
    """
    name, made_of, given = bundle.manifest.name, bundle.manifest.source, checkpoint.source
    if made_of.sha256 != given.sha256:
        raise HashMismatch(
            f"{name} was made of the checkpoint {made_of.checkpoint} ({made_of.sha256[:12]}…); got "
            f"{folder} ({given.sha256[:12]}…)",
            hint="give the checkpoint that the manifest names",
        )
    if _adapter_of(made_of) != _adapter_of(given):
        raise AdapterMismatch(
            f"another adapter was given than {name} was made with: got {_adapter_text(given)}, "
            f"expected {_adapter_text(made_of)}",
            hint="give with --adapter the folder that the export was given, or leave it out",
        )
    if made_of.extra.get("gate_sha256") != given.extra.get("gate_sha256"):
        raise HashMismatch(
            f"another gate was given than {name} was made with: got {_gate_text(given)}, expected "
            f"{_gate_text(made_of)}",
            hint="give with --gate the folder that the export was given, or leave it out",
        )


def _adapter_of(source: Source) -> str | None:
    """What tells the merged adapter from any other; None where none was merged."""
    return None if source.adapter is None else str(source.extra.get("adapter_sha256"))


def _adapter_text(source: Source) -> str:
    """Which adapter was merged, in a message."""
    sha256 = _adapter_of(source)
    return "none" if sha256 is None else f"{source.adapter} ({sha256[:12]}…)"


def _gate_text(source: Source) -> str:
    """Which gate it was, in a message."""
    name, sha256 = source.extra.get("gate"), source.extra.get("gate_sha256")
    return "that of the checkpoint" if sha256 is None else f"{name} ({str(sha256)[:12]}…)"


def _graph(
    bundle: Bundle, checkpoint: Checkpoint, role: str, variant: Variant, work: Path
) -> Graph:
    scheme = _scheme(variant)
    path = bundle.path(variant.file)
    if scheme.method == "given":
        given = weights_of_given(path, traced_parts(checkpoint)[role])
        return Graph(role, variant.id, path, scheme, given=given)
    traced = None
    if role in ("vision", "connector") and not scheme.is_exact:
        part = traced_parts(checkpoint)[role]
        names, examples = list(part.inputs), list(part.inputs.values())
        work_file = work / f"{role}.onnx"
        graph = onnx_from_torch(part.module, examples, names, part.outputs, work_file)
        traced = traced_weights(graph, constant_matmuls(graph), part.module, work)
    exceptions = exceptions_from_json((variant.scheme or {}).get("except"))
    return Graph(role, variant.id, path, scheme, traced, exceptions)


def _with_hessians(graph: Graph, checkpoint: Checkpoint, calibration: CalibrationSet) -> Graph:
    """The graph with what its matrices read, where its codes depend on that."""
    schemes = (graph.scheme, *(rule.scheme for rule in graph.exceptions))
    if all(scheme.method != "gptq" for scheme in schemes):
        return graph
    examples = proof_data(checkpoint, calibration, is_for_fitting=True)
    return replace(graph, hessians=decoder_hessians(checkpoint, examples))


def _scheme(variant: Variant) -> Scheme:
    return scheme_named("fp32") if variant.scheme is None else scheme_from_json(variant.scheme)
