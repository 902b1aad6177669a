"""What is trained and what is kept: the decoder alone, and a base of NF4 that stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgestream.models.adapters import merge_adapter
from edgestream.models.lora_matrices import lora_matrices
from edgestream.quant.nf4 import dequantize_nf4, quantize_nf4
from edgestream.runtime.errors import CheckpointInvalid
from edgestream.training.lora_model import LoraModel, LoraShape

from .lora_data import small_checkpoint

SHAPE = LoraShape(rank=4, alpha=8, dropout=0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("base"))


def model_of(checkpoint, **changes) -> LoraModel:
    """A model whose adapters add something, the same for each of one kind."""
    model = LoraModel(checkpoint, replace(SHAPE, **changes), 0, "cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, one in model.trained.items():
            if "lora_B" in name:
                one.normal_(std=0.1)
    return model


def embeds_of(checkpoint) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(2, 9, checkpoint.decoder.config.hidden_size)


@pytest.mark.medium
def test_the_decoder_alone_is_trained_and_can_be_kept_unmerged(checkpoint, tmp_path):
    model = model_of(checkpoint, is_decoder_only=True)
    assert model.trained and all("lora_" in name for name in model.trained)
    connector = checkpoint.connector.state_dict()
    for name, one in model.decoder.connector.state_dict().items():
        assert torch.equal(one, connector[name])
    model.save(tmp_path / "adapter", {})
    matrices = lora_matrices(checkpoint, tmp_path / "adapter")
    assert len(matrices) == 7 * checkpoint.decoder.config.num_hidden_layers
    embeds = embeds_of(checkpoint)
    with torch.no_grad():
        expected = model.eval().decoder(inputs_embeds=embeds).logits
        merged = merge_adapter(checkpoint, tmp_path / "adapter").decoder
        torch.testing.assert_close(merged(inputs_embeds=embeds).logits, expected)


def test_with_the_connector_it_can_be_merged_alone(checkpoint, tmp_path):
    model = model_of(checkpoint)
    trained = [name for name in model.trained if "connector" in name]
    assert len(trained) == len(list(checkpoint.connector.parameters()))
    model.save(tmp_path / "adapter", {})
    with pytest.raises(CheckpointInvalid, match="has modules_to_save, expected plain LoRA"):
        lora_matrices(checkpoint, tmp_path / "adapter")


@pytest.mark.medium
def test_an_nf4_base_is_the_same_before_and_after_it_was_looked_at(checkpoint):
    """Forward and gradients are those over the dequantized weights, in training and after a look.

    bitsandbytes packs its weights for bfloat16 at a first look in eval mode on some CPUs.
    """
    pytest.importorskip("bitsandbytes")
    quantized, plain = (model_of(checkpoint, is_nf4=is_nf4) for is_nf4 in (True, False))
    layers = {
        name: one for name, one in plain.decoder.named_modules() if name.endswith("base_layer")
    }
    for layer in layers.values():
        weight = layer.weight.detach().numpy()
        restored = dequantize_nf4(quantize_nf4(weight, 64), 64, weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(restored))
    embeds = embeds_of(checkpoint)
    for _ in range(2):
        told = []
        for model in (quantized, plain):
            model.train().zero_grad()
            logits = model.decoder(inputs_embeds=embeds).logits
            torch.log_softmax(logits, -1)[..., 5].mean().backward()
            told.append((logits, {name: one.grad for name, one in model.trained.items()}))
            with torch.no_grad():
                told[-1] += (model.eval().decoder(inputs_embeds=embeds).logits,)
        (ours, gradients, looked), (expected, wanted, there) = told
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(looked, there)
        for name, one in gradients.items():
            torch.testing.assert_close(one, wanted[name], rtol=1e-4, atol=1e-6)
    name = next(iter(layers))
    kept = quantized.decoder.get_submodule(name).weight
    own = checkpoint.decoder.get_submodule(name.removesuffix(".base_layer")).weight
    codes = quantize_nf4(own.detach().numpy(), 64)
    assert np.array_equal(kept.data.numpy().reshape(-1), codes.packed)
    assert np.array_equal(kept.quant_state.absmax.numpy().reshape(-1), codes.peaks)
