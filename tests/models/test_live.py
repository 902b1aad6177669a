"""The family `live`: VideoLLM-online's template word for word, with any tower and decoder."""

from __future__ import annotations

import pytest
import torch

from edgestream.models.families import load_checkpoint
from edgestream.models.live_layout import LivePrompt, live_layout
from edgestream.models.transformers_parts import DECODERS, TOWERS
from edgestream.runtime.errors import PromptInvalid
from edgestream.runtime.prompt_json import layout_as_json, layout_from_json
from edgestream.runtime.prompt_layout import PromptLayout, Slot, Text, check_layout, ids_of

from ..checkpoints import SYSTEM, TEXT, random_live_checkpoint, trained_tokenizer
from ..trained_checkpoint import NOT_SUPERVISED, trained_live_checkpoint

TOKENIZER = trained_tokenizer(TEXT)
LAYOUT = live_layout(LivePrompt(SYSTEM, "</s>", "<s>"), TOKENIZER)


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_any_tower_and_any_decoder_make_a_stream(tower, decoder, tmp_path):
    folder = random_live_checkpoint(tmp_path, tower=tower, decoder=decoder, is_tied=False)
    loaded = load_checkpoint(folder)
    assert type(loaded.decoder) is DECODERS[decoder][1]
    assert type(loaded.vision.tower) is TOWERS[tower][1]
    tokens, summary = loaded.vision(torch.randn(1, 3, *loaded.frame_input.size_px))
    assert tokens.shape == (1, loaded.tokens_per_frame, 48)
    torch.testing.assert_close(summary.norm(), torch.tensor(1.0))
    embeds = loaded.connector(tokens)
    assert loaded.decoder(inputs_embeds=embeds).logits.shape == (1, 10, len(loaded.embeddings))
    check_layout(loaded.layout, loaded.tokenizer)
    assert loaded.frame_input.resize == "letterbox" and loaded.frame_input.channels == 3
    assert loaded.frame_input.mean == (
        (0.5,) * 3 if tower.startswith("siglip") else (0.48145466, 0.4578275, 0.40821073)
    )
    assert (loaded.positions.axes, loaded.positions.theta) == (1, 50_000.0)


def written(layout: PromptLayout, kind: str, **slots: str) -> str:
    pieces = layout.segments[kind]
    return "".join(
        slots[piece.name] if isinstance(piece, Slot) else piece.text
        for piece in pieces
        if isinstance(piece, Slot | Text)
    )


def test_the_stream_reads_as_videollm_online_wrote_it():
    """Its rule: each message begins with a line feed; ours: `]` has the one that follows it."""

    def watched(frames: int) -> str:
        shown = written(LAYOUT, "frame_join").join(
            written(LAYOUT, "frame", embeds="V" * 10) for _ in range(frames)
        )
        return written(LAYOUT, "frame_open") + shown + written(LAYOUT, "frame_close")

    frame = "V" * 10
    ours = "<s>" + written(LAYOUT, "system")
    ours += watched(3) + written(LAYOUT, "assistant") + " It rains.</s>"
    ours += watched(2) + written(LAYOUT, "user", question="Why?") + written(LAYOUT, "assistant")
    theirs = f"<s>{SYSTEM}\n" + f"\n[{frame},{frame},{frame}]" + "\nAssistant: It rains.</s>"
    theirs += f"\n[{frame},{frame}]" + "\nUser: Why?" + "\nAssistant:"
    assert ours == theirs


def test_the_decision_tokens_are_those_of_the_stream_they_stand_in():
    """Each is the first token of what follows a frame, also when the text goes on after it."""
    assert LAYOUT.silent_ids == ids_of(TOKENIZER, ",")
    for text in ("]\n", "]\nAssistant:", "]\nUser: Why?"):
        assert ids_of(TOKENIZER, text)[:1] == LAYOUT.speak_ids
    assert TOKENIZER.decode(list(LAYOUT.speak_ids)) == "]\n"
    assert LAYOUT.stop_ids == (TOKENIZER.token_to_id("</s>"),)
    assert LAYOUT.bos_id == TOKENIZER.token_to_id("<s>")


def test_one_token_a_frame_is_silent_with_the_stop_token(tmp_path):
    loaded = load_checkpoint(random_live_checkpoint(tmp_path, tokens_per_frame=1))
    assert loaded.layout.silent_ids == loaded.layout.stop_ids
    assert loaded.layout.segments["frame_join"] == ()
    assert layout_from_json(layout_as_json(loaded.layout)) == loaded.layout


def test_a_join_of_several_tokens_cannot_say_silent():
    with pytest.raises(PromptInvalid, match=r"config\.json\.prompt\.join is ' and '"):
        live_layout(LivePrompt(SYSTEM, "</s>", "<s>", join=" and "), TOKENIZER)


@pytest.mark.slow
@pytest.mark.timeout(900)  # it may have to be trained first
def test_the_trained_checkpoint_knows_what_it_sees():
    trained = trained_live_checkpoint()
    loaded = load_checkpoint(trained.folder)
    right = []
    with torch.no_grad():
        for sequence in trained.held_out:
            logits = loaded.decoder(inputs_embeds=torch.from_numpy(sequence.embeds)).logits[0]
            targets = torch.from_numpy(sequence.targets)
            is_wanted = targets != NOT_SUPERVISED
            right.append(logits[is_wanted].argmax(-1) == targets[is_wanted])
    accuracy = torch.cat(right).float().mean().item()
    assert accuracy >= 0.95 and abs(accuracy - trained.curve[-1]["held_out_accuracy"]) < 0.01
    assert len(trained.held_out) == 32 and trained.frames.shape == (64, 64, 64, 3)
