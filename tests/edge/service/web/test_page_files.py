"""The files of the page: short, named for what they are, whole, and of nothing but this folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
WEB = ROOT / "edge" / "service" / "web"
FILES = sorted(path for path in WEB.rglob("*") if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in FILES}
FIRST_COMMENT = {
    ".js": r"// [A-Z].{20,}\.",
    ".css": r"/\* [A-Z].{20,}\. \*/",
    ".html": r"<!-- [A-Z].{20,}\. -->",
}
LONGEST_FILE = 300
# Where text would become markup, code or a style that the content policy forbids.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:"
    r"|setAttribute\(\"style\"|createContextualFragment|DOMParser"
)
# The name of SVG is written as an address and never asked for.
NAMESPACE = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """What index.html holds: every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(TEXTS["index.html"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


PAGE = Page()
IDS = [facts["id"] for _, facts in PAGE.tags if "id" in facts]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_says_what_it_is_and_stays_short(path):
    lines = TEXTS[path.name].splitlines()
    assert len(lines) <= LONGEST_FILE
    if path.suffix in FIRST_COMMENT:
        # A comment before the doctype would be the one thing that stands before it.
        first = lines[1] if path.suffix == ".html" else lines[0]
        assert re.fullmatch(FIRST_COMMENT[path.suffix], first), first
    assert max(map(len, lines)) <= 600 if path.suffix in (".html", ".svg") else 140


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere_and_no_text_becomes_markup(path):
    text = TEXTS[path.name].replace(NAMESPACE, "")
    named_for_people = text.replace("rtsp://192.168.1.20/stream1", "")
    assert not re.search(r"(?:https?:|wss?:|rtsp:)?//[a-z0-9]", named_for_people), "an address"
    assert not FORBIDDEN.search(text)
    if path.suffix == ".css":
        assert "@import" not in text and "url(" not in text


def test_the_page_has_no_inline_script_style_or_handler():
    for tag, facts in PAGE.tags:
        assert tag != "style"
        assert "style" not in facts
        assert not [name for name in facts if name.startswith("on")]
        assert tag != "script" or facts.get("src")


def test_every_id_is_there_once_and_every_script_asks_for_what_is_there():
    assert len(IDS) == len(set(IDS))
    made_by_scripts = {"still-frames", "cursor"}
    for path in SCRIPTS:
        for asked in re.findall(r"byId\(\"([a-z0-9-]+)\"\)", TEXTS[path.name]):
            assert asked in IDS or asked in made_by_scripts, f"{path.name}: #{asked}"
    for used in re.findall(r"#(i-[a-z-]+)", "".join(TEXTS.values())):
        assert used in IDS or used == "i-theme-", used


def test_every_file_is_used_and_what_is_imported_is_there():
    used = {"index.html"}
    for _, facts in PAGE.tags:
        for name in ("src", "href"):
            if (facts.get(name) or "").startswith("web/"):
                used.add(str(facts[name]).removeprefix("web/"))
    for path in SCRIPTS:
        for names, module in re.findall(
            r"^import \{([^}]+)\} from \"\./([\w.]+)\";", TEXTS[path.name], re.MULTILINE
        ):
            used.add(module)
            for name in (part.strip() for part in names.split(",")):
                found = rf"export (?:async )?(?:function|const|class) {name}\b"
                assert not name or re.search(found, TEXTS[module]), f"{path.name}: {name}"
                assert not name or len(re.findall(rf"\b{name}\b", TEXTS[path.name])) > 1, name
    assert used == set(TEXTS)


def test_every_field_and_button_has_a_name():
    labels = {facts.get("for") for tag, facts in PAGE.tags if tag == "label"}
    for tag, facts in PAGE.tags:
        if tag in ("input", "select"):
            wrapped = re.search(
                rf"<label[^>]*>[^<]+(?:<[^/l][^>]*>|\s)*?<{tag} id=\"{facts['id']}\"",
                TEXTS["index.html"],
            )
            assert facts["id"] in labels or wrapped, facts["id"]
        if tag == "button":
            assert facts.get("type") or facts.get("value"), "a button in a form would send it"


def test_the_wheel_holds_the_page():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11; the list is checked there")
    import tomllib

    facts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert facts["package-data"]["edgestream.edge.service"] == ["web/*"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses(path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here; Chromium reads the scripts in the slow tests")
    kind = "commonjs" if path.name == "theme.js" else "module"
    done = subprocess.run(
        [node, f"--input-type={kind}", "--check", "-"],
        input=TEXTS[path.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
