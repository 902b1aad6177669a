"""What is said where a proof fails: what to try fits what failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgestream.calibration.parity import Check, ParityReport, logit_checks
from edgestream.export.build import ExportChoice, loaded
from edgestream.export.graphs import Schemes
from edgestream.export.refusal import refused
from edgestream.export.swappable_adapters import OF_ADAPTER
from edgestream.runtime.errors import CheckpointMissing, GraphRefused

CHOICE = {"schemes": Schemes.named("int8", "int4", "fp32"), "name": "x"}


def failing(name: str) -> list[Check]:
    from dataclasses import replace

    random = np.random.default_rng(0)
    found = logit_checks(*random.normal(size=(2, 8, 40)).astype(np.float32))
    checks = [replace(one, name=name) for one in found]
    assert not ParityReport(tuple(checks), {}).passed
    return checks


def hint(*names: str, page: Path | None = None) -> str:
    report = ParityReport(tuple(one for name in names for one in failing(name)), {})
    error = refused(report, page)
    assert error.exit_code == 6 and error.message.endswith("no bundle was written")
    return error.hint or ""


def test_an_adapter_that_fails_alone_is_named():
    assert "calm moves it too far" in hint(f"decoder{OF_ADAPTER}calm")
    assert "--llm" in hint("decoder", f"decoder{OF_ADAPTER}calm")
    assert "--llm" in hint("decoder")
    assert hint("decoder", page=Path("p.html")) == "p.html shows every check"


def test_files_that_are_none_are_refused_before_the_checkpoint_is_looked_for(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    schemes = Schemes.named(str(tmp_path / "empty.onnx"), "int4", "fp32")
    with pytest.raises(GraphRefused, match="is empty"):
        loaded(tmp_path, ExportChoice(schemes=schemes, name="x"), lambda *step: None)
    for more in ({"adapter": tmp_path}, {"adapters": {"calm": tmp_path}}):
        with pytest.raises(CheckpointMissing, match=r"adapter_config\.json, expected a LoRA"):
            loaded(tmp_path, ExportChoice(**CHOICE, **more), lambda *step: None)
