"""Weights are read in training as an export will round them: what is trained is what runs."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import linear

from edgestream.models.adapters import merge_adapter
from edgestream.quant.numerics import fake_quantized
from edgestream.runtime.errors import SchemeUnknown, SettingsInvalid
from edgestream.training.live_loss import LiveLoss
from edgestream.training.lora_data import batches_of, pieces_of
from edgestream.training.lora_model import LoraModel, LoraShape
from edgestream.training.lora_recipe import usual_of
from edgestream.training.lora_stage import LoraStage, logits_of, row_batch
from edgestream.training.rounded_layers import (
    check_rounding,
    round_,
    rounded,
    rounded_layers,
    rounding_named,
)
from edgestream.training.team import Team

from .lora_data import small_checkpoint, streams_of, writer_of

INT4 = rounding_named("int4-32")
SHAPE = LoraShape(rank=4, alpha=8, dropout=0.0, is_decoder_only=True, round_to=INT4.name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def streams(checkpoint):
    return streams_of(checkpoint, 4)


@given(
    name=st.sampled_from(["int4-32", "int4", "int4-128", "int8", "int8-64"]),
    rows=st.integers(1, 6),
    columns=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
    is_coarse=st.booleans(),
)
def test_it_rounds_as_the_export_does_to_the_last_bit(name, rows, columns, seed, is_coarse):
    weights = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    if is_coarse:  # ties, equal peaks of both signs, blocks of zeros
        weights = np.round(weights)
    scheme = rounding_named(name)
    got = rounded(torch.from_numpy(weights), scheme).numpy()
    np.testing.assert_array_equal(got, fake_quantized(weights, scheme))


def stage_of(checkpoint, streams, shape=SHAPE) -> LoraStage:
    torch.set_num_threads(1)
    batches = batches_of(streams, epochs=30, rows=3, most_tokens=400, seed=1)
    model = LoraModel(checkpoint, shape, 0, "cpu")
    return LoraStage(model, streams, batches, writer_of(checkpoint), LiveLoss(), Team())


def trained(stage: LoraStage, steps: int) -> list[float]:
    optimiser, losses = stage.optimiser(), []
    for step in range(steps):
        optimiser.clear()
        terms, _ = stage.losses(step, 0.0)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        optimiser.step(2e-2)
        losses.append(float(total.detach()))
    return losses


@torch.no_grad()
def said_by(model, checkpoint, streams):
    batch = row_batch(pieces_of(streams, 400), streams, writer_of(checkpoint), "cpu")
    return logits_of(model.eval(), batch)


@pytest.mark.medium
@pytest.mark.parametrize("targets", [SHAPE.targets, ("q_proj", "down_proj", "lm_head")])
def test_what_is_trained_is_what_the_merged_and_rounded_adapter_says(
    targets, checkpoint, streams, tmp_path
):
    stage = stage_of(checkpoint, streams, replace(SHAPE, targets=targets))
    losses = trained(stage, 40)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    stage.model.save(tmp_path / "adapter", {})
    merged = merge_adapter(checkpoint, tmp_path / "adapter")
    device = LoraModel(merged, replace(SHAPE, round_to=""), 0, "cpu")
    exact = said_by(device, checkpoint, streams)
    for name, layer in device.decoder.named_modules():
        if isinstance(layer, torch.nn.Linear) and not any(
            word in name for word in (".lora_", "connector.")
        ):
            left = fake_quantized(layer.weight.detach().numpy(), INT4)
            layer.weight = torch.nn.Parameter(torch.from_numpy(left))
    expected = said_by(device, checkpoint, streams)
    got = said_by(stage.model, checkpoint, streams)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert float((exact - expected).abs().max()) > 0.01


def layer_of(seed: int = 0):
    """A rounded layer of PEFT with an adapter that does something, and the base's own weights."""
    import peft

    torch.manual_seed(seed)
    base = torch.nn.Sequential(torch.nn.Linear(64, 24))
    weights = base[0].weight.detach().clone()
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0"], lora_dropout=0.0)
    config._register_custom_module(rounded_layers(INT4))
    layer = peft.get_peft_model(base, config).base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(0, 0.1)
    return layer, weights


def test_gradients_go_straight_through_the_rounding():
    layer, weights = layer_of()
    x = torch.randn(5, 64, requires_grad=True)
    aim = torch.randn(5, 24)
    (layer(x) * aim).sum().backward()
    first, second = (one["default"].weight for one in (layer.lora_A, layer.lora_B))
    a, b = (one.detach().clone().requires_grad_() for one in (first, second))
    other = x.detach().clone().requires_grad_()
    whole = weights + layer.scaling["default"] * (b @ a)
    straight = whole + (rounded(whole, INT4) - whole).detach()
    (linear(other, straight, layer.base_layer.bias) * aim).sum().backward()
    for got, expected in ((first, a), (second, b), (x, other)):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("optimiser", [torch.optim.Muon, torch.optim.AdamW])
def test_the_sum_is_kept_until_a_weight_changes(optimiser):
    layer, weights = layer_of()
    x = torch.randn(2, 64)
    before = layer(x).detach()
    assert layer._weight() is layer._weight()
    parts = [one["default"].weight for one in (layer.lora_A, layer.lora_B)]
    steps = optimiser(parts, lr=0.1)
    layer(x).square().sum().backward()
    steps.step()
    whole = weights + layer.scaling["default"] * (parts[1] @ parts[0]).detach()
    expected = linear(x, rounded(whole, INT4), layer.base_layer.bias)
    torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-5, atol=1e-5)
    assert float((expected - before).abs().max()) > 1e-3
    with torch.no_grad():
        parts[1].zero_()
    torch.testing.assert_close(
        layer(x).detach(), linear(x, rounded(weights, INT4), layer.base_layer.bias)
    )


def test_the_head_is_rounded_and_what_embeds_tokens_is_not(checkpoint):
    decoder = copy.deepcopy(checkpoint.decoder)
    table = decoder.get_input_embeddings().weight.detach().clone()
    round_(decoder, INT4)
    assert torch.equal(decoder.get_input_embeddings().weight, table)
    assert torch.equal(decoder.lm_head.weight, rounded(table, INT4))
    assert not torch.equal(decoder.lm_head.weight, table)


@pytest.mark.parametrize("name", ["int4-gptq", "nf4", "fp32", "int4-128-gptq"])
def test_a_rounding_that_training_cannot_see_is_refused(name):
    with pytest.raises(SettingsInvalid, match=f"got --round-to {name}"):
        rounding_named(name)


def test_an_unknown_scheme_and_a_narrow_layer_are_refused(checkpoint):
    with pytest.raises(SchemeUnknown, match="int3"):
        rounding_named("int3")
    with pytest.raises(SettingsInvalid, match=r"_proj has rows of \d+ weights and a block 128"):
        check_rounding(checkpoint.decoder, rounding_named("int4-128"))


def test_it_is_usual_for_a_reference_assistant_that_is_whole():
    assert rounding_named(usual_of("reference").round_to).name == "int4-64"
    assert not usual_of("live").round_to
    assert not usual_of("reference", is_shared=True).round_to
    assert not usual_of("reference", is_nf4=True).round_to
