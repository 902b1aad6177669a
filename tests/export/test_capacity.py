"""The capacity of a bundle's cache: what `run` would refuse is refused before anything is made."""

from __future__ import annotations

import re

import pytest

from edgestream.edge.cli import main
from edgestream.export.plans import check_capacity
from edgestream.models.families import load_checkpoint
from edgestream.models.family import LoadOptions
from edgestream.runtime.errors import SettingsInvalid
from edgestream.runtime.prompt_layout import ids_of
from edgestream.runtime.speaking import slots_needed

from ..models.test_smolvlm import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Frames of up to 256 tokens."""
    return tiny_folder(tmp_path_factory.mktemp("capacity") / "tiny", image_size=256)[0]


def test_the_least_that_export_takes_is_the_least_that_a_run_takes(folder):
    checkpoint = load_checkpoint(folder)
    tokenizer = checkpoint.tokenizer
    needed = slots_needed(checkpoint.layout, lambda text: ids_of(tokenizer, text), 256)
    check_capacity(checkpoint, needed)
    with pytest.raises(
        SettingsInvalid, match=f"expected {needed} or more: .* of 256 tokens"
    ) as one:
        check_capacity(checkpoint, needed - 1)
    (enough,) = re.findall(r"--capacity (\d+)", one.value.hint or "")
    check_capacity(checkpoint, int(enough))
    assert 2 * 256 < needed <= int(enough) < needed + 64


@pytest.mark.medium
def test_it_is_refused_before_anything_is_made(folder, tmp_path, capsys):
    out = ["--out", str(tmp_path / "bundle")]
    assert main(["export", str(folder), *out]) == 2
    told = capsys.readouterr().err
    assert "got --capacity 512, expected" in told and "--capacity 576," in told
    assert "adapter" not in told and "calibration" not in told
    assert not list(tmp_path.iterdir())
    small = load_checkpoint(folder, LoadOptions(frame_px=128))
    check_capacity(small, 512)
    # Where no cache can be large enough, only frames are told of.
    small.decoder.config.max_position_embeddings = 100
    with pytest.raises(SettingsInvalid) as caught:
        check_capacity(small, 64)
    assert "--capacity" not in (caught.value.hint or "")
