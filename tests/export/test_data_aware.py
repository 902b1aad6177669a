"""GPTQ on the reference assistant: closer to full precision than rounding, on other frames."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.decoder_examples import answered, decoder_hessians
from edgestream.export.decoder_onnx import weights_of
from edgestream.export.proof_data import proof_data
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import SCHEMES
from edgestream.quant.stored import quantized_matrix, restored_matrix

FOLDER = Path(__file__).parents[2] / "assets" / "reference-checkpoint"
pytestmark = pytest.mark.slow
LAST = 16
"""Positions at the end of each answered prompt that are compared: the words of the answer."""


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(FOLDER)


@pytest.fixture(scope="module")
def calibration(checkpoint):
    return calibration_for(checkpoint, None)


@pytest.fixture(scope="module")
def hessians(checkpoint, calibration):
    return decoder_hessians(checkpoint, proof_data(checkpoint, calibration, is_for_fitting=True))


@pytest.fixture(scope="module")
def held_out(checkpoint, calibration):
    """Prompts about frames that were not fitted to, and what full precision expects there."""
    prompts = answered(checkpoint, proof_data(checkpoint, calibration).prompts)
    return prompts, expected(checkpoint.decoder, prompts)


def expected(decoder, prompts) -> np.ndarray:
    """(positions, vocabulary) log-probabilities of the next token."""
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            logits = decoder(
                inputs_embeds=torch.from_numpy(prompt.embeds)[None], logits_to_keep=LAST
            ).logits[0]
            found.append(torch.log_softmax(logits.double(), -1).numpy())
    return np.concatenate(found)


def stored_as(checkpoint, name: str, hessians):
    """The decoder with what a scheme leaves of its weights."""
    decoder, scheme = copy.deepcopy(checkpoint.decoder), SCHEMES[name]
    decoder.lm_head.weight = torch.nn.Parameter(decoder.lm_head.weight.detach().clone())
    ours = dict(checkpoint.decoder.named_parameters())
    left = dict(decoder.named_parameters())
    for weight in weights_of(checkpoint.decoder):
        hessian = hessians.of(weight.parameters[0])
        for parameter in weight.parameters:
            original = ours[parameter].detach().numpy()
            stored = quantized_matrix(original, scheme, hessian, parameter)
            target = "lm_head.weight" if "embed_tokens" in parameter else parameter
            restored = restored_matrix(stored, scheme, original.shape)
            with torch.no_grad():
                left[target].copy_(torch.from_numpy(restored))
    return decoder


@pytest.mark.parametrize("block", [32, 64, 128])
def test_what_is_expected_next_is_nearer_than_by_rounding(checkpoint, hessians, held_out, block):
    prompts, exact = held_out
    lost = {}
    for name in (f"int4-{block}", f"int4-{block}-gptq"):
        found = expected(stored_as(checkpoint, name, hessians), prompts)
        divergence = (np.exp(exact) * (exact - found)).sum(-1).mean()
        same = (found.argmax(-1) == exact.argmax(-1)).mean()
        lost[name] = (divergence, 1 - same)
        print(f"{name}: {divergence:.5f} nats, {same:.4f} same token, of {len(exact)}")
    rounded, chosen = lost.values()
    assert chosen[0] < 0.8 * rounded[0]
    assert chosen[1] <= rounded[1]
