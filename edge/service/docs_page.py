"""The page /docs: the description of the API as plain HTML, made here, without any script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}
@media(prefers-color-scheme:dark){body{color:#e6e9ed;background:#14171a}}
code{font-family:ui-monospace,monospace}section{border-top:1px solid #8886;padding:.5rem 0}
b{display:inline-block;min-width:4.5rem}pre{overflow:auto;font-size:13px}
"""


def docs_html(description: dict[str, Any]) -> tuple[str, str]:
    """(HTML, its content security policy) of an OpenAPI description."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"
    info = description["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{html.escape(info['title'])} API</title><style>{STYLE}</style>",
        f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1>",
        f"<p>{html.escape(info.get('description', ''))} The same for programs: ",
        "<a href=/openapi.json>/openapi.json</a>. Records of cameras come from ",
        "<code>GET /v1/events</code> and over the WebSocket <code>/v1/stream</code>; a camera ",
        "<code>browser:</code> takes JPEGs over <code>/v1/cameras/{name}/frames</code>.</p>",
    ]
    for path, methods in description["paths"].items():
        parts += [_operation(path, method, facts) for method, facts in methods.items()]
    schemas = description.get("components", {}).get("schemas", {})
    parts.append("<h2>Values</h2>")
    for name, schema in sorted(schemas.items()):
        text = html.escape(json.dumps(schema, indent=1))
        parts.append(
            f"<section id='{html.escape(name)}'><h3>{html.escape(name)}</h3><pre>{text}</pre>"
            "</section>"
        )
    return "".join(parts) + "</html>", policy


def _operation(path: str, method: str, facts: dict[str, Any]) -> str:
    told = html.escape(facts.get("description") or facts.get("summary", ""))
    parts = [
        f"<section><p><b>{method.upper()}</b><code>{html.escape(path)}</code></p><p>{told}</p>"
    ]
    rows = [_parameter(one) for one in facts.get("parameters", ())]
    if "requestBody" in facts:
        rows.append(f"body: {_schemas(facts['requestBody']['content'])}")
    for status, answer in facts.get("responses", {}).items():
        rows.append(f"{html.escape(status)}: {_schemas(answer.get('content', {}))}")
    return "".join([*parts, "<ul>", *(f"<li>{row}" for row in rows), "</ul></section>"])


def _parameter(facts: dict[str, Any]) -> str:
    told = facts.get("description") or facts["schema"].get("description", "")
    must = "" if facts["required"] else ", may be left out"
    return (
        f"<code>{html.escape(facts['name'])}</code> ({html.escape(facts['in'])}{must}) "
        f"{html.escape(told)}"
    )


def _schemas(content: dict[str, Any]) -> str:
    """Names of what a body holds, each a link to its schema below."""
    names = []
    for kind, facts in content.items():
        name = facts.get("schema", {}).get("$ref", "").rpartition("/")[2]
        link = f" <a href='#{html.escape(name)}'>{html.escape(name)}</a>" if name else ""
        names.append(f"<code>{html.escape(kind)}</code>{link}")
    return ", ".join(names) or "nothing"
