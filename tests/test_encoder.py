import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from core import cost
from core.config import EncoderConfig, run_config
from core.encoder import Encoder, build_encoder
from core.errors import UserError


def _encoder(depth: int = 10, width: float = 1.0, stem: str = "imagenet", seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return build_encoder(EncoderConfig(depth=depth, width=width, stem=stem))


def _shuffle_batch_norm(module: nn.Module) -> None:
    """Batch norm far from its initial identity, so that a swapped layer would be seen."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight.data, part.bias.data, part.running_mean, part.running_var):
                tensor.uniform_(0.5, 1.5)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_loads_into_the_torchvision_resnet_of_its_depth(depth):
    with torch.device("meta"):
        ours = build_encoder(EncoderConfig(depth=depth)).state_dict()
        theirs = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    shapes = {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")}
    assert {name: tensor.shape for name, tensor in ours.items()} == shapes


@pytest.mark.parametrize("depth", [18, 50])
def test_computes_what_torchvision_computes(depth):
    encoder = _encoder(depth).eval().double()
    _shuffle_batch_norm(encoder)
    reference = getattr(torchvision.models, f"resnet{depth}")().eval().double()
    reference.fc = nn.Identity()
    reference.load_state_dict(encoder.state_dict(), strict=True)
    x_NCHW = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        h_ND = encoder(x_NCHW)
        torch.testing.assert_close(h_ND, reference(x_NCHW))
    assert h_ND.shape == (2, encoder.feature_dim)


def test_gradients_are_torchvisions():
    """ReLU after the pooling instead of before, and the products on tiny maps, change no derivative."""
    encoder = _encoder(18).double()
    reference = torchvision.models.resnet18().double()
    reference.fc = nn.Identity()
    reference.load_state_dict(encoder.state_dict(), strict=True)
    gradients = []
    for model in (encoder, reference):
        x_NCHW = torch.rand(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        model(x_NCHW).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_cifar_stem_keeps_the_resolution_until_the_second_stage():
    encoder = _encoder(stem="cifar", width=0.125)
    sizes = {}
    for name in ("conv1", "maxpool", "layer1", "layer2", "layer4"):
        getattr(encoder, name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: output.shape[-1]})
        )
    encoder(torch.rand(2, 3, 32, 32))
    assert sizes == {"conv1": 32, "maxpool": 32, "layer1": 32, "layer2": 16, "layer4": 4}
    assert encoder.conv1.kernel_size == (3, 3)


@pytest.mark.parametrize(("width", "millions"), [(1, 24), (2, 94), (4, 375)])
def test_resnet50_has_the_papers_parameters(width, millions):
    """ablations/paper/simclr.yaml, table6: params_M of SimCLR."""
    assert round(cost.parameters(EncoderConfig(width=width)) / 1e6) == millions


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize(("depth", "width"), [(10, 0.25), (18, 1), (34, 0.5), (50, 2), (101, 1), (152, 4)])
def test_cost_counts_every_parameter(depth, width, stem):
    config = EncoderConfig(depth=depth, width=width, stem=stem)
    with torch.device("meta"):
        encoder = build_encoder(config)
    assert cost.parameters(config) == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize("size", [16, 33])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize(("depth", "width"), [(10, 0.25), (18, 0.125), (50, 0.125)])
def test_cost_counts_every_multiply_add(depth, width, stem, size):
    encoder = _encoder(depth, width, stem).eval()
    counted = 0

    def count(module: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        counted += output[0].numel() * module.weight[0].numel()

    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        encoder(torch.rand(1, 3, size, size))
    assert cost.multiply_adds(EncoderConfig(depth=depth, width=width, stem=stem), size) == counted


def test_cost_does_not_import_torch():
    code = "import core.cost, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("width", [0.1, 0.3, 0.0625, 1 / 3])
def test_width_without_whole_channels_is_refused(width):
    with pytest.raises(UserError, match=r"encoder\.width"):
        run_config({"encoder": {"width": width}})


def test_weights_come_from_the_global_generator():
    first, again, other = _encoder(seed=1), _encoder(seed=1), _encoder(seed=2)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_every_parameter_learns_from_the_first_step(stem):
    encoder = _encoder(width=0.125, stem=stem)
    encoder(torch.rand(4, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in encoder.parameters())
