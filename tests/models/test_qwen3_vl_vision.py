"""The tower of Qwen3-VL at one grid, against transformers' own, in PyTorch and as graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgestream.export.int8_vision import int8_from_float, stored_int8
from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.export.traced_weights import traced_weights
from edgestream.models.qwen3_vl_vision import DeepMergers, GridTower
from edgestream.runtime.engines.ort import OrtBackend

from ..qwen3_vl_checkpoint import image_grid, image_values, tiny_tower


def picture(rows, columns, seed=0, patch=16):
    """(3, rows * patch, columns * patch): stripes under noise, so that places differ."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: rows * patch, : columns * patch]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)])
    return (waves + 0.3 * random.standard_normal(waves.shape)).astype(np.float32)


def expected_rows(tower, pixels):
    """What transformers gives: the merged states and those of the taps, side by side."""
    with torch.inference_mode():
        seen = tower(image_values(pixels), grid_thw=image_grid(pixels))
    return torch.cat([seen.pooler_output, *seen.deepstack_features], dim=-1).numpy()


@pytest.mark.parametrize("grid", [(6, 6), (4, 8), (8, 2), (16, 16)])
def test_rows_are_those_of_transformers(grid):
    tower, pixels = tiny_tower(), picture(*grid)
    vision, connector = GridTower(tower, grid).eval(), DeepMergers(tower).eval()
    with torch.inference_mode():
        tokens, summary = vision(torch.from_numpy(pixels)[None])
        rows = connector(tokens)[0].numpy()
    expected = expected_rows(tower, pixels)
    assert rows.shape == expected.shape == (grid[0] * grid[1] // 4, 3 * 64)
    assert np.abs(rows - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 1e-3, "tokens differ, or nothing was compared"
    assert torch.linalg.norm(summary, dim=-1).item() == pytest.approx(1.0, abs=1e-5)


def test_taps_count_by_their_layers_whatever_their_order():
    pixels = picture(4, 4)
    for taps in ([0, 2], [2, 0], [3, 1, 0]):
        tower = tiny_tower(deepstack_visual_indexes=taps)
        with torch.inference_mode():
            tokens, _ = GridTower(tower, (4, 4))(torch.from_numpy(pixels)[None])
            rows = DeepMergers(tower)(tokens)[0].numpy()
        assert np.abs(rows - expected_rows(tower, pixels)).max() < 1e-4


def test_the_summary_tells_pictures_apart():
    vision = GridTower(tiny_tower(), (4, 4))
    with torch.inference_mode():
        told = [vision(torch.from_numpy(picture(4, 4, seed=seed))[None])[1][0] for seed in range(3)]
        flat = vision(torch.zeros(1, 3, 64, 64))[1][0]
    likeness = [float(told[0] @ other) for other in (told[0], told[1], flat)]
    assert likeness[0] > likeness[1] > likeness[2]


@pytest.mark.slow
def test_both_graphs_are_plain_and_can_be_quantized(tmp_path):
    tower, grid = tiny_tower(), (4, 6)
    parts = {"vision": GridTower(tower, grid).eval(), "connector": DeepMergers(tower).eval()}
    given, pixels = torch.zeros(1, 3, 64, 96), picture(*grid)
    found = pixels[None]
    for role, module in parts.items():
        names = ["tokens", "summary"] if role == "vision" else ["embeds"]
        graph = onnx_from_torch(module, [given], ["x"], names, tmp_path / f"{role}.onnx")
        dimensions = {
            size.dim_param
            for value in graph.graph.input
            for size in value.type.tensor_type.shape.dim
        }
        assert dimensions == {""}, "every size is a number"
        with OrtBackend().open(tmp_path / f"{role}.onnx") as engine:
            found = engine.run({"x": found})[names[0]]
        int8_from_float(tmp_path / f"{role}.onnx", tmp_path / f"{role}.int8.onnx")
        import onnx

        stored = stored_int8(onnx.load(str(tmp_path / f"{role}.int8.onnx")))
        traced = traced_weights(graph, stored, module)
        linears = [one for one in module.modules() if isinstance(one, torch.nn.Linear)]
        assert len({one.parameter for one in traced}) == len(linears)
        with torch.inference_mode():
            seen = module(given)
        given = seen[0] if role == "vision" else seen
    expected = expected_rows(tower, pixels)
    assert np.abs(found[0] - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())
