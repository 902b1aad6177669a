"""The parity report as one HTML page to be read offline: verdict, tables, bars, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .parity import Check, ParityReport

GATES = {
    "engine": "Engine: the engine against PyTorch over weights that we dequantize ourselves",
    "snr_db": "Weights: signal to quantization noise, against the floor of the scheme",
    "agreement": "Agreement: next tokens of the quantized model against full precision",
}
BAR_WIDTH_PX, BAR_HEIGHT_PX, BARS_SHOWN = 260, 12, 60
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
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top } th { color: var(--soft); font-weight: 500 }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
code, pre { font: 13px/1.45 ui-monospace, monospace } pre { overflow-x: auto }
"""


def report_html(
    name: str, report: ParityReport, plan_text: str, parts: Sequence[Mapping[str, Any]]
) -> str:
    """The page.

    Args:
        name: of the bundle.
        report: all checks.
        plan_text: which weight is kept how, as the plan prints itself.
        parts: one row per part: role, variant, scheme, size in bytes.
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
        f"<h2>Parts</h2>{_parts_table(parts)}{sections}"
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
    checks = sorted(
        (check for check in report.checks if check.gate == gate), key=lambda check: check.margin
    )
    if not checks:
        return f"<h2>{escape(title)}</h2><p class='soft'>Nothing was compared.</p>"
    shown = checks[:BARS_SHOWN]
    rest = len(checks) - len(shown)
    more = f"<p class='soft'>{rest} better ones are in parity.json.</p>" if rest else ""
    scale = max((abs(check.value) for check in checks if check.value == check.value), default=1.0)
    rows = "".join(_row(check, scale) for check in shown)
    head = (
        "<tr><th>part</th><th>what</th><th>figure</th><th>bound</th><th></th><th>verdict</th></tr>"
    )
    return (
        f"<h2>{escape(title)}</h2><p class='soft'>Worst first.</p>"
        f"<div class='wide'><table>{head}{rows}</table></div>{more}"
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


def _bar(check: Check, scale: float) -> str:
    """The figure as a bar and the bound as a line, on the scale of the section."""
    top = max(scale, abs(check.must)) or 1.0
    length = min(1.0, abs(check.value) / top) * BAR_WIDTH_PX if check.value == check.value else 0
    bound = min(1.0, abs(check.must) / top) * BAR_WIDTH_PX
    colour = "--bar" if check.passed else "--note" if check.is_advisory else "--bad"
    return (
        f"<svg width='{BAR_WIDTH_PX}' height='{BAR_HEIGHT_PX}' role='img' "
        f"aria-label='{check.value:.5g} of {top:.5g}'>"
        f"<rect width='{length:.1f}' height='{BAR_HEIGHT_PX}' rx='2' fill='var({colour})'/>"
        f"<line x1='{bound:.1f}' x2='{bound:.1f}' y2='{BAR_HEIGHT_PX}' stroke='var(--ink)' "
        "stroke-width='1.5'/></svg>"
    )
