"""Write docs/REFERENCE.md: what was measured of the reference assistant, from its result lines.

python docs/reference_page.py     reads assets/reference.eval.json and assets/reference.footage.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "REFERENCE.md"
LINES = {
    "eval": ROOT / "assets" / "reference.eval.json",
    "footage": ROOT / "assets" / "reference.footage.json",
}
MANIFEST = ROOT / "assets" / "reference" / "manifest.json.sha256"
SINCE = """Since then
the bundle keeps the same int8 codes of vision and connector as uint8: bit for bit the same numbers
on this processor, and on one without VNNI, where int8 came out up to .04 of a cosine wrong."""
_PAGE = """# The reference assistant, measured

Written by `python docs/reference_page.py` from the result lines of two commands; the bundle is
`assets/reference`, sha256 `{sha}`.{since}

![Frames of a clip of the frozen set, the gate's scores, true and spoken sentences](reference.png)

## The frozen set

`edgestream eval reference --bundle assets/reference --checkpoint assets/reference-checkpoint`:
{clips} rendered clips of 40 frames that were fixed, with a hash, before anything was trained,
through the stages of the device. An event counts within one frame. Intervals: 95 %, over clips.
{missed}

{frozen}

`_own_text`: memory holds what the assistant itself said, as in a run; `_true_text`: what it should
have said. `last_16_frames` answers without a memory, `majority` gives the most frequent answer of
the question's topic, `rule` is a page of arithmetic on the same motion maps.

## Real footage

`edgestream eval footage DIR --bundle assets/reference`: crops of stills of {footage} real clips,
which are not part of this repository and were never trained on, {examples} of each kind. `joined`:
two running clips, one after the other. Names that end in `_told` count its sentences, the others
its gate.
{footage_missed}

{real}
"""


def page(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, of the two result lines."""
    frozen, real = lines["eval"], lines["footage"]
    return _PAGE.format(
        sha=frozen["bundle_sha256"],
        since=since(frozen["bundle_sha256"]),
        clips=frozen["frozen_set"]["clips"],
        frozen=table(frozen["metrics"]),
        missed=missed(frozen["metrics"]),
        footage=real["footage"]["clips"],
        examples=real["footage"]["examples"],
        real=table(real["metrics"]),
        footage_missed=missed(real["metrics"]),
    )


def since(measured: str) -> str:
    """What became of the bundle since it was measured; empty for nothing."""
    told, _ = MANIFEST.read_text("utf-8").split(maxsplit=1)
    return "" if told == measured else f" {SINCE}"


def missed(metrics: Iterable[Mapping[str, Any]]) -> str:
    """Which bounds were not kept, in a sentence."""
    names = [f"`{one['name']}`" for one in metrics if one["passed"] is False]
    return f"**Missed: {', '.join(names)}.**" if names else "No bound was missed."


def table(metrics: Iterable[Mapping[str, Any]]) -> str:
    """A table in Markdown."""
    rows = ["| figure | value | 95 % | must | n | beside it |", "|---|---|---|---|---|---|"]
    for one in metrics:
        value = "none" if one["value"] is None else f"{one['value']:.3f}"
        spread = "" if one["ci95"] is None else "{:.3f} to {:.3f}".format(*one["ci95"])
        beside = ", ".join(
            f"{name} {'none' if value is None else f'{value:.2f}'}"
            for name, value in one.get("baselines", {}).items()
        )
        value = f"**{value}**" if one["passed"] is False else value
        rows.append(
            f"| `{one['name']}` | {value} | {spread} | {bound(one)} | {one['n']} | {beside} |"
        )
    return "\n".join(rows)


def bound(metric: Mapping[str, Any]) -> str:
    """What a figure was held against."""
    parts = []
    if metric["must"] is not None:
        parts.append(f"{'≤' if metric.get('must_is') == 'at most' else '≥'} {metric['must']:g}")
    if "must_lowest" in metric:
        parts.append(f"interval ≥ {metric['must_lowest']:g}")
    return ", ".join(parts)


def main() -> None:
    """Write the page."""
    lines = {name: json.loads(path.read_text("utf-8")) for name, path in LINES.items()}
    assert lines["eval"]["bundle_sha256"] == lines["footage"]["bundle_sha256"]
    PAGE.write_text(page(lines), "utf-8")


if __name__ == "__main__":
    main()
