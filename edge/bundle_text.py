"""A bundle in words: what it holds, and what verify found, for a terminal of any width."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ..runtime.bundle import Bundle
from ..runtime.golden_check import GoldenResult, OutputCheck
from ..runtime.manifest import Manifest, Variant
from .terminal import column_widths

LABEL_COLUMNS = 12
NARROWEST_TEXT_COLUMNS = 20
GAP = "  "
_GATES = ("engine", "snr_db", "agreement")
_HEADER = ("part", "variant", "provider", "scheme", "size", "proof")

Row = tuple[str, str]


def inspection_lines(bundle: Bundle, columns: int | None) -> list[str]:
    """What is in a bundle, for a width of so many columns; None for a pipe."""
    rows = [*_origin_rows(bundle), *_model_rows(bundle.manifest), *_proof_rows(bundle.manifest)]
    lines = [line for label, text in rows for line in wrapped(label, text, columns)]
    return [*lines, "", *_variant_table(bundle, columns)]


def result_lines(result: GoldenResult, columns: int | None) -> list[str]:
    """What one variant did: its verdict first, then its figures."""
    label = result.role if result.adapter is None else "adapter"
    return wrapped(label, f"{verdict(result)}: {_what_it_did(result)}", columns)


def verdict(result: GoldenResult) -> str:
    """One word: passed, failed or skipped."""
    return "skipped" if result.is_skipped else "passed" if result.passed else "failed"


def wrapped(label: str, text: str, columns: int | None) -> list[str]:
    """A label and its text, the text in a column of its own; nothing that moves the cursor."""
    text = printable(text)
    width = len(text) + 1
    if columns is not None:
        width = max(NARROWEST_TEXT_COLUMNS, columns - LABEL_COLUMNS)
    first, *rest = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    head = printable(label).ljust(LABEL_COLUMNS)
    return [(head + first).rstrip(), *(" " * LABEL_COLUMNS + line for line in rest)]


def printable(text: str) -> str:
    """The text without control characters: a bundle may come from anywhere."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def size_text(n_bytes: int) -> str:
    """A size for people, in decimal units as disks have them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes} B"


def scheme_text(scheme: Mapping[str, Any] | None) -> str:
    """How weights and activations are kept, in a few words."""
    if not scheme:
        return "as trained"
    words = [str(scheme.get("weights", "?"))]
    if scheme.get("block"):
        words.append(f"block {scheme['block']}")
    if scheme.get("symmetric") is False:
        words.append("asymmetric")
    if scheme.get("method"):
        words.append(str(scheme["method"]))
    if scheme.get("activations"):
        words.append(f"act {scheme['activations']}")
    if scheme.get("weights") == "nf4":
        words.append("slow, for comparisons")
    if scheme.get("ranges"):
        words.append(f"static ({scheme['ranges']})")
    for one in scheme.get("except") or ():
        if isinstance(one, Mapping):
            words.append(f"but {one.get('tensors')} {one.get('weights')} block {one.get('block')}")
    return printable(" ".join(words))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _origin_rows(bundle: Bundle) -> Iterator[Row]:
    manifest = bundle.manifest
    source = manifest.source
    tools = ", ".join(f"{name} {version}" for name, version in sorted(manifest.made_with.items()))
    revision = f" at {source.revision}" if source.revision else ""
    yield "bundle", f"{manifest.name}, format {manifest.format}"
    yield "sha256", bundle.sha256
    yield "made", f"{manifest.created} with {tools or 'nothing that it names'}"
    yield "from", f"{source.checkpoint}{revision}, family {source.family}"
    if source.adapter:
        yield "adapter", f"{source.adapter}, merged"
    for one in manifest.adapters or ():
        yield "adapter", f"{one.name}, rank {one.rank}, beside the model: run --adapter {one.name}"
    yield "licence", source.licence
    how = "every file hashed" if bundle.is_checked else "not hashed: `edgestream verify` does that"
    yield "size", f"{size_text(bundle.n_bytes)} in {len(manifest.files)} files, {how}"


def _model_rows(manifest: Manifest) -> Iterator[Row]:
    frame = manifest.input
    height, width = frame.size_px
    tokens = _counted(manifest.tokens_per_frame, "token")
    reads = "" if frame.motion is None else f", with {len(frame.motion.maps)} motion maps"
    size = f"{width} x {height} px{reads}"
    yield "frame", f"{size}, {frame.resize}, {frame.fps:g} fps, becomes {tokens}"
    if manifest.embeddings is not None:
        vocabulary, dim = manifest.embeddings.shape
        yield "words", f"{vocabulary} tokens of {dim} numbers, {manifest.embeddings.dtype}"
    if (cache := manifest.cache) is not None:
        text = f"{_counted(cache.layers, 'layer')}, {_counted(cache.kv_heads, 'head')}"
        yield (
            "cache",
            f"{text} of {cache.head_dim}, {cache.capacity} positions{_positions_text(manifest)}",
        )
    layout = manifest.layout()
    yield "prompt", f"{' '.join(layout.order)}; at most {layout.max_answer_tokens} tokens an answer"
    if (gate := manifest.gate) is not None:
        opens = ", ".join(f"{name} {share:g}" for name, share in gate.thresholds.items())
        events = ", ".join(gate.events) or "no events"
        asked = f"; reads a query of {gate.query_dim} numbers" if gate.query_dim else ""
        asked += "; hears when it last spoke" if gate.reads_spoken else ""
        yield "gate", f"{gate.kind}: {events}" + (f"; opens above {opens}" if opens else "") + asked


def _positions_text(manifest: Manifest) -> str:
    positions = manifest.positions
    if positions is None:
        return ""
    axes = f"{positions.axes} axes, " if positions.axes > 1 else ""
    grid = positions.frame_grid
    frames = f"frames of {grid[0]} x {grid[1]}, " if grid else ""
    return f" ({axes}{frames}theta {positions.theta:g})"


def _proof_rows(manifest: Manifest) -> Iterator[Row]:
    if (plan := manifest.memory) is not None:
        yield (
            "memory",
            f"weights {size_text(plan.weights_bytes)}, cache {size_text(plan.kv_bytes)}, "
            f"work {size_text(plan.workspace_bytes)}; "
            f"keeps {size_text(plan.budget_default_bytes)} by default"
            + (f"; shows {plan.topk} remembered frames" if plan.topk else ""),
        )
    if (facts := manifest.calibration) is not None:
        yield "calibrated", f"on {facts.frames} frames, {facts.source}"
    yield "parity", "passed" if manifest.parity["passed"] else "failed"
    gates = manifest.parity["gates"]
    for gate in sorted(gates, key=_GATES.index if set(gates) <= set(_GATES) else None):
        found = gates[gate]
        told = "; ".join(_figure(part, worst) for part, worst in found.items())
        yield f"  {gate}", told or "nothing to compare"


def _figure(part: str, worst: Any) -> str:
    """The worst figure of a part under one gate, with its bound."""
    if not isinstance(worst, Mapping):
        return f"{part} {worst}"
    value, must = worst.get("value"), worst.get("must")
    bound = f" (must be {must:g})" if isinstance(must, int | float) else ""
    number = f"{value:.5g}" if isinstance(value, int | float) else "exact"  # no noise, no decibels
    return f"{part} {worst.get('worst', '')} {number}{bound}"


def _variant_table(bundle: Bundle, columns: int | None) -> list[str]:
    """A row per variant; where the terminal is too narrow for that, a sentence per variant."""
    cells = [
        tuple(map(printable, _variant_cells(bundle.manifest, role, variant)))
        for role, variant in bundle.manifest.variants()
    ]
    widths = column_widths([_HEADER, *cells])
    if columns is not None and sum(widths) + len(GAP) * (len(widths) - 1) > columns:
        sentences = [(row[0], f"{row[1]} on {', '.join(row[2:])}") for row in cells]
        return [line for role, text in sentences for line in wrapped(role, text, columns)]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEADER, *cells)
    ]


def _variant_cells(manifest: Manifest, role: str, variant: Variant) -> tuple[str, ...]:
    data = (variant.file, f"{variant.file}.data")  # the graph, and its weights where they are apart
    n_bytes = sum(manifest.files[name].n_bytes for name in data if name in manifest.files)
    scheme = scheme_text(variant.scheme)
    return role, variant.id, variant.provider, scheme, size_text(n_bytes), variant.proof


def _what_it_did(result: GoldenResult) -> str:
    where = result.variant
    if result.adapter is not None:
        where = f"{result.adapter} on {where}"
    elif not where.startswith(result.provider):
        where += f" on {result.provider}"
    if result.is_skipped:
        return f"{where} ({result.proof}), nothing here runs it"
    if result.fault is not None:
        return f"{where}, {result.fault.message}"
    if not result.outputs:
        return f"{where}, the bundle has no golden call for it"
    calls = len({one.call for one in result.outputs})
    text = f"{where}, {_counted(calls, 'call')}, {result.run_ms:.0f} ms"
    if result.failures:
        told = [_failure_text(one) for one in result.failures]
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        return f"{text}; " + "; ".join(told[:3]) + more
    _, bound, output = max((*max(_bounds(one)), one.output) for one in result.outputs)
    return f"{text}, {output} {bound}"


def _bounds(check: OutputCheck) -> list[tuple[float, str]]:
    """How close an output comes to each of its bounds (1 is there), and both in words."""
    bounds, told = check.tolerance, []
    if (most := bounds.max_abs) is not None:
        strain = check.max_abs / most if most else math.inf if check.max_abs else 0.0
        told.append((strain, f"off by {check.max_abs:.2g} (≤ {most:.2g})"))
    for name, share, least in (
        ("cosine", check.cosine, bounds.min_cosine),
        ("argmax", check.argmax, bounds.min_argmax),
    ):
        if least is not None:
            strain = (1 - share) / (1 - least) if least < 1 else math.inf if share < 1 else 0.0
            told.append((strain, f"{name} {share:.5f} (≥ {least:g})"))
    return told


def _failure_text(check: OutputCheck) -> str:
    if math.isinf(check.max_abs) and check.argmax == 0:
        return f"{check.output} of {check.call} has another shape or type, or holds no number"
    broken = [text for strain, text in _bounds(check) if strain > 1 - 1e-9]
    return f"{check.output} of {check.call} {', '.join(broken) or 'holds no number'}"
