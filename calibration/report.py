"""The parity report as one HTML page to be read offline: verdict, tables, bars, worst first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .parity import Check, ParityReport

GATES = {
    "engine": "Engine: the engine against PyTorch over weights that we dequantize ourselves",
    "snr_db": "Weights: signal to quantization noise, against the floor of the scheme",
    "agreement": "Agreement: next tokens of the quantized model against full precision",
}
BAR_WIDTH_PX, BAR_HEIGHT_PX, ROWS_SHOWN = 140, 10, 40
STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --soft: #6b7482; --line: #d9dde3;
  --good: #2f7d4f; --bad: #c0392b; --note: #b7791f; --bar: #4a78b5 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14181f; --soft: #98a2b3;
  --line: #2c3440; --good: #5bbf85; --bad: #ef7b6d; --note: #e0b055; --bar: #7aa6e0 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.verdict { font-size: 1.1rem; font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad) }
.note { color: var(--note) } .soft { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top } th { color: var(--soft); font-weight: 500 }
td.number { text-align: right; padding-right: 1.2rem;
  font-variant-numeric: tabular-nums; white-space: nowrap }
code, pre { font: 13px/1.45 ui-monospace, monospace } pre { overflow-x: auto }
"""


def report_html(
    name: str,
    report: ParityReport,
    plan_text: str,
    parts: Sequence[Mapping[str, Any]],
    more: str = "",
) -> str:
    """The page.

    Args:
        name: of the bundle.
        report: all checks.
        plan_text: which weight is kept how, as the plan prints itself.
        parts: one row per part: role, variant, scheme, size in bytes.
        more: HTML of a further section.
    """
    sections = "".join(_section(gate, title, report) for gate, title in GATES.items())
    facts = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>"
        for key, value in report.facts.items()
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Parity of {escape(name)}</title><style>{STYLE}</style>"
        f"<h1>Parity of {escape(name)}</h1>{_verdict(report)}"
        f"<h2>Parts</h2>{_parts_table(parts)}{more}{sections}"
        f"<h2>Made on</h2><table>{facts}</table>"
        f"<h2>Plan</h2><pre>{escape(plan_text)}</pre></html>\n"
    )


def _verdict(report: ParityReport) -> str:
    advisory = sum(check.is_advisory and not check.passed for check in report.checks)
    more = f" {advisory} more are advisory only and are marked." if advisory else ""
    if report.passed:
        words = f"All {len(report.checks) - advisory} checks that count passed."
        return f"<p class='verdict good'>Passed.</p><p>{words}{more}</p>"
    rows = "".join(f"<li>{escape(check.sentence())}</li>" for check in report.failures)
    return f"<p class='verdict bad'>Failed: no bundle was written.</p><ul>{rows}</ul>"


def _parts_table(parts: Iterable[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(part['role']))}</td><td>{escape(str(part['variant']))}</td>"
        f"<td>{escape(str(part['scheme']))}</td>"
        f"<td class='number'>{part['bytes'] / 1e6:.2f} MB</td></tr>"
        for part in parts
    )
    head = "<tr><th>part</th><th>variant</th><th>weights</th><th>size</th></tr>"
    return f"<div class='wide'><table>{head}{rows}</table></div>"


def _section(gate: str, title: str, report: ParityReport) -> str:
    checks = [check for check in report.checks if check.gate == gate]
    if not checks:
        return f"<h2>{escape(title)}</h2><p class='soft'>Nothing was compared.</p>"
    exact = [check for check in checks if check.must == 0 and check.passed]
    checks = sorted((one for one in checks if one not in exact), key=lambda one: one.margin)
    shown, rest = checks[:ROWS_SHOWN], len(checks) - len(checks[:ROWS_SHOWN])
    notes = [f"{rest} better ones are in parity.json."] if rest else []
    stored = sum(check.name.startswith("stored") for check in exact)
    if stored:
        notes.append(
            f"{stored} weights in the files are, bit for bit, what we make of the originals."
        )
    scale = max((check.value for check in checks if math.isfinite(check.value)), default=1.0)
    rows = "".join(_row(check, scale) for check in shown)
    head = (
        "<tr><th>part</th><th>what</th><th>figure</th><th>bound</th><th>room left</th>"
        "<th>verdict</th></tr>"
    )
    return (
        f"<h2>{escape(title)}</h2><p class='soft'>Worst first. {' '.join(notes)}</p>"
        f"<div class='wide'><table>{head}{rows}</table></div>"
    )


def _row(check: Check, scale: float) -> str:
    unit = "" if check.unit == "1" else f" {escape(check.unit)}"
    sign = "≥" if check.at_least else "≤"
    if check.passed:
        verdict = "<span class='good'>passed</span>"
    elif check.is_advisory:
        verdict = (
            f"<span class='note'>advisory</span> <span class='soft'>{escape(check.note)}</span>"
        )
    else:
        verdict = "<span class='bad'>failed</span>"
    return (
        f"<tr><td>{escape(check.part)}</td><td>{escape(check.name)}</td>"
        f"<td class='number'>{check.value:.5g}{unit}</td>"
        f"<td class='number'>{sign} {check.must:.5g}{unit}</td>"
        f"<td>{_bar(check, scale)}</td><td>{verdict}</td></tr>"
    )


def room_left(check: Check, scale: float) -> float:
    """How much of the way from the bound to a perfect figure is left, in [0, 1].

    Args:
        check: whose figure is drawn.
        scale: best figure of the section, where nothing bounds it from above (dB).
    """
    if not check.passed or not math.isfinite(check.value):
        return 0.0
    if not check.at_least:
        return 1.0 - check.value / check.must if check.must > 0 else 1.0
    best = 1.0 if check.unit == "1" else max(scale, check.must)
    return 1.0 if best <= check.must else (check.value - check.must) / (best - check.must)


def _bar(check: Check, scale: float) -> str:
    """The room left as a bar on a rail; a failed check has none and a mark in its colour."""
    colour = "--bar" if check.passed else "--note" if check.is_advisory else "--bad"
    length = max(2.0, min(1.0, room_left(check, scale)) * BAR_WIDTH_PX)
    rail = f"<rect width='{BAR_WIDTH_PX}' height='{BAR_HEIGHT_PX}' rx='2' fill='var(--line)'/>"
    bar = f"<rect width='{length:.1f}' height='{BAR_HEIGHT_PX}' rx='2' fill='var({colour})'/>"
    return f"<svg width='{BAR_WIDTH_PX}' height='{BAR_HEIGHT_PX}' role='img'>{rail}{bar}</svg>"
