"""Fixtures of all tests: where the real clips are, and bundles that are exported once for all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from .kept_work import keep_work

# No test is held to a time: the machine may be busy. Examples are the same at every run, so that a
# change is judged by what it changed; `--hypothesis-profile=search` looks for new ones.
hypothesis.settings.register_profile("any machine", deadline=None, derandomize=True)
hypothesis.settings.load_profile("any machine")
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
# For the further interpreters of the device suite: the whole input space was searched under one.
hypothesis.settings.register_profile("few", deadline=None, max_examples=20, derandomize=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the fixtures of each test."""
    keep_work()


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """The folder of real clips: EDGESTREAM_CLIPS, or shared/data/clips beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
    folder = Path(os.environ.get("EDGESTREAM_CLIPS") or beside)
    if not any(folder.glob("*.mp4")):
        pytest.skip(f"no real clips in {folder.name}/: set EDGESTREAM_CLIPS to a folder of them")
    return folder


def _exported(checkpoint: Path, folder: Path, llm: str, capacity: int) -> Path:
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.plans import Schemes

    choice = ExportChoice(schemes=Schemes.named("fp32", llm), name=folder.name, capacity=capacity)
    export_bundle(checkpoint, folder, choice, lambda *told: None)
    return folder


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle of random weights, float32, with a cache of 256 slots. For slow tests."""
    pytest.importorskip("torch", reason="exporting needs PyTorch")
    from .checkpoints import random_live_checkpoint

    folder = tmp_path_factory.mktemp("random")
    checkpoint = random_live_checkpoint(folder / "checkpoint")
    return _exported(checkpoint, folder / "random", "fp32", 256)


@pytest.fixture(scope="session")
def trained_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that has learned to name painted shapes, int4. For slow tests."""
    pytest.importorskip("torch", reason="exporting needs PyTorch")
    from .trained_checkpoint import trained_live_checkpoint

    folder = tmp_path_factory.mktemp("trained")
    return _exported(trained_live_checkpoint().folder, folder / "trained", "int4", 512)


@pytest.fixture(scope="session")
def asked_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small reference assistant whose gate reads a query, all of random weights. For slow tests.

    Its checkpoint and its gate lie beside it: `checkpoint`, `gate`.
    """
    pytest.importorskip("torch", reason="exporting needs PyTorch")
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.plans import Schemes

    from .gate_folders import random_gate_folder
    from .reference_checkpoints import small_reference_checkpoint

    folder = tmp_path_factory.mktemp("asked")
    checkpoint = small_reference_checkpoint(folder / "checkpoint", looks_trained=True)
    gate = random_gate_folder(folder / "gate")
    schemes = Schemes.named("fp32", "int8")
    choice = ExportChoice(schemes=schemes, name="asked", capacity=256, gate=gate)
    export_bundle(checkpoint, folder / "asked", choice, lambda *told: None)
    return folder / "asked"


def pytest_configure(config: pytest.Config) -> None:
    """Take Ctrl-C as usual: a background job of a shell ignores it, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
