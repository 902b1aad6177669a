"""The one-way road from a checkpoint to a bundle: load, write, prove, and only then keep."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..calibration.dataset import CalibrationSet
from ..calibration.parity import ParityReport
from ..calibration.report import report_html
from ..models.adapters import merge_adapter
from ..models.families import load_checkpoint
from ..models.family import Checkpoint, LoadOptions
from ..models.other_gate import with_gate
from ..runtime.file_names import GOLDEN_FILE
from ..runtime.golden import GoldenCall, write_golden
from ..runtime.prompt_layout import check_layout
from .adapter_inputs import PackedAdapter
from .added_variants import Added, added_variants, check_target
from .calibration_of_export import calibration_for
from .embeddings import StoredEmbeddings
from .full_disk import full_disk_told
from .graphs import Graph, Schemes, write_graphs
from .manifest_facts import manifest_facts
from .model_card import model_card
from .plans import check_capacity, checked_plans, plans_text
from .proof_data import ANSWERS, ProofData, proof_data
from .prove import prove
from .refusal import refusal
from .searched import SEARCH_FILE, Searched
from .swappable_adapters import (
    ReadAdapter,
    adapter_facts,
    keep_adapters,
    prove_adapters,
    read_adapters,
)
from .write_bundle import BundleWriter, bundle_writer

# Told as (stage, part): `loading`, `calibrating`, `writing`, `proving` or `keeping`, which part.
Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class ExportChoice:
    """What the user asked for.

    Attributes:
        schemes: how each part is kept.
        adapter: PEFT folder that is merged first; None for none.
        adapters: name → PEFT folder of those that are kept beside the model, to be chosen.
        gate: folder of a gate that takes the place of the checkpoint's; None for its own.
        calibration: folder of a calibration set; None for frames of the rendered clips.
        name: of the bundle.
        capacity: positions of the decoder's cache.
        threads: of each engine in the proofs.
        force: replace an older bundle under the same name.
        report: where the report goes as well, also when the proof fails; None for nowhere.
        options: what of the checkpoint was chosen.
        searched: how the schemes were found; None where the user named them.
        target: `cuda`, `tensorrt` or `tensorrt-rtx` adds variants to those of the CPU.
    """

    schemes: Schemes
    name: str
    adapter: Path | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)
    gate: Path | None = None
    calibration: Path | None = None
    capacity: int = 512
    threads: int = 1
    force: bool = False
    report: Path | None = None
    options: LoadOptions = field(default_factory=LoadOptions)
    searched: Searched | None = None
    target: str = "cpu"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made.

    Attributes:
        bundle_sha256: of the bundle.
        report: all checks.
        n_bytes: size of the bundle.
        searched: how its schemes were found; None where they were named.
        notes: of the checkpoint.
    """

    bundle_sha256: str
    report: ParityReport
    n_bytes: int
    searched: Searched | None = None
    notes: tuple[str, ...] = ()


def export_bundle(folder: Path, target: Path, choice: ExportChoice, tell: Tell) -> Exported:
    """Turn a checkpoint folder into a bundle, or refuse and leave nothing behind.

    Args:
        folder: a checkpoint.
        target: folder of the bundle.
        choice: what was asked for.
        tell: called before each step.

    Raises:
        BundleError: the checkpoint or adapter is incomplete, damaged or of another kind.
        EngineError: a part cannot be written or run.
        QualityError: the calibration set is of no use, or a gate of the proof failed.
        OutputError: the bundle cannot be written.

    Cost: time and memory are those of its largest part in float32, about three times over.
    """
    return export_loaded(loaded(folder, choice, tell), target, choice, tell)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What an export is made of.

    Attributes:
        folder: of the checkpoint.
        checkpoint: full precision, adapter merged.
        calibration: at its input size.
        adapters: that are kept beside it.
    """

    folder: Path
    checkpoint: Checkpoint
    calibration: CalibrationSet
    adapters: tuple[ReadAdapter, ...] = ()

    def tokenizer_file(self, place: Path) -> Path:
        """The checkpoint's own tokenizer.json, or what its older files make, written to `place`."""
        own = self.folder / "tokenizer.json"
        if own.is_file():
            return own
        made = place / "tokenizer.json"
        made.write_text(self.checkpoint.tokenizer.to_str(), "utf-8")
        return made


def loaded(folder: Path, choice: ExportChoice, tell: Tell) -> Loaded:
    """Everything that is read before anything is written; raises as `export_bundle` does."""
    tell("loading", "checkpoint")
    checkpoint = with_gate(load_checkpoint(folder, choice.options), choice.gate)
    check_capacity(checkpoint, choice.capacity)
    if choice.adapter is not None:
        tell("loading", "adapter")
        checkpoint = merge_adapter(checkpoint, choice.adapter)
    check_layout(checkpoint.layout, checkpoint.tokenizer)
    adapters = read_adapters(checkpoint, choice.adapters)
    tell("loading", "calibration")
    return Loaded(folder, checkpoint, calibration_for(checkpoint, choice.calibration), adapters)


