"""The model card of a bundle: where it came from, what was measured, what it is not good for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..calibration.parity import ParityReport


def model_card(facts: Mapping[str, Any], report: ParityReport) -> str:
    """MODEL_CARD.md.

    Args:
        facts: the manifest without `files`.
        report: of the proofs.
    """
    source = facts["source"]
    rows = "\n".join(
        f"| {part['role']} | {variant['id']} | {_scheme(variant)} |"
        for part in facts["parts"]
        for variant in part["variants"]
    )
    figures = "\n".join(
        f"- {gate} · {part}: worst is {one['worst']}, {one['value']:.4g} (bound {one['must']:.4g})"
        for gate, parts in facts["parity"]["gates"].items()
        for part, one in parts.items()
        if one["value"] is not None
    )
    untrained = next((check.note for check in report.checks if check.note), "")
    warning = f"\n**Not for use: {untrained}.** What it says means nothing.\n" if untrained else ""
    adapter = f", with the adapter {source['adapter']} merged in" if source.get("adapter") else ""
    return f"""# {facts["name"]}

Made from `{source["checkpoint"]}` (family `{source["family"]}`){adapter} by `edgestream export`.
Licence: {source["licence"]}. SHA-256 of the checkpoint: `{source["sha256"]}`.
{warning}
| part | variant | weights |
|---|---|---|
{rows}

A frame is {facts["tokens_per_frame"]} tokens; the cache holds {facts["cache"]["capacity"]}
positions.

## What was measured

On {facts["calibration"]["frames"]} frames ({facts["calibration"]["source"]}); every figure is in
`parity.json` and `report.html`.

{figures}

The figures say how near this bundle is to its checkpoint, not how good the checkpoint is.
"""


def _scheme(variant: Mapping[str, Any]) -> str:
    scheme = variant.get("scheme")
    if scheme is None:
        return "float32"
    block = f", blocks of {scheme['block']}" if scheme["block"] else ", a scale per row"
    return f"{scheme['weights']}{block}, activations {scheme['activations']}"
