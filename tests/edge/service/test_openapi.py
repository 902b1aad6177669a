"""The description of the API is true: thousands of generated requests, none of them a 500."""

from __future__ import annotations

import json

import pytest

from .serving import CLIP, serving

CASES = 140
"""For each operation; there are about twenty."""
ENDLESS = ("/v1/events", "/v1/cameras/{name}/live.mjpg")
"""Responses without an end: what they say is in the tests of records and cameras."""

BEYOND = (
    "/v1/cameras",
    "/v1/cameras/{name}/offer",
    "/v1/chat/completions",
    "/v1/standing",
    "/v1/session",
)
"""What they take has rules that no schema states: an address must be one, a question have words."""


def test_the_description_lists_every_path(service):
    paths = service.get("/openapi.json")["paths"]
    for path in (
        "/health",
        "/ready",
        "/metrics",
        "/v1/session",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/cameras",
        "/v1/cameras/{name}",
        "/v1/cameras/{name}/pause",
        "/v1/cameras/{name}/resume",
        "/v1/cameras/{name}/offer",
        "/v1/cameras/{name}/picture.jpg",
        "/v1/cameras/{name}/live.mjpg",
        "/v1/cameras/{name}/memory",
        "/v1/cameras/{name}/memory/{frame_id}.jpg",
        "/v1/cameras/{name}/trace",
        "/v1/cameras/{name}/stats",
        "/v1/events",
        "/v1/records",
        "/v1/standing",
        "/v1/standing/{request_id}",
    ):
        assert path in paths


def test_the_page_of_it_loads_nothing_from_elsewhere(service):
    _, headers, body = service.ask("GET", "/docs")
    html = body.decode()
    assert "<script" not in html and "//" not in html.replace("https://json-schema", "")
    assert "/v1/chat/completions" in html and "ChatRequest" in html
    assert headers["content-security-policy"].startswith("default-src 'none'")


def hold(operation, excluded):
    """Send generated requests to one operation; how many."""
    from hypothesis import HealthCheck, Phase, given, settings

    sent = []

    @given(case=operation.as_strategy())
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    def one(case):
        sent.append(1)
        response = case.call(timeout=60)
        assert response.status_code < 500 or response.status_code in (501, 503), response.text
        case.validate_response(response, excluded_checks=excluded)

    one()
    return len(sent)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(1200)
def test_generated_requests_get_what_the_description_says():
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    allowed = 'service.allow_addresses=["test:*"]'
    bounds = ("--set", "service.requests_per_minute=10000000", "--set", allowed)
    with serving(f"door=loop:{CLIP}", *bounds) as service:
        schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        count = sum(
            hold(one, [positive_data_acceptance] if one.path in BEYOND else [])
            for one in operations
            if one.path not in ENDLESS
        )
        assert count >= 2000, count
        assert service.get("/health")["status"] == "ok"
        assert "Traceback" not in "".join(service.errors)
        assert service.state("door") in ("open", "paused", "deleted")


def test_the_counters_can_be_read_by_prometheus(service):
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus_client is not installed"
    )
    service.chat("What do you see?")
    text = service.ask("GET", "/metrics")[2].decode()
    families = {one.name: one for one in parser.text_string_to_metric_families(text)}
    assert all(name.startswith("edgestream_") for name in families)
    assert all(one.documentation and one.type != "unknown" for one in families.values())
    (frames,) = families["edgestream_frames"].samples
    assert frames.labels == {"camera": "door"} and frames.value > 0
    states = families["edgestream_camera_state"].samples
    assert sum(one.value for one in states) == 1
    asked = families["edgestream_http_requests"].samples
    assert sum(one.value for one in asked if one.labels["status"] == "200") > 0
    assert json.dumps(text).count("HELP") == len(families)
