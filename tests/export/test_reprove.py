"""The proof repeated: it takes the adapter that was merged, whatever its folder is called."""

from __future__ import annotations

import shutil

import pytest

from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.reprove import reproven
from edgestream.models.families import load_checkpoint
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import AdapterMismatch

from ..checkpoints import random_live_checkpoint
from ..lora_adapters import random_adapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """(checkpoint, adapter, bundle)."""
    place = tmp_path_factory.mktemp("adapted")
    checkpoint = random_live_checkpoint(place / "checkpoint", has_gate=True)
    adapter = random_adapter(place / "site", load_checkpoint(checkpoint), seed=1, std=0.05)
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny", adapter=adapter)
    export_bundle(checkpoint, place / "bundle", choice, lambda stage, part: None)
    return checkpoint, adapter, open_bundle(place / "bundle")


def test_a_copy_of_the_adapter_with_another_name_is_the_adapter(adapted, tmp_path):
    checkpoint, adapter, bundle = adapted
    copy = shutil.copytree(adapter, tmp_path / "copy")
    assert reproven(bundle, checkpoint, adapter=copy).passed


def test_another_adapter_of_the_same_name_is_said_to_be_another(adapted, tmp_path):
    checkpoint, adapter, bundle = adapted
    other = random_adapter(tmp_path / adapter.name, load_checkpoint(checkpoint), seed=2)
    said = r"another adapter was given than tiny .*: got site \(.{12}…\), expected site \("
    with pytest.raises(AdapterMismatch, match=said):
        reproven(bundle, checkpoint, adapter=other)


def test_the_adapter_left_out_is_asked_for(adapted):
    checkpoint, _, bundle = adapted
    with pytest.raises(AdapterMismatch, match=r"got none, expected site \(") as caught:
        reproven(bundle, checkpoint)
    assert "--adapter" in caught.value.hint
