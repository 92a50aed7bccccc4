"""Convolutions on tiny maps are those of torch, in value and gradient, and so are their weights."""

import copy

import pytest
import torch
from torch import nn

from core.convolution import SMALL_MAP, Convolution, replace_convolutions

SHAPES = [(1, 1), (2, 2), (1, 2), (3, 2), (4, 4), (2, 5), (8, 8)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (7, 2, 3)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_is_torchs_convolution(height, width, kernel, stride, padding, layout):
    torch.manual_seed(0)
    theirs = nn.Conv2d(5, 7, kernel, stride, padding, bias=False).double().to(memory_format=layout)
    ours = Convolution.like(copy.deepcopy(theirs))
    x_NCHW = torch.randn(6, 5, height, width, dtype=torch.float64).contiguous(memory_format=layout)
    results = []
    for convolution in (ours, theirs):
        own_NCHW = x_NCHW.clone().requires_grad_()
        y_NCHW = convolution(own_NCHW)
        slope_NCHW = torch.linspace(-1, 1, y_NCHW.numel(), dtype=torch.float64).view(y_NCHW.shape)
        results.append((y_NCHW, *torch.autograd.grad(y_NCHW, (own_NCHW, convolution.weight), slope_NCHW)))
    torch.testing.assert_close(*results)


def test_tiny_maps_and_strided_shortcuts_and_only_they_take_the_other_way(monkeypatch):
    taken = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda module, x: taken.append((module.kernel_size[0], x.shape[-1])))
    convolution = Convolution(3, 4, 3, padding=1, bias=False)
    for side in (1, 2, 3, 8):
        assert (convolution(torch.ones(2, 3, side, side)) is not None) == (side**2 <= SMALL_MAP)
    assert Convolution(3, 4, 1, stride=2, bias=False)(torch.ones(2, 3, 8, 8)) is not None
    Convolution(3, 4, 1, bias=False)(torch.ones(2, 3, 8, 8))
    assert taken == [(3, 3), (3, 8), (1, 8)]


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 2), (1, 2, 8)])
def test_the_other_way_keeps_the_channels_last(kernel, stride, side):
    x_NCHW = torch.ones(4, 16, side, side).contiguous(memory_format=torch.channels_last)
    y_NCHW = Convolution(16, 8, kernel, stride, padding=kernel // 2, bias=False)(x_NCHW)
    assert y_NCHW.is_contiguous(memory_format=torch.channels_last)


def test_replacing_keeps_names_and_weights_and_draws_nothing():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1, bias=False)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    replace_convolutions(model)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.state_dict().keys() == before.keys()
    assert all(isinstance(part, Convolution) for part in (model[0], model[1][1]))
