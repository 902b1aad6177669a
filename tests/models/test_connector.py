"""The connector: its arithmetic written out, and the names of its weights."""

from __future__ import annotations

import torch

from edgestream.models.connector import Connector


def test_it_is_two_layers_with_an_exact_gelu_between():
    connector = Connector(5, 7)
    w = dict(connector.named_parameters())
    assert list(w) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    tokens = torch.randn(1, 10, 5) * 3
    inner = tokens @ w["0.weight"].T + w["0.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    expected = inner @ w["2.weight"].T + w["2.bias"]
    torch.testing.assert_close(connector(tokens), expected, atol=2e-6, rtol=1e-5)
