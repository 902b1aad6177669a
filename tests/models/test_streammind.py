"""The family `streammind`: one perception token a frame, held to its equations written twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edgestream.models.families import load_checkpoint
from edgestream.models.family import LoadOptions
from edgestream.models.streammind_layout import SYSTEM, streammind_layout
from edgestream.runtime.errors import CheckpointInvalid, SettingsInvalid, VocabularyMismatch
from edgestream.runtime.prompt import MemoryEntry, PromptParts, Shown, prompt_pieces
from edgestream.runtime.prompt_layout import Ids
from edgestream.runtime.recent import DialogueTurn

from ..family_law import QUESTION, FamilyLaw, clip_frames, independent_pixels
from ..family_tests import AlsoQuantized
from ..streammind_twin import StreamMindTwin, save_streammind, streammind_tokenizer

IMAGE = 0
"""Stands for a frame in the ids: no prompt has this token anywhere else."""


def streammind_law(work: Path) -> FamilyLaw:
    folder = save_streammind(work / "checkpoint")
    twin = StreamMindTwin(folder)

    def full_inputs(ids: torch.Tensor, pixels: torch.Tensor) -> dict[str, Any]:
        """The naive twin's tokens in the place of the frames; the rest is transformers' Mistral."""
        embeds = twin.llm.get_input_embeddings()(ids).clone()
        is_frame = ids == IMAGE
        # The stream begins with these frames, and every one of them is shown.
        told = twin.tokens([twin.patch_mean(one) for one in pixels])
        assert int(is_frame.sum()) == len(told) + 1, "the prompt begins with token 0 too"
        is_frame[0, 0] = False
        embeds[is_frame] = torch.stack(told)
        return {"inputs_embeds": embeds, "attention_mask": torch.ones_like(ids)}

    return FamilyLaw(folder, work, twin.llm, IMAGE, full_inputs, frames=4)


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    return streammind_law(tmp_path_factory.mktemp("streammind"))


class TestStreammind(AlsoQuantized):
    """Held to the model that it comes from."""


@pytest.mark.slow
def test_its_own_gate_watches_the_sample_clip(law, capsys):
    """Its events are told where the naive twin's gate, frame after frame, says `response`."""
    records = law.run_on_the_clip(capsys, "--set", "encoder.heartbeat_s=0.01")
    opened = [one for one in records if one["type"] == "opened"]
    told = [one for one in records if one["type"] == "final"]
    assert {one["cause"] for one in told} == {"event", "question"}
    assert QUESTION in [one["question"] for one in told]
    twin, frame_input = StreamMindTwin(law.folder), law.bundle.manifest.input
    means = [
        twin.patch_mean(independent_pixels(frame, frame_input))
        for frame in clip_frames(39, every_s=1.0)
    ]
    expected = [twin.response(token) for token in twin.tokens(means)]
    assert opened and {one["event"] for one in opened} == {"response"}
    for one in opened:
        score = one["scores"]["response"]
        assert score >= 0.5 and abs(score - expected[round(one["time_s"])]) <= 1e-3


def written(parts: PromptParts) -> str:
    tokenizer = streammind_tokenizer()
    text = ""
    for piece in prompt_pieces(streammind_layout(tokenizer), parts):
        if isinstance(piece, Ids):
            text += tokenizer.decode(list(piece.ids), skip_special_tokens=False)
        else:
            text += "<video>" if isinstance(piece, Shown) else piece.text
    return text


def test_the_prompt_is_the_live_template():
    begin = f"<s>[INST] <<SYS>>\n{SYSTEM}\n<</SYS>>\n\n"
    frames = [(1.0, torch.zeros(1, 4).numpy())]
    assert written(PromptParts("What?", frames)) == f"{begin}<video>\n What? [/INST]"
    assert written(PromptParts(None, frames)) == f"{begin}<video>\n [/INST]"
    assert written(PromptParts("What?")) == f"{begin}What? [/INST]"
    said = MemoryEntry(0.5, frames[0][1], "A box falls.")
    asked = DialogueTurn(0.8, "Why?", " It was pushed.")
    whole = PromptParts("What now?", [*frames, *frames], [asked], [said])
    assert written(whole) == (
        f"{begin}<video>\n [/INST] A box falls. </s>[INST] "
        "Why? [/INST] It was pushed. </s>[INST] <video><video>\n What now? [/INST]"
    )


