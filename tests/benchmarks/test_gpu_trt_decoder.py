"""The product's decoder for TensorRT as a peer, through a scripted module in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpu_measure import worst_cosine
from gpu_models import random_model
from gpu_shapes import TINY
from gpu_torch import GrowingPeer
from gpu_trt_decoder import TrtDecoder, trt_decoder_graph

from edgestream.runtime.engines import trt_module
from edgestream.runtime.engines.trt import TrtBackend
from edgestream.runtime.eviction import Span

from ..scripted_tensorrt import HostDevice, scripted_tensorrt


@pytest.fixture
def backend(tmp_path, monkeypatch):
    monkeypatch.setattr(trt_module, "_LOGS", {})
    device = HostDevice()
    trt = scripted_tensorrt(device)
    return TrtBackend("tensorrt", tmp_path / "engines", trt=trt, device=device)


@pytest.mark.parametrize("name", sorted(TINY))
def test_it_says_what_pytorch_says_and_evicts(name, backend, tmp_path):
    with torch.inference_mode():
        model = random_model(TINY[name], torch.device("cpu"), torch.float32)
        ours, theirs = TrtDecoder(model, tmp_path, backend), GrowingPeer(model)
        theirs.reset()
        embeds = theirs.embeds(20, seed=5)
        told = [ours.read(embeds[0].numpy()).copy()]
        told += [ours.step(token).copy() for token in (7, 9)]
        expected = [theirs.read(embeds)]
        expected += [theirs.read(model.embed(torch.tensor([[token]]))) for token in (7, 9)]
    told = torch.from_numpy(np.stack(told))
    assert worst_cosine(told, torch.stack(expected)) > 0.99999
    assert ours.length == 22
    ours.add(Span("text", 22, 0.0))
    frame = embeds[0, : model.shape.frame_tokens].numpy()
    for number in range(3 * model.shape.capacity // len(frame)):
        ours.make_room(len(frame))
        ours.read(frame)
        ours.add(Span("frame", len(frame), float(number)))
        assert ours.length == sum(span.slots for span in ours.spans) <= model.shape.capacity
    assert len(ours.spans) < number
    ours.reset()
    assert ours.length == 0 and not ours.spans
    again = torch.from_numpy(ours.read(embeds[0].numpy()).copy())
    torch.testing.assert_close(again, told[0], rtol=1e-4, atol=1e-4)


def test_the_graph_is_written_once(tmp_path):
    with torch.inference_mode():
        model = random_model(TINY["smolvlm2_500m"], torch.device("cpu"), torch.float16)
        graph = trt_decoder_graph(model, tmp_path)
        made = graph.stat().st_mtime_ns
        assert trt_decoder_graph(model, tmp_path).stat().st_mtime_ns == made
    assert sorted(file.name for file in graph.parent.iterdir()) == [
        "decoder.trt.onnx", "decoder.trt.onnx.data"
    ]  # fmt: skip
