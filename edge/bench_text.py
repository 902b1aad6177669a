"""What bench found, in words and tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..runtime.sinks import counted
from .bench_figures import Figure
from .benchmark import Benchmark
from .bundle_text import printable, size_text, wrapped
from .terminal import column_widths

LABEL_COLUMNS = 38
GAP = "  "
UNDISTURBED_CORES = 0.8
"""Cores that engines at work use at least where nothing else runs: threads that wait for each other
sleep, but one is always at work."""

SPEEDS = {
    "decode_tokens_per_s": "decode, one token at a half-full cache",
    "append_frame_tokens_per_s": "append a frame of {tokens} tokens to it",
    "prefill_tokens_per_s": "prefill, {tokens} tokens from empty",
}
LATENCIES = {
    "stage0_ms": "stage 0 (all that a still frame costs)",
    "gate_ms": "gate: the model's own, or `change`",
    "encoder_ms": "encoder, scaling and stage 0 included",
    "connector_ms": "connector",
    "append_frame_ms": "append a frame at a half-full cache",
    "decode_ms": "decode a token at a half-full cache",
    "prefill_ms": "prefill",
    "evict_ms": "evict the older half of a full cache",
    "first_token_cold_ms": "question to first token, 4 frames, cold",
    "first_token_warm_ms": "  another question, same frames",
    "event_to_first_token_ms": "event: frame to first token",
    "open_shared_ms": "open and prove all engines",
}


def benchmark_lines(found: Benchmark, columns: int | None) -> list[str]:
    """The report for people; texts are wrapped to so many columns, None for a pipe."""
    lines = [line for label, text in _head(found) for line in wrapped(label, text, columns)]
    lines += ["", *_table(_speed_rows(found)), "", *_table(_latency_rows(found))]
    lines += ["", *_table(_load_rows(found)), ""]
    return [
        *lines,
        *(line for label, text in _end(found) for line in wrapped(label, text, columns)),
    ]


def _head(found: Benchmark) -> Iterator[tuple[str, str]]:
    plan, machine = found.plan, found.machine
    threads = plan.engines("shared").engine_threads
    gpu = f", {machine.gpu}" if machine.gpu else ""
    yield "bundle", f"{found.bundle.folder.name}, sha256 {found.bundle.sha256[:16]}"
    yield "device", f"{machine.cpu}, {counted(machine.cores, 'cores')}{gpu}"
    yield "engines", ", ".join(f"{role} {one.id}" for role, one in found.variants.items())
    for one in found.refusals:
        yield "refused", f"{one.variant} ({one.provider}): {one.why}"
    rounds = counted(plan.rounds, "rounds")
    yield (
        "measured",
        f"{rounds}, {counted(threads, 'threads')} an engine, CPU share {found.cpu_share:.2f}; "
        "medians and percentiles of milliseconds are of all n samples, slowest and fastest of "
        "the rounds; one sample a round warms up",
    )


def _speed_rows(found: Benchmark) -> Iterator[Sequence[str]]:
    yield "tokens a second", "median", "slowest", "fastest", "n"
    for name, label in SPEEDS.items():
        one = found.figure(name)
        low, high = one.more["low"], one.more["high"]
        yield label.format(**one.more), _short(one.value), _short(low), _short(high), str(one.n)


def _latency_rows(found: Benchmark) -> Iterator[Sequence[str]]:
    yield "milliseconds", "median", "p90", "p99", "worst", "n"
    for name, label in LATENCIES.items():
        one = found.figure(name)
        yield label, _short(one.value), *_percentiles(one, "p90", "p99", "worst"), str(one.n)


def _load_rows(found: Benchmark) -> Iterator[Sequence[str]]:
    alone = found.figure("speech_alone_tokens_per_s").value
    plan = found.plan
    seconds = f"{plan.rounds} x {plan.seconds:g} s" if plan.rounds > 1 else f"{plan.seconds:g} s"
    yield f"{plan.fps:g} frames/s while it speaks, {seconds}", "shared", "split"
    both = [found.figure(f"{mode}_frame_ms") for mode in ("shared", "split")]
    yield "threads of an engine", *(str(one.more["threads"]) for one in both)
    for share, label in (
        ("p50", "due to encoded, ms, p50"),
        ("p99", "  p99"),
        ("worst", "  worst"),
    ):
        yield label, *(_short(one.more[share]) for one in both)
    waits = found.figure("shared_lane_wait_ms")
    told = " / ".join(_percentiles(waits, "p50", "p99", "worst"))
    yield "waits for the lane, ms, p50 / p99 / worst", told, "-"
    rates = [found.figure(f"{mode}_speech_tokens_per_s").value for mode in ("shared", "split")]
    yield "decode, tokens/s", *map(_short, rates)
    yield f"  of the {_short(alone)} without frames", *(f"{rate / alone:.0%}" for rate in rates)
    drops = [found.figure(f"{mode}_drops") for mode in ("shared", "split")]
    yield "frames dropped", *(f"{one.value:.0f} of {one.n}" for one in drops)


def _end(found: Benchmark) -> Iterator[tuple[str, str]]:
    cores = found.cpu_share * found.plan.engines("shared").engine_threads
    if found.variants["decoder"].provider == "cpu" and cores < UNDISTURBED_CORES:
        yield (
            "disturbed",
            f"the language model had {cores:.0%} of one core while it ran: something else was "
            "running, and an idle device is faster",
        )
    sizes = {one.name: size_text(int(one.value)) for one in found.figures if one.unit == "bytes"}
    weights = f"weights {sizes['weights_bytes']}, " if "weights_bytes" in sizes else ""
    yield (
        "memory",
        f"{weights}cache {sizes['cache_bytes']}; this process held {sizes['rss_bytes']} under load",
    )
    chosen = found.advice
    yield "lane", f"{chosen.lane}: {chosen.why}. To choose it, write --set {chosen.setting}"


def _table(rows: Iterator[Sequence[str]]) -> list[str]:
    """Rows with figures to the right, under their headings."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = column_widths(cells)
    widths[0] = max(widths[0], LABEL_COLUMNS)
    return [
        GAP.join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]


def _percentiles(figure: Figure, *names: str) -> Iterator[str]:
    return (_short(figure.more[name]) for name in names)


def _short(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