def test_the_system_text_is_the_originals():
    """By the hash that the reference gives of it."""
    import hashlib

    assert hashlib.sha256(SYSTEM.encode()).hexdigest().startswith("1fa69e2371b762d1")


def test_what_the_folder_says_of_itself_is_told(tmp_path):
    folder = save_streammind(tmp_path / "checkpoint")
    loaded = load_checkpoint(folder)
    assert (loaded.tokens_per_frame, loaded.frame_input.size_px) == (1, (32, 32))
    assert (loaded.frame_input.fps, loaded.frame_input.resize) == (2.0, "letterbox")
    assert loaded.frame_input.mean == (0.48145466, 0.4578275, 0.40821073)
    assert loaded.decoder.config.rms_norm_eps == 1e-5
    assert loaded.decoder.config.sliding_window is None
    assert loaded.positions.theta == 1_000_000.0
    assert (loaded.gate_facts.events, loaded.gate_facts.kind) == (("response",), "learned")
    assert [one.shape for one in loaded.gate_facts.state] == [(1, 1, 128, 3), (1, 1, 128, 16)]
    with pytest.raises(SettingsInvalid, match="--tokens-per-frame 4"):
        load_checkpoint(folder, LoadOptions(tokens_per_frame=4))
    with pytest.raises(SettingsInvalid, match="--frame-px 64"):
        load_checkpoint(folder, LoadOptions(frame_px=64))


def test_tokens_of_the_gate_need_no_row(tmp_path):
    """Training adds them to the tokenizer and leaves the table as it is."""
    folder = save_streammind(tmp_path / "checkpoint")
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    unused = [f"<unused {number}>" for number in range(5)]
    tokenizer.add_special_tokens([*unused, "</silence>", "</response>"])
    tokenizer.save(str(file))
    rows = len(load_checkpoint(folder).embeddings)
    assert tokenizer.token_to_id("</silence>") == rows
    tokenizer.add_special_tokens(["</another>"])
    tokenizer.save(str(file))
    with pytest.raises(VocabularyMismatch, match="</another>"):
        load_checkpoint(folder)


def test_a_decoder_too_large_for_the_memory_stays_in_its_files(tmp_path, monkeypatch):
    folder = save_streammind(tmp_path / "checkpoint")
    whole = load_checkpoint(folder)
    monkeypatch.setattr("edgestream.models.decoder_weights.LARGEST_IN_MEMORY", 0)
    left = load_checkpoint(folder)
    assert whole.stored_decoder is None and next(left.decoder.parameters()).is_meta
    expected, found = whole.decoder_weights(), left.decoder_weights()
    for name in expected.shape.parameters():
        np.testing.assert_array_equal(found.tensor(name), expected.tensor(name))
    for one, other in zip(left.gate.parameters(), whole.gate.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.medium
def test_what_a_bundle_cannot_carry_is_refused_by_name(tmp_path):
    for number, (more, words) in enumerate(
        (
            ({"classes": 9}, r"cls_net.*got one of 9 classes"),
            ({"has_gate": False}, r"cls_net.*got none"),
        )
    ):
        folder = save_streammind(tmp_path / str(number), **more)
        with pytest.raises(CheckpointInvalid, match=words):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_config": None, "mm_vision_tower": "a/siglip"}, "mm_vision_tower: got 'siglip'"),
        (
            {"vision_config": None},
            r"embeddings\.class_embedding .* shape \[48\], expected \[1024\]",
        ),
        ({"mm_vision_select_layer": 4}, "mm_vision_select_layer: got 4"),
        ({"mm_projector_type": "stc_connector"}, "mm_projector_type: got 'stc_connector'"),
        ({"intermediate_size": 96}, "shape"),
    ],
)
def test_a_config_of_another_model_is_refused_by_name(tmp_path, changes, words):
    folder = save_streammind(tmp_path / "checkpoint")
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(CheckpointInvalid, match=words):
        load_checkpoint(folder)
