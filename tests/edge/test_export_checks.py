"""What `edgestream export` takes for a size of frames."""

from __future__ import annotations

import pytest

from edgestream.edge.cli import main
from edgestream.edge.export_checks import parsed_frame_px
from edgestream.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"), [("448", 448), ("448x448", 448), ("896x504", (504, 896)), ("28x56", (56, 28))]
)
def test_a_size_is_a_side_or_a_width_and_a_height(text, size):
    assert parsed_frame_px(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0x28", "28x", "x28", "2.5", "-28", "28x28x28", "1e3", "²"]
)
def test_anything_else_is_one_sentence(text, tmp_path, capsys):
    with pytest.raises(UsageError, match="expected a side or a width and a height"):
        parsed_frame_px(text)
    out = ["--out", str(tmp_path / "bundle")]
    assert main(["export", str(tmp_path / "none"), *out, f"--frame-px={text}"]) == 2
    assert f"got --frame-px {text}, expected" in capsys.readouterr().err
