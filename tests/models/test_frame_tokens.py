"""Frame tokens: pooling by a matrix is adaptive pooling, and the graph agrees with PyTorch."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import adaptive_avg_pool2d

from edgestream.export.onnx_from_torch import onnx_from_torch
from edgestream.models.connector import Connector
from edgestream.models.frame_tokens import FrameEncoder, cells_along_side, pooling_matrix
from edgestream.models.transformers_parts import TOWERS

from ..checkpoints import TOWER_SIZES, new_model


def encoder(tower: str, tokens_per_frame: int = 10, **sizes: int) -> FrameEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model(TOWERS[tower], **{**TOWER_SIZES["tiny"], **sizes})
    return FrameEncoder(model, tokens_per_frame).eval().requires_grad_(False)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_the_matrix_is_adaptive_average_pooling(rows, columns, cells, seed):
    patches = torch.randn(1, 5, rows, columns, generator=torch.Generator().manual_seed(seed))
    expected = adaptive_avg_pool2d(patches, (cells, cells)).flatten(2).transpose(1, 2)
    got = pooling_matrix((rows, columns), cells) @ patches.flatten(2).transpose(1, 2)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_a_grid_that_cells_do_not_divide_is_pooled_with_overlap():
    """14 x 14 patches to 3 x 3: cells of 5, 6 and 5 patches, as VideoLLM-online pools 224 px."""
    assert (pooling_matrix((14, 14), 3) > 0).sum(1).tolist() == [25, 30, 25, 30, 36, 30, 25, 30, 25]


@pytest.mark.parametrize("tower", TOWERS)
def test_the_whole_picture_comes_first_and_the_cells_row_by_row(tower):
    seeing = encoder(tower)
    pixels = torch.randn(1, 3, 64, 64)
    seen = seeing.tower(pixel_values=pixels)
    tokens, summary = seeing(pixels)
    is_clip = tower.startswith("clip")
    patches = seen.last_hidden_state[:, int(is_clip) :]
    grid = patches.transpose(1, 2).reshape(1, -1, 4, 4)
    cells = adaptive_avg_pool2d(grid, 3)[0]
    assert tokens.shape == (1, 10, 48) and summary.shape == (1, 48)
    whole = seen.last_hidden_state[:, 0] if is_clip else seen.pooler_output
    torch.testing.assert_close(tokens[:, 0], whole)
    for row in range(3):
        for column in range(3):
            torch.testing.assert_close(tokens[0, 1 + 3 * row + column], cells[:, row, column])
    torch.testing.assert_close(summary, seen.pooler_output / seen.pooler_output.norm())


def test_one_token_a_frame_is_the_whole_picture():
    seeing, pixels = encoder("siglip_vision_model", 1), torch.randn(1, 3, 64, 64)
    assert torch.equal(seeing(pixels)[0][:, 0], seeing.tower(pixel_values=pixels).pooler_output)


@pytest.mark.parametrize("tokens_per_frame", [0, 3, 11, 26])
def test_a_count_that_is_no_square_and_one_is_refused(tokens_per_frame):
    with pytest.raises(ValueError, match=f"{tokens_per_frame} tokens per frame of 4 x 4"):
        cells_along_side(tokens_per_frame, 4)


@pytest.mark.medium
@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("tokens_per_frame", [1, 10])
def test_the_graph_gives_what_pytorch_gives(tower, tokens_per_frame, tmp_path):
    """Opset 23, fixed shapes; 112 px in patches of 16 is 7 x 7, which 3 does not divide."""
    seeing = encoder(tower, tokens_per_frame, image_size=112)
    pixels = torch.randn(1, 3, 112, 112)
    onnx_from_torch(seeing, [pixels], ["pixels"], ["tokens", "summary"], tmp_path / "vision.onnx")
    connector = Connector(48, 64).eval()
    tokens, summary = seeing(pixels)
    onnx_from_torch(connector, [tokens], ["tokens"], ["embeds"], tmp_path / "connector.onnx")
    vision, connect = (
        onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        for name in ("vision.onnx", "connector.onnx")
    )
    got_tokens, got_summary = vision.run(None, {"pixels": pixels.numpy()})
    (got_embeds,) = connect.run(None, {"tokens": got_tokens})
    np.testing.assert_allclose(got_tokens, tokens, atol=1e-4)
    np.testing.assert_allclose(got_summary, summary, atol=1e-4)
    np.testing.assert_allclose(got_embeds, connector(tokens).detach(), atol=1e-4)
