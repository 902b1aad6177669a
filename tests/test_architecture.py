"""The rooms: who may import whom, what importing may do, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "runtime": set(),
    "quant": {"runtime"},
    "models": {"quant", "runtime"},
    "calibration": {"models", "quant", "runtime"},
    "export": {"calibration", "models", "quant", "runtime"},
    "evaluation": {"runtime"},
    "training": {"calibration", "evaluation", "models", "quant", "runtime"},
    "edge": {"calibration", "evaluation", "export", "models", "quant", "runtime", "training"},
}
# What a device does not have, and must never need.
UPSTREAM = {"torch", "transformers", "onnx", "onnxscript", "peft", "bitsandbytes", "optimum"}
# What takes long to load: only inside the functions that need it, on the device side.
HEAVY = UPSTREAM | {"av", "onnxruntime", "pydantic", "pydantic_settings", "rich", "tensorrt"}
HEAVY |= {"aiortc", "fastapi", "paho", "starlette", "uvicorn", "websockets"}
# The tables of settings are pydantic models; only edge/settings.py imports them, when it is needed.
MAY_BE_HEAVY = {
    f"edge/settings{part}.py"
    for part in ("", "_field", "_service", "_speaking", "_tables", "_watching")
}
# Values of the HTTP API check themselves; nothing but the API imports them.
MAY_BE_HEAVY |= {
    f"edge/service/{name}.py"
    for name in (
        *("api_cameras", "api_chat", "api_events", "api_recall", "api_standing", "api_values"),
        "chat_values",
    )
}
LONGEST_FILE, LONGEST_FUNCTION = 300, 40
# One tree of errors, a few lines each, is easier to read in one place than in three.
MAY_BE_LONG = {"runtime/errors.py"}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imports_of(tree: ast.AST, at_top_only: bool = False) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of every import; level 0 is absolute."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
            if not node.module:
                yield from ((node.level, alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not (at_top_only and isinstance(node, ast.FunctionDef | ast.ClassDef)):
            yield from imports_of(node, at_top_only)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def broken(law: Callable[[Path], Iterator[str]]) -> list[str]:
    """What every file of ours has against a law, as `file: what`."""
    return [f"{name_of(path)}: {what}" for path in MODULES for what in law(path)]


def test_arrows_point_one_way():
    def law(path):
        room, depth = room_of(path), len(path.relative_to(ROOT).parts)
        for level, module in imports_of(tree_of(path)):
            target = module.split(".")[0]
            if level == 0 and target == "edgestream":
                yield "imports are relative"
            # Up to the root package, then down into a room.
            if level == depth and target not in ROOMS[room] | {room, "", "__version__"}:
                yield f"{room} may not import {target}"

    assert not broken(law)


def test_the_device_side_needs_nothing_of_the_upstream():
    def law(path):
        room, tree = room_of(path), tree_of(path)
        roots = {module.split(".")[0] for level, module in imports_of(tree) if level == 0}
        at_top = {module.split(".")[0] for level, module in imports_of(tree, True) if level == 0}
        if room in ("runtime", "evaluation") and roots & UPSTREAM:
            yield f"imports {roots & UPSTREAM}"
        is_light = room in ("runtime", "edge") and name_of(path) not in MAY_BE_HEAVY
        if is_light and at_top & HEAVY:
            yield f"import {at_top & HEAVY} inside the function that needs it"

    assert not broken(law)


def test_a_file_says_what_it_is_and_stays_short():
    def law(path):
        docstring = ast.get_docstring(tree_of(path))
        if not docstring or len(docstring.splitlines()[0]) <= 20:
            yield "no first sentence"
        lines = len(path.read_text().splitlines())
        if lines > LONGEST_FILE and name_of(path) not in MAY_BE_LONG:
            yield f"{lines} lines"
        if path.stem in {"utils", "helpers", "common", "misc", "base", "types", "queue"}:
            yield "a name that says nothing"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                begin = node.lineno if not ast.get_docstring(node) else node.body[0].end_lineno
                if node.end_lineno - (begin or 0) > LONGEST_FUNCTION:
                    yield f"{node.name} has {node.end_lineno - (begin or 0)} lines"

    assert not broken(law)


def test_every_package_is_in_the_wheel():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11; the list is checked there")
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("edgestream", *path.parent.relative_to(ROOT).parts))
        for path in [ROOT / "__init__.py", *MODULES]
        if path.name == "__init__.py"
    }
    found.add("optimum.commands.register")  # a namespace of optimum's, for one command of ours
    assert set(listed) == found and listed == sorted(listed)


DEVICE_MODULES = [path for path in MODULES if room_of(path) in ("runtime", "edge")]


@pytest.mark.medium
def test_importing_starts_nothing():
    """No thread, no process, no output, no upstream package, for all modules of the device side."""
    names = [
        ".".join(("edgestream", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in DEVICE_MODULES
    ]
    code = (
        "import importlib, sys, threading, warnings\n"
        "warnings.simplefilter('error')\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        f"loaded = {UPSTREAM | {'av', 'onnxruntime'}!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