def export_loaded(model: Loaded, target: Path, choice: ExportChoice, tell: Tell) -> Exported:
    """The rest of `export_bundle`."""
    checkpoint, calibration = model.checkpoint, model.calibration
    checked_plans(checkpoint, choice.schemes)
    check_target(choice.target, checkpoint, choice.schemes, has_adapters=bool(model.adapters))
    with (
        bundle_writer(target, force=choice.force) as writer,
        full_disk_told(writer.folder),
    ):
        tokenizer_file = _tokenizer_file(checkpoint, model.folder, writer)
        graphs = write_graphs(
            checkpoint,
            choice.schemes,
            tokenizer_file,
            writer.folder,
            lambda part: tell("writing", part),
            _examples(checkpoint, choice.schemes, calibration, tell),
        )
        writing = partial(tell, "writing")
        folder, capacity = writer.folder, choice.capacity
        added = added_variants(choice.target, checkpoint, graphs, folder, capacity, writing)
        # After those: it gives the CPU's decoder, which they are made of, more inputs.
        packed = keep_adapters(checkpoint, graphs, model.adapters, writer.folder)
        report, golden = _proven(model, graphs, added, packed, choice, tell)
        graphs = (*graphs, *added.graphs)
        tell("keeping", "bundle")
        sha256 = _keep(writer, model, graphs, packed, report, golden, choice)
    n_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return Exported(sha256, report, n_bytes, choice.searched, checkpoint.notes)


def _tokenizer_file(checkpoint: Checkpoint, folder: Path, writer: BundleWriter) -> Path:
    """tokenizer.json of the bundle: the checkpoint's own, or what its older files make."""
    if (folder / "tokenizer.json").is_file():
        writer.copy("tokenizer.json", folder / "tokenizer.json")
    else:
        writer.write_text("tokenizer.json", checkpoint.tokenizer.to_str())
    return writer.path("tokenizer.json")


def _examples(
    checkpoint: Checkpoint, schemes: Schemes, calibration: CalibrationSet, tell: Tell
) -> ProofData | None:
    """What calibrated schemes are fitted to; None where there are none."""
    if not schemes.are_calibrated:
        return None
    tell("calibrating", "reference")
    return proof_data(checkpoint, calibration, is_for_fitting=True)


def _proven(
    model: Loaded,
    graphs: Sequence[Graph],
    added: Added,
    packed: Sequence[PackedAdapter],
    choice: ExportChoice,
    tell: Tell,
) -> tuple[ParityReport, list[GoldenCall]]:
    def proving(part: str) -> None:
        tell("proving", part)

    proving("reference")
    checkpoint, calibration = model.checkpoint, model.calibration
    data = proof_data(checkpoint, calibration)
    proof = prove(checkpoint, graphs, data, choice.threads, proving)
    more = added.prove(data, proof, choice.threads, proving)
    proof.checks += more.checks
    proof.golden += more.golden
    facts = {
        "calibration": f"{calibration.source}, {len(calibration.frames)} frames",
        "calibration sha256": calibration.sha256,
        "frames compared": len(data.pixels),
        "prefixes compared": len(data.prefixes),
        "answers compared": f"{ANSWERS}, greedy, of full precision",
        "processor": platform.machine(),
        **({"notes": "; ".join(checkpoint.notes)} if checkpoint.notes else {}),
    }
    if packed:
        proving("adapters")
        decoder = next(graph for graph in graphs if graph.role == "decoder")
        pairs = tuple(zip(model.adapters, packed, strict=True))
        proof.checks += prove_adapters(checkpoint, decoder, pairs, data, choice.threads)
    report = ParityReport(tuple(proof.checks), facts)
    if choice.report is not None:
        every = (*graphs, *added.graphs)
        choice.report.write_text(_page(checkpoint, report, every, choice), "utf-8")
    if not report.passed:
        raise refusal(report, choice.report)
    return report, proof.golden


def _page(
    checkpoint: Checkpoint, report: ParityReport, graphs: Sequence[Graph], choice: ExportChoice
) -> str:
    parts = [
        {
            "role": graph.role,
            "variant": graph.variant,
            "scheme": graph.scheme_name,
            "bytes": graph.n_bytes(),
        }
        for graph in graphs
    ]
    plans = checked_plans(checkpoint, choice.schemes)
    more = "" if choice.searched is None else choice.searched.as_html()
    return report_html(choice.name, report, plans_text(plans), parts, more)


def _keep(
    writer: BundleWriter,
    model: Loaded,
    graphs: Sequence[Graph],
    packed: Sequence[PackedAdapter],
    report: ParityReport,
    golden: Sequence[GoldenCall],
    choice: ExportChoice,
) -> str:
    """Everything beside the graphs, then the manifest."""
    checkpoint, calibration = model.checkpoint, model.calibration
    StoredEmbeddings(checkpoint).write(writer.path("embeddings.bin"))
    write_golden(writer.path(GOLDEN_FILE), golden)
    writer.write_json("parity.json", report.as_json())
    writer.write_text("report.html", _page(checkpoint, report, graphs, choice))
    facts = manifest_facts(checkpoint, graphs, calibration, report, choice.name, choice.capacity)
    if packed:
        facts["adapters"] = adapter_facts(packed, checkpoint.source.sha256)
    if choice.searched is not None:
        facts["search"] = choice.searched.summary()
        writer.write_json(SEARCH_FILE, choice.searched.as_json())
    writer.write_text("MODEL_CARD.md", model_card(facts, report))
    return writer.finish(facts)
