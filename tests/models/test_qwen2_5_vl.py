"""The family `qwen2_5_vl` by the law of families, and what it says of a checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from edgestream.models.chat_layout import chat_layout
from edgestream.models.families import load_checkpoint
from edgestream.models.families.qwen2_5_vl import WORDS
from edgestream.models.family import LoadOptions
from edgestream.runtime.arena import Arena
from edgestream.runtime.context_continuous import ContinuousContext, ContinuousRules
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import SettingsInvalid
from edgestream.runtime.eviction import EvictionPolicy
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.prompt_layout import ids_of
from edgestream.runtime.stream_prompt import StreamText
from edgestream.runtime.token_rows import TokenRows
from edgestream.runtime.values import Features, Load, Observed, Question, Turn

from ..family_law import FamilyLaw, check_layout, clip_frames
from ..family_tests import SaysWhatTheModelSays
from ..hub_checkpoints import chat_tokenizer, qwen2_tokenizer
from ..qwen2_5_vl_checkpoint import (
    CHAT_TEMPLATE,
    SPECIAL,
    image_grid,
    image_values,
    tiny_folder,
)
from ..torch_reference import TorchReference


def full_inputs(ids, pixels):
    """How transformers' whole model is called about some frames."""
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == LAW_IMAGE).int(),
        "pixel_values": torch.cat([image_values(one.numpy()) for one in pixels]),
        "image_grid_thw": torch.cat([image_grid(one) for one in pixels]),
    }


LAW_IMAGE = chat_tokenizer(SPECIAL).token_to_id("<|image_pad|>")


@pytest.fixture(scope="module")
def law(tmp_path_factory) -> FamilyLaw:
    work = tmp_path_factory.mktemp("qwen2_5_vl")
    folder, model = tiny_folder(work / "checkpoint", is_tied=False)
    return FamilyLaw(folder, work, model, LAW_IMAGE, full_inputs)


class TestQwen25Vl(SaysWhatTheModelSays):
    """Held to the model that it comes from."""

    def test_its_frames_are_a_grid(self, law):
        assert law.bundle.manifest.positions.frame_grid == (8, 8)


class Mirrored(LanguageModel):
    """A language model whose every call is held against one that keeps its keys unturned."""

    def mirror(self, reference):
        self.reference, self.evictions, self.worst, self.spread = reference, 0, 0.0, 0.0
        return self

    def append(self, embeds, *, positions=None, cancelled=lambda: False):
        logits = super().append(embeds, positions=positions, cancelled=cancelled)
        wanted = self.reference.append(embeds, positions)
        self.worst = max(self.worst, float(np.abs(logits - wanted).max()))
        self.spread = max(self.spread, float(wanted.std()))
        return logits

    def evict(self, keep, new_positions=None):
        super().evict(keep, new_positions)
        self.reference.keep(keep)
        assert np.array_equal(self.reference.places, self.arena.positions[:, : self.arena.length])
        self.evictions += 1


@pytest.mark.slow
def test_a_long_stream_stays_what_attends_over_the_kept_tokens(law):
    """Frames for ever, some with fewer tokens under load, and questions between them."""
    manifest, device = law.bundle.manifest, law.device
    model = Mirrored(
        OrtBackend("cpu").open(law.bundle.path("decoder.cpu-fp32.onnx")),
        Arena(manifest.cache, manifest.positions),
        TokenRows(law.bundle.embeddings()),
        OpenLane(),
    ).mirror(TorchReference(law.checkpoint.decoder, manifest.positions))
    text = StreamText(device.layout, lambda text: ids_of(device.tokenizer, text))
    rules = ContinuousRules(EvictionPolicy(128, 64), answer_tokens=8, skip_still=False)
    context = ContinuousContext(model, device.layout, text, rules)
    frames = [device.embeds(frame) for frame in clip_frames(6)]
    motion = Motion(np.zeros((6, 7, 7), np.float32))
    for number in range(30):
        context.carry(Load(token_share=(1.0, 0.5, 0.25)[number % 3]))
        embeds, time_s = frames[number % len(frames)], number / 2
        features = Features(time_s, embeds, np.ones(1, np.float32), motion, False)
        context.observe(Observed(features, embeds))
        if number % 7 == 6:
            asked = Question("q", "How many people are there now?", time_s)
            turn = Turn("t", "question", time_s, "answer", question=asked)
            said = context.prompt(turn, lambda: False).logits
            for _ in range(4):
                last = int(said.argmax())
                said = model.step(last)
            context.answered(last)
    assert model.evictions >= 3 and model.worst <= 1e-4 < model.spread
    assert model.arena.next_position <= model.arena.length <= 512
    assert (np.diff(model.arena.positions[:, : model.arena.length], axis=0) != 0).any()


