"""Optimizers, with one rule for every one of them: biases and batch norm take no weight decay, and LARS
does not rescale their step either (official code: `exclude_from_weight_decay`).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from core.config import OptimizerConfig


def build_optimizer(config: OptimizerConfig, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
    """The optimizer of `config` over all trainable parameters of `modules`.

    The learning rate is `base_lr` until the caller sets `group["lr"]`, which the schedule does each step.
    """
    groups = parameter_groups(modules, config.weight_decay)
    if config.name == "lars":
        return LARS(groups, lr=config.base_lr, momentum=config.momentum, trust=config.trust)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.base_lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.base_lr, fused=True)


def parameter_groups(modules: Iterable[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights (decayed, rescaled by LARS), and vectors and scalars (neither).

    Biases and batch norm are exactly the parameters with at most one dimension.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay, "adapt": True},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "adapt": False},
    ]


def scaled_lr(config: OptimizerConfig, batch_size: int) -> float:
    """The peak learning rate at a global `batch_size` (Sec. 2.2 linear, App. B.1 square root)."""
    if config.lr_scaling == "linear":
        return config.base_lr * batch_size / 256
    if config.lr_scaling == "sqrt":
        return config.base_lr * math.sqrt(batch_size)
    return config.base_lr


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017), as in the official SimCLR code.

    For each weight w with gradient g, in groups with `adapt`:

        g <- g + weight_decay * w
        v <- momentum * v + lr * trust * |w| / |g| * g
        w <- w - v

    The factor trust * |w| / |g| is 1 where either norm is 0, and in groups without `adapt`. The learning
    rate enters before the momentum, so a change of it acts on new gradients only.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, trust: float = 0.001):
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._step_group(group, weights)
        return loss

    def _step_group(self, group: dict[str, Any], weights: list[torch.Tensor]) -> None:
        gradients = [w.grad for w in weights if w.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["adapt"]:
            w_norms = torch.stack(torch._foreach_norm(weights))
            g_norms = torch.stack(torch._foreach_norm(gradients))
            ratios = group["trust"] * w_norms / g_norms
            ratios = torch.where((w_norms > 0) & (g_norms > 0), ratios, 1.0)
            updates = torch._foreach_mul(gradients, (group["lr"] * ratios).unbind())
        else:
            updates = torch._foreach_mul(gradients, group["lr"])
        momenta = [self._momentum(w) for w in weights]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, updates)
        torch._foreach_sub_(weights, momenta)

    def _momentum(self, weight: torch.Tensor) -> torch.Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return state["momentum_buffer"]
