"""The stage `lora`: it learns, portions change nothing, and what it saves can be merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgestream.models.adapters import merge_adapter
from edgestream.models.reference_layout import encoder_of
from edgestream.quant.nf4 import dequantize_nf4, quantize_nf4
from edgestream.runtime.errors import (
    AdapterMismatch,
    CheckpointInvalid,
    DialogueInvalid,
    QualityError,
)
from edgestream.training.best_weights import BestWeights
from edgestream.training.dialogues import Dialogue, Turn
from edgestream.training.live_loss import SPEAK, WORD, LiveLoss, label_counts
from edgestream.training.lora_data import (
    Piece,
    batches_of,
    check_words,
    live_stream,
    pieces_of,
    sentences_of,
    split_held_out,
)
from edgestream.training.lora_examiner import Examiner
from edgestream.training.lora_model import TARGETS, LoraModel, LoraShape, to_nf4_
from edgestream.training.lora_stage import LoraStage, logits_of, row_batch
from edgestream.training.lora_watching import Watcher
from edgestream.training.team import Team

from .lora_data import small_checkpoint, streams_of, writer_of

SHAPE = LoraShape(rank=4, alpha=8, targets=(*TARGETS, "lm_head"), dropout=0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def streams(checkpoint):
    return streams_of(checkpoint, 6)


def stage_of(checkpoint, streams, shape=SHAPE, team=None, **more) -> LoraStage:
    torch.set_num_threads(1)
    model = LoraModel(checkpoint, shape, 0, "cpu")
    batches = batches_of(streams, epochs=30, rows=3, most_tokens=400, seed=1)
    given = (model, streams, batches, writer_of(checkpoint), LiveLoss(), team or Team())
    return LoraStage(*given, **more)


def gradients(stage: LoraStage, step: int) -> dict[str, torch.Tensor]:
    stage.model.zero_grad()
    terms, _ = stage.losses(step, 0.0)
    torch.stack(list(terms.values())).sum().backward()
    return {name: one.grad.clone() for name, one in stage.model.trained.items()}


@pytest.mark.medium
def test_portions_of_a_batch_give_the_same_loss_and_gradients(checkpoint, streams):
    whole, parts = (stage_of(checkpoint, streams, portions=count) for count in (1, 3))
    for step in (0, 1):
        expected, got = gradients(whole, step), gradients(parts, step)
        assert expected.keys() == got.keys() and len(got) > 20
        for name, one in expected.items():
            torch.testing.assert_close(got[name], one, rtol=1e-4, atol=1e-6)
    assert {
        name: float(one.detach()) for name, one in whole.losses(2, 0.0)[0].items()
    } == pytest.approx(
        {name: float(one.detach()) for name, one in parts.losses(2, 0.0)[0].items()}, rel=1e-5
    )


@pytest.fixture(scope="module")
def taught(checkpoint, streams):
    """A stage after a few steps, and its losses."""
    stage, losses = stage_of(checkpoint, streams), []
    optimiser = stage.optimiser()
    for step in range(60):
        optimiser.clear()
        terms, _ = stage.losses(step, 0.0)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        optimiser.step(2e-2)
        losses.append(float(total.detach()))
    return stage, losses


def whole_batch(stage: LoraStage, checkpoint, streams):
    return row_batch(pieces_of(streams, 400), streams, writer_of(checkpoint), "cpu")


@pytest.mark.medium
def test_it_learns_and_the_base_stays(taught, checkpoint, streams):
    stage, losses = taught
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    base = dict(checkpoint.decoder.named_parameters())
    for name, one in stage.model.decoder.named_parameters():
        if (own := base.get(name.replace(".base_layer", ""))) is not None:
            assert torch.equal(one, own), name


@pytest.mark.medium
def test_what_is_saved_and_merged_gives_what_was_trained(taught, checkpoint, streams, tmp_path):
    stage, _ = taught
    batch = whole_batch(stage, checkpoint, streams)
    stage.model.eval()
    with torch.no_grad():
        expected = logits_of(stage.model, batch)
    stage.model.save(tmp_path / "adapter", {"steps": 60})
    stage.model.save(tmp_path / "adapter", {"steps": 60})  # an older one is replaced
    assert sorted(one.name for one in tmp_path.iterdir()) == ["adapter"]
    merged = merge_adapter(checkpoint, tmp_path / "adapter")
    assert "assumed" not in merged.source.extra  # its base is known by its hash
    plain = LoraModel(merged, SHAPE, 0, "cpu").eval()  # adapters that nothing trained add nothing
    with torch.no_grad():
        torch.testing.assert_close(logits_of(plain, batch), expected, rtol=1e-4, atol=1e-4)
        untaught = logits_of(LoraModel(checkpoint, SHAPE, 0, "cpu").eval(), batch)
    assert float((untaught - expected).abs().max()) > 0.1


def test_an_adapter_of_another_base_is_refused(taught, tmp_path):
    stage, _ = taught
    stage.model.save(tmp_path / "adapter", {})
    other = small_checkpoint(tmp_path / "other")
    with pytest.raises(AdapterMismatch, match="was trained on the checkpoint"):
        merge_adapter(replaced_sha(other), tmp_path / "adapter")


def replaced_sha(checkpoint):
    return replace(checkpoint, source=replace(checkpoint.source, sha256="0" * 64))


def watcher_of(stage: LoraStage, checkpoint, most_tokens: int = 400, threshold: float = 0.0):
    encode = encoder_of(checkpoint.tokenizer)
    return Watcher(stage.model, checkpoint.layout, encode, most_tokens, threshold)


@pytest.mark.medium
def test_what_it_says_freely_is_what_it_finds_most_likely_when_it_is_taught_so(
    taught, checkpoint, streams
):
    """A free run, taught back as the truth, is right at every word: one text, two ways to read."""
    stage, _ = taught
    encode, said = encoder_of(checkpoint.tokenizer), 0
    for stream in streams:
        spoken = watcher_of(stage, checkpoint).spoken(stream)
        texts = [(at, checkpoint.tokenizer.decode(list(ids))) for at, ids in spoken if ids]
        said_again = [tuple(encode(text)) for _, text in texts]
        if not texts or said_again != [tuple(ids) for _, ids in spoken if ids]:
            continue  # a special token in the midst of a sentence is in no text
        turns = tuple(Turn(at, "assistant", text) for at, text in texts)
        dialogue = replace(stream.dialogue, turns=turns)
        again = live_stream(dialogue, stream.features, writer_of(checkpoint))
        batch = row_batch(pieces_of([again], 400), [again], writer_of(checkpoint), "cpu")
        with torch.no_grad():
            best = logits_of(stage.model, batch).argmax(-1)
        is_word = (batch.kinds == WORD) | (batch.kinds == SPEAK)
        silent = checkpoint.layout.silent_ids[0]
        right = (best == batch.labels) | ((batch.kinds == SPEAK) & (best != silent))
        assert bool(right[is_word].all())
        said += len(texts)
    assert said > 0


@pytest.mark.medium
def test_a_full_row_begins_anew(taught, checkpoint, streams):
    stage, _ = taught
    short, long = (watcher_of(stage, checkpoint, most).spoken(streams[0]) for most in (40, 4000))
    assert all(0 <= at <= 3.75 for at, _ in (*short, *long))


@pytest.mark.medium
def test_the_examiner_sees_that_it_has_learned(taught, checkpoint, streams):
    stage, _ = taught
    writer, loss = writer_of(checkpoint), LiveLoss()
    silent = checkpoint.layout.silent_ids
    fresh = stage_of(checkpoint, streams)
    before, after = (
        Examiner(tuple(streams), writer, loss, watcher_of(one, checkpoint), 4.0, silent).figures()
        for one in (fresh, stage)
    )
    assert after["loss"] < before["loss"] and after["lm_ppl"] < before["lm_ppl"]
    assert after["fluency"] > before["fluency"] and after["f1"] > before["f1"]
    batch = whole_batch(stage, checkpoint, streams)
    with torch.no_grad():
        terms = loss.terms(
            logits_of(stage.model, batch), batch.labels, batch.kinds, label_counts(batch.kinds)
        )
    assert after["loss"] == pytest.approx(float(terms.stream + terms.words), rel=1e-4)


def test_the_best_weights_come_back(checkpoint, streams, tmp_path):
    model = LoraModel(checkpoint, SHAPE, 0, "cpu")
    best = BestWeights(model, tmp_path)
    name, one = next(iter(model.trained.items()))
    kept = one.detach().clone()
    assert best.offer(3, 0.5)
    with torch.no_grad():
        one.add_(1.0)
    assert not BestWeights(model, tmp_path).offer(4, 0.5) and best.step == 3
    best.take()
    assert torch.equal(model.trained[name], kept)
    (tmp_path / "best.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointInvalid):
        best.take()


def test_targets_that_are_not_there_are_refused(checkpoint):
    with pytest.raises(AdapterMismatch, match="c_attn") as caught:
        LoraModel(checkpoint, replace(SHAPE, targets=("q_proj", "c_attn")), 0, "cpu")
    assert "q_proj" in (caught.value.hint or "")


def test_nf4_keeps_what_our_own_numerics_make_of_the_weights(checkpoint):
    pytest.importorskip("bitsandbytes")
    model = LoraModel(checkpoint, replace(SHAPE, is_nf4=True), 0, "cpu")
    layer = model.decoder.model.layers[0].mlp.up_proj.base_layer
    own = checkpoint.decoder.model.layers[0].mlp.up_proj.weight.detach().numpy()
    expected = quantize_nf4(own, 64)
    assert np.array_equal(layer.weight.numpy().reshape(-1), expected.packed)
    given = torch.randn(3, own.shape[1])
    weights = dequantize_nf4(expected, 64, own.shape)
    np.testing.assert_allclose(layer(given).numpy(), given.numpy() @ weights.T, atol=1e-4)


def test_rows_that_nf4_cannot_hold_are_refused():
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up_proj = torch.nn.Linear(96, 8)

    pytest.importorskip("bitsandbytes")
    with pytest.raises(QualityError, match="multiple of 64"):
        to_nf4_(Odd(), ("up_proj",))


def test_every_dialogue_is_read_once_an_epoch(streams):
    batches = batches_of(streams, epochs=3, rows=4, most_tokens=400, seed=0)
    pieces = [one for batch in batches for one in batch]
    assert all(len(batch) == 4 for batch in batches) and len(pieces) == 20
    for epoch in range(3):
        assert sorted(one.stream for one in pieces[6 * epoch : 6 * epoch + 6]) == [*range(6)]
    assert pieces[18:] == pieces[:2]
    assert batches == batches_of(streams, epochs=3, rows=4, most_tokens=400, seed=0)


def test_long_dialogues_are_cut_elsewhere_each_time(streams):
    batches = batches_of(streams, epochs=4, rows=1, most_tokens=60, seed=0)
    cuts = {one.end for batch in batches for one in batch if one.stream == 0}
    assert len(cuts) > 4
    learned = [at for one in pieces_of(streams, 60) if one.stream == 0
               for at in range(one.learned, one.end)]  # fmt: skip
    assert learned == [*range(len(streams[0].atoms))]
    assert Piece(0, 0, 0, len(streams[0].atoms)) in pieces_of(streams, 400)


def test_held_out_are_whole_videos():
    dialogues = [
        Dialogue(Path(f"{at % 5}.mp4"), (Turn(0.0, "assistant", "x"),)) for at in range(20)
    ]
    learned, held = split_held_out(dialogues, 0.3, seed=4)
    assert len(learned) + len(held) == 20
    assert not {one.video for one in learned} & {one.video for one in held}
    assert len({one.video for one in held}) == 2
    assert (
        split_held_out(dialogues[:1], 0.3, 0)[1] == ()
        and split_held_out(dialogues, 0.0, 0)[1] == ()
    )


def test_a_word_that_the_model_does_not_have_is_refused(checkpoint):
    turns = (Turn(1.0, "assistant", "It gets dark."), Turn(2.0, "assistant", "A giraffe enters."))
    with pytest.raises(DialogueInvalid, match=r"d\.jsonl:7: .*'(A|giraffe)'"):
        check_words([Dialogue(Path("x"), turns, place="d.jsonl:7")], checkpoint.tokenizer)
    check_words([Dialogue(Path("x"), turns[:1], place="d.jsonl:7")], checkpoint.tokenizer)


def test_only_what_nobody_asked_for_is_a_moment_to_speak(streams):
    assert list(sentences_of(streams[0])) == [(1.0, "It gets dark."), (3.0, "The scene changes.")]
