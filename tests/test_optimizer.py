import copy

import pytest
import torch
from torch import nn

from core.config import OptimizerConfig
from core.optimizer import LARS, build_optimizer, parameter_groups, scaled_lr


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


def _set_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_lars_step_by_hand():
    """w = (3, 4), g = (0, 2), weight decay 0.5: g + wd*w = (1.5, 4); |w| = 5, |g + wd*w| = sqrt(18.25)."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    groups = [{"params": [weight], "weight_decay": 0.5, "adapt": True}]
    optimizer = LARS(groups, lr=2.0, momentum=0.9, trust=0.1)

    weight.grad = torch.tensor([[0.0, 2.0]])
    optimizer.step()
    local_lr = 2.0 * 0.1 * 5 / 18.25**0.5
    velocity = torch.tensor([[1.5 * local_lr, 4 * local_lr]])
    after_one = torch.tensor([[3.0, 4.0]]) - velocity
    torch.testing.assert_close(weight.data, after_one)

    weight.grad = torch.tensor([[1.0, 0.0]])
    optimizer.param_groups[0]["lr"] = 1.0  # the momentum keeps the rate of its own time
    optimizer.step()
    gradient = torch.tensor([[1.0, 0.0]]) + 0.5 * after_one
    velocity = 0.9 * velocity + 1.0 * 0.1 * after_one.norm() / gradient.norm() * gradient
    torch.testing.assert_close(weight.data, after_one - velocity)


def test_lars_leaves_bias_and_batch_norm_to_plain_momentum():
    model = _model()
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1), [model])
    plain = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim == 1}
    assert set(plain) == {"0.bias", "1.weight", "1.bias", "3.bias"}
    velocity = {name: torch.zeros_like(p) for name, p in plain.items()}
    for step in range(3):
        _set_gradients(model, step)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
        for name in plain:
            velocity[name] = 0.9 * velocity[name] + 0.3 * gradients[name]
            plain[name] -= velocity[name]
    for name, parameter in model.named_parameters():
        if name in plain:
            torch.testing.assert_close(parameter.data, plain[name])


def test_lars_step_size_follows_the_weight_not_the_gradient():
    steps = []
    for scale in (1e-3, 1e3):
        weight = nn.Parameter(torch.full((4, 4), 2.0))
        weight.grad = torch.full((4, 4), scale)
        LARS([weight], lr=1.0, momentum=0.0, trust=0.01).step()
        steps.append((weight.data - 2.0).norm())
    torch.testing.assert_close(steps[0], torch.tensor(0.01 * 8.0))
    torch.testing.assert_close(steps[0], steps[1])


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 1.0), (1.0, 0.0)])
def test_lars_with_a_zero_norm_steps_as_plain_sgd(weight, gradient):
    parameter = nn.Parameter(torch.full((2, 2), weight))
    parameter.grad = torch.full((2, 2), gradient)
    LARS([parameter], lr=0.5, trust=0.001).step()
    torch.testing.assert_close(parameter.data, torch.full((2, 2), weight - 0.5 * gradient))


def test_lars_skips_parameters_without_gradient():
    parameter = nn.Parameter(torch.ones(2, 2))
    LARS([parameter], lr=0.5).step()
    assert torch.equal(parameter.data, torch.ones(2, 2))


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_no_decay_on_bias_and_batch_norm(name):
    """With zero gradients only weight decay can move a parameter."""
    model = _model()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = build_optimizer(OptimizerConfig(name=name, weight_decay=0.1), [model])
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, p in model.named_parameters() if not torch.equal(p.data, before[key])}
    assert moved == {"0.weight", "3.weight"}


def test_parameter_groups_cover_every_trainable_parameter_once():
    encoder, head = _model(), nn.BatchNorm1d(2)
    head.bias.requires_grad_(False)
    decayed, plain = parameter_groups([encoder, head], 0.1)
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    grouped = [id(p) for group in (decayed, plain) for p in group["params"]]
    trainable = [id(p) for module in (encoder, head) for p in module.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_goes_on_exactly_from_its_state_dict(name):
    config = OptimizerConfig(name=name)
    undisturbed, resumed = _model(), _model()
    optimizer = build_optimizer(config, [undisturbed])
    for step in range(2):
        _set_gradients(undisturbed, step)
        optimizer.step()
    resumed.load_state_dict(undisturbed.state_dict())
    again = build_optimizer(config, [resumed])
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, its_optimizer in ((undisturbed, optimizer), (resumed, again)):
        _set_gradients(model, 2)
        its_optimizer.step()
    for a, b in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_scaled_lr():
    """Sec. 2.2: 4.8 at batch 4096; App. B.1: 0.075 * sqrt(4096) is the same."""
    assert scaled_lr(OptimizerConfig(), 4096) == pytest.approx(4.8)
    assert scaled_lr(OptimizerConfig(base_lr=0.075, lr_scaling="sqrt"), 4096) == pytest.approx(4.8)
    assert scaled_lr(OptimizerConfig(base_lr=0.1, lr_scaling="none"), 4096) == 0.1
