"""The agreement gate on a model that has learned something: a small one, trained by the tests."""

from __future__ import annotations

import pytest

from edgestream.calibration.dataset import make_calibration_set
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes

from ..trained_checkpoint import trained_live_checkpoint

pytestmark = pytest.mark.slow

TALK = (
    "What is there now?",
    "What was there before?",
    "Assistant: The red circle went away and a blue square came.",
    "Assistant: There is a green bar in the picture now.",
)


@pytest.fixture(scope="module")
def trained():
    return trained_live_checkpoint()


@pytest.fixture(scope="module")
def pictures(trained, tmp_path_factory):
    """A calibration set of pictures that it was not trained on."""
    folder = tmp_path_factory.mktemp("sets") / "pictures"
    frames = trained.frames[:64]
    make_calibration_set(
        folder,
        frames,
        [index / 4 for index in range(len(frames))],
        TALK,
        source="painted by the tests",
        licences=["Apache-2.0"],
    )
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("llm", "must"), [("fp32", 0.999), ("int8", 0.98), ("int4", 0.90), ("int4-32", 0.90)]
)
def test_a_trained_model_says_the_same_when_quantized(trained, pictures, tmp_path, llm, must):
    choice = ExportChoice(
        schemes=Schemes.named("int8" if llm != "fp32" else "fp32", llm),
        name="painted",
        calibration=pictures,
    )
    made = export_bundle(trained.folder, tmp_path / "bundle", choice, lambda stage, part: None)
    checks = {check.name: check for check in made.report.checks if check.gate == "agreement"}
    agreement = checks["teacher-forced agreement"]
    print(llm, {name: round(check.value, 4) for name, check in checks.items()})
    assert not agreement.is_advisory, agreement.note
    assert agreement.must == must and agreement.value >= must
    assert checks["greedy match"].value > 0.5