@pytest.mark.slow
def test_int8_and_int4_pass_the_proof(tmp_path):
    folder, model = tiny_folder(tmp_path / "checkpoint", gains=0.0)
    FamilyLaw(folder, tmp_path, model, LAW_IMAGE, full_inputs).check_quantized()


@pytest.mark.slow
def test_a_decoder_in_its_files_and_windows_of_several_sizes(tmp_path, monkeypatch):
    """As a 3B is exported: its proof and its logits, with a wide frame."""
    monkeypatch.setattr("edgestream.models.decoder_weights.LARGEST_IN_MEMORY", 0)
    folder, model = tiny_folder(tmp_path / "checkpoint")
    law = FamilyLaw(folder, tmp_path, model, LAW_IMAGE, full_inputs, LoadOptions((140, 196)))
    assert law.checkpoint.tokens_per_frame == 35 and law.checkpoint.stored_decoder is not None
    law.check_logits()


@pytest.mark.medium
@pytest.mark.parametrize("real", [False, True])
def test_the_prompt_is_what_the_published_template_writes(real):
    tokenizer = qwen2_tokenizer() if real else chat_tokenizer(SPECIAL)

    def expand(text):
        return text.replace("<|image_pad|>", "<|image_pad|>" * 3)

    image = tokenizer.token_to_id("<|image_pad|>")
    layout = chat_layout(WORDS, tokenizer, ["<|im_end|>", "<|endoftext|>"])
    check_layout(layout, tokenizer, CHAT_TEMPLATE, expand, image, tokens_per_frame=3)


def test_a_config_as_the_hub_has_it_makes_the_same_model(tmp_path):
    """Qwen's own config.json has the language model's keys beside the others, in older words."""
    folder, model = tiny_folder(tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    words, seen = config.pop("text_config"), config.pop("vision_config")
    sections = words.pop("rope_parameters")["mrope_section"]
    for key in ("model_type", "dtype", "layer_types", "sliding_window"):
        words.pop(key, None)
    published = {
        **words, **config, "torch_dtype": "bfloat16", "rope_theta": 1_000_000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": sections},
        "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 70,
        "vision_config": {**seen, "in_chans": 3, "spatial_patch_size": 14},
    }  # fmt: skip
    published["vision_config"].pop("model_type")
    (folder / "config.json").write_text(json.dumps(published))
    loaded = load_checkpoint(folder)
    assert (loaded.positions.sections, loaded.positions.theta) == ((2, 3, 3), 1_000_000.0)
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        found, expected = loaded.decoder(input_ids=ids).logits, model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert loaded.decoder.config.tie_word_embeddings


@pytest.mark.medium
def test_sizes_of_frames_are_whole_tokens(tmp_path):
    folder, _ = tiny_folder(tmp_path / "checkpoint")
    loaded = load_checkpoint(folder, LoadOptions(tokens_per_frame=16, fps=1.0))
    assert loaded.frame_input.size_px == (112, 112) and loaded.frame_input.fps == 1.0
    assert loaded.frame_input.mean == (0.48, 0.46, 0.41)
    assert loaded.positions.frame_grid == (4, 4)
    wide = load_checkpoint(folder, LoadOptions((112, 196)))
    assert (wide.frame_input.size_px, wide.tokens_per_frame) == ((112, 196), 28)
    assert wide.positions.frame_grid == (4, 7)
    for options in (
        LoadOptions(frame_px=100),
        LoadOptions(tokens_per_frame=10),
        LoadOptions(frame_px=20),
        LoadOptions(frame_px=(112, 113)),
        LoadOptions(frame_px=(28 * 32, 28 * 33)),
        LoadOptions(frame_px=112, tokens_per_frame=64),
    ):
        with pytest.raises(SettingsInvalid, match="for each 28 x 28 px of a frame, 1024 at most"):
            load_checkpoint(folder, options)
