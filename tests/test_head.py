import pytest
import torch
from torch import nn

from core.config import HeadConfig
from core.head import build_head


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("kind", "out_dim"), [("none", 24), ("linear", 8), ("nonlinear", 8)])
def test_maps_h_to_z(kind, out_dim, batch_norm):
    head = build_head(HeadConfig(kind=kind, out_dim=8, batch_norm=batch_norm), feature_dim=24)
    assert head.out_dim == out_dim
    assert head(torch.rand(4, 24)).shape == (4, out_dim)


def test_none_is_the_identity():
    h_ND = torch.rand(4, 24)
    assert torch.equal(build_head(HeadConfig(kind="none"), 24)(h_ND), h_ND)


@pytest.mark.parametrize(("hidden_dim", "expected"), [(0, 24), (16, 16)])
def test_hidden_width_defaults_to_that_of_h(hidden_dim, expected):
    head = build_head(HeadConfig(hidden_dim=hidden_dim, out_dim=8), feature_dim=24)
    linears = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linears] == [expected, 8]


def test_without_batch_norm_is_eq_w2_relu_w1():
    """Sec. 2.1: z = W2 relu(W1 h)."""
    head = build_head(HeadConfig(out_dim=8, batch_norm=False), feature_dim=24)
    first, _, second = head
    h_ND = torch.randn(5, 24)
    expected = (h_ND @ first.weight.T + first.bias).relu() @ second.weight.T
    torch.testing.assert_close(head(h_ND), expected)


@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_last_layer_has_no_trainable_shift(kind):
    """The official code's last layer has neither bias nor batch-norm centre, so z stays centred on 0."""
    head = build_head(HeadConfig(kind=kind, out_dim=8), feature_dim=24)
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=1.0)
    h_ND, target = torch.randn(64, 24), torch.randn(64, 8)
    for _ in range(3):
        optimizer.zero_grad()
        ((head(h_ND) - 5 - target) ** 2).mean().backward()
        optimizer.step()
    torch.testing.assert_close(head(h_ND).mean(0), torch.zeros(8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_batch_norm_takes_the_place_of_biases(kind):
    with_norm = build_head(HeadConfig(kind=kind), 24)
    norms = [layer for layer in with_norm if isinstance(layer, nn.BatchNorm1d)]
    linears = [layer for layer in with_norm if isinstance(layer, nn.Linear)]
    assert len(norms) == len(linears)
    assert all(layer.bias is None for layer in linears)
