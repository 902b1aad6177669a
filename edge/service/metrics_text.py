"""What Prometheus reads of the service: plain text, one line per number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...runtime.metrics import rss_bytes

if TYPE_CHECKING:
    from .app import Service
    from .camera import Camera

STATES = ("starting", "connecting", "open", "lost", "paused", "ended", "failed", "stopped")
# Field of a `stats` record → name, help and kind of what it is called here.
OF_CAMERA = {
    "frames_seen": ("frames_total", "Frames watched.", "counter"),
    "frames_still": ("frames_still_total", "Frames on which nothing changed.", "counter"),
    "frames_encoded": ("frames_encoded_total", "Frames that the encoder saw.", "counter"),
    "frames_gated": ("frames_gated_total", "Frames at which an event opened.", "counter"),
    "turns": ("turns_total", "Answers and descriptions.", "counter"),
    "bytes_kept": ("memory_bytes", "What the camera remembers.", "gauge"),
    "bytes_budget": ("memory_budget_bytes", "What it may remember, at most.", "gauge"),
}


# Name → help and kind of what a webhook or a broker tells of itself.
OF_PEER = {
    "queued": ("Records that wait for whom they are for.", "gauge"),
    "queued_bytes": ("Of these, on the disk.", "gauge"),
    "sent_total": ("Records that were taken.", "counter"),
    "failed_total": ("Records that were refused and given up.", "counter"),
    "dropped_total": ("Records that the queue had no room for.", "counter"),
    "connected": ("1 where the last try reached it.", "gauge"),
}


@dataclass(slots=True)
class Family:
    """All numbers of one name.

    Attributes:
        name: without the prefix.
        told: what it is.
        kind: counter, gauge or summary.
        rows: (labels, value).
    """

    name: str
    told: str
    kind: str
    rows: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """One more number."""
        self.rows.append((labels, value))

    def lines(self) -> Iterable[str]:
        """HELP, TYPE and the numbers."""
        full = f"edgestream_{self.name}"
        yield f"# HELP {full} {self.told}"
        yield f"# TYPE {full} {self.kind}"
        for labels, value in self.rows:
            inside = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
            yield f"{full}{{{inside}}} {value:.17g}" if inside else f"{full} {value:.17g}"


def escaped(text: str) -> str:
    """A label's value as the text format has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metrics_text(service: Service) -> str:
    """All counters of the service, as `text/plain; version=0.0.4`."""
    families = [*_of_service(service), *_of_outward(service), *_of_cameras(service)]
    return "\n".join(line for family in families for line in family.lines()) + "\n"


def _of_service(service: Service) -> list[Family]:
    up = Family("uptime_seconds", "Since the service began.", "gauge")
    up.add(service.monotonic() - service.started_s)
    rss = Family("resident_bytes", "Memory of the process.", "gauge")
    rss.add(rss_bytes())
    listeners = Family("listeners", "Streams of records and pictures that are open.", "gauge")
    listeners.add(service.hub.listeners)
    kept = Family("replay_bytes", "Records kept for replay.", "gauge")
    kept.add(service.hub.kept_bytes)
    requests = Family("http_requests_total", "Requests that are over, by status.", "counter")
    for (method, status), count in sorted(service.counts.all().items()):
        requests.add(count, method=method, status=str(status))
    return [up, rss, listeners, kept, requests]


def _of_outward(service: Service) -> list[Family]:
    """What the webhook and the broker got, and what still waits for them."""
    families = {name: Family(f"outward_{name}", *facts) for name, facts in OF_PEER.items()}
    for peer, stats in service.board.shared.outward.stats().items():
        values = {
            "queued": stats.queued,
            "queued_bytes": stats.queued_bytes,
            "sent_total": stats.sent,
            "failed_total": stats.failed,
            "dropped_total": stats.dropped,
            "connected": stats.is_connected,
        }
        for name, value in values.items():
            families[name].add(float(value), peer=peer)
    return list(families.values())


def _of_cameras(service: Service) -> list[Family]:
    state = Family("camera_state", "1 for the state that the camera is in.", "gauge")
    fps = Family("camera_fps", "Frames watched a second, over the last 10 s.", "gauge")
    decoded = Family("frames_decoded_total", "Pictures that came from the camera.", "counter")
    lag = Family("camera_lag_seconds", "How much later than at best the last one came.", "gauge")
    dropped = Family("dropped_total", "What was let go, by what it was.", "counter")
    load = Family("load_level", "Steps that the governor has gone down; 0: all is done.", "gauge")
    stages = Family("stage_seconds", "Time of each stage, of the latest samples.", "summary")
    families = {field: Family(*facts) for field, facts in OF_CAMERA.items()}
    for camera in service.board.all():
        _add_state(state, camera)
        opened = camera.run
        fps.add(0.0 if opened is None else camera.trace.fps(), camera=camera.name)
        if opened is None:
            continue
        link = getattr(opened.pausing, "state", None)
        if link is not None:  # a file has no connection
            decoded.add(link().decoded, camera=camera.name)
            lag.add(link().lag_s, camera=camera.name)
        body = opened.stages.metrics.stats().body
        for name, family in families.items():
            if body[name] is not None:
                family.add(body[name], camera=camera.name)
        for what, count in body["dropped"].items():
            dropped.add(count, camera=camera.name, what=what)
        _add_stages(stages, camera.name, body["stage_ms"])
        if "governor" in body:
            load.add(body["governor"]["level"], camera=camera.name)
    return [state, fps, decoded, lag, load, *families.values(), dropped, stages]


def _add_state(family: Family, camera: Camera) -> None:
    is_in = camera.state.state
    for name in STATES:
        family.add(float(name == is_in), camera=camera.name, state=name)


def _add_stages(family: Family, camera: str, stages: Mapping[str, Any]) -> None:
    for stage, facts in stages.items():
        for share, name in (("0.5", "p50"), ("0.99", "p99")):
            family.add(facts[name] / 1e3, camera=camera, stage=stage, quantile=share)
