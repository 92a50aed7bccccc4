"""NT-Xent against a reference in plain loops, against lightly, and in two processes against one.

Legend: N pictures, D dimension of z.
"""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from core.loss import nt_xent

_TEMPERATURE = 0.2


def _views(pictures: int = 6, dim: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1_ND, z2_ND = torch.randn(2, pictures, dim, generator=generator)
    return z1_ND.requires_grad_(), z2_ND.requires_grad_()


def _reference(z1_ND: torch.Tensor, z2_ND: torch.Tensor, temperature: float) -> tuple[torch.Tensor, float]:
    """Eq. 1 and Algorithm 1 word by word: views 2k-1 and 2k are of one picture."""
    z = [view for pair in zip(z1_ND, z2_ND, strict=True) for view in pair]

    def similarity(i: int, j: int) -> torch.Tensor:
        return (z[i] @ z[j]) / (z[i].norm() * z[j].norm())

    losses, correct = [], 0
    for i in range(len(z)):
        j = i ^ 1
        others = [k for k in range(len(z)) if k != i]
        denominator = sum(torch.exp(similarity(i, k) / temperature) for k in others)
        losses.append(-torch.log(torch.exp(similarity(i, j) / temperature) / denominator))
        correct += max(others, key=lambda k: similarity(i, k).item()) == j
    return torch.stack(losses).mean(), 100 * correct / len(z)


def _gradients(loss: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
def test_is_eq_1(temperature):
    z1_ND, z2_ND = _views()
    loss, accuracy, _ = nt_xent(z1_ND, z2_ND, temperature)
    expected, expected_accuracy = _reference(z1_ND, z2_ND, temperature)
    torch.testing.assert_close(loss, expected)
    assert accuracy.item() == pytest.approx(expected_accuracy)
    for ours, theirs in zip(_gradients(loss, z1_ND, z2_ND), _gradients(expected, z1_ND, z2_ND), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_agrees_with_lightly():
    lightly_loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=_TEMPERATURE)
    z1_ND, z2_ND = _views(pictures=32, dim=16)
    loss, _, _ = nt_xent(z1_ND, z2_ND, _TEMPERATURE)
    expected = lightly_loss(z1_ND, z2_ND)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(_gradients(loss, z1_ND, z2_ND), _gradients(expected, z1_ND, z2_ND), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pictures", [2, 7])
def test_negatives_are_all_other_pictures_views(pictures):
    assert nt_xent(*_views(pictures), _TEMPERATURE)[2] == 2 * pictures - 2


def test_of_equal_vectors_is_chance():
    z_ND = torch.ones(8, 4)
    loss, _, _ = nt_xent(z_ND, z_ND, _TEMPERATURE)
    assert loss.item() == pytest.approx(math.log(15))


def test_of_well_separated_pictures_is_near_zero():
    loss, accuracy, _ = nt_xent(torch.eye(8), torch.eye(8), 0.05)
    assert loss.item() < 1e-6
    assert accuracy.item() == 100


def test_does_not_depend_on_the_length_of_z():
    z1_ND, z2_ND = _views()
    torch.testing.assert_close(nt_xent(100 * z1_ND, 0.01 * z2_ND, 0.1)[0], nt_xent(z1_ND, z2_ND, 0.1)[0])


def test_stays_finite_at_a_tiny_temperature():
    z1_ND, z2_ND = _views()
    loss, _, _ = nt_xent(z1_ND, z2_ND, 1e-4)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in _gradients(loss, z1_ND, z2_ND))


def test_is_computed_in_fp32_under_autocast():
    z1_ND, z2_ND = (z.detach().bfloat16() for z in _views(pictures=32))
    expected = nt_xent(z1_ND.float(), z2_ND.float(), 0.05)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z1_ND, z2_ND, 0.05)[0]
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_accuracy_carries_no_gradient():
    assert not nt_xent(*_views(), _TEMPERATURE)[1].requires_grad


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path):
    """Value, accuracy and negatives on both ranks, and the parameter gradient after DDP's averaging."""
    mp.spawn(_train_rank, args=(tmp_path,), nprocs=2)
    model, x_2ND = _model_and_views()
    loss, accuracy, negatives = nt_xent(*model(x_2ND.flatten(0, 1)).chunk(2), _TEMPERATURE)
    loss.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], loss.detach())
        torch.testing.assert_close(found["accuracy"], accuracy)
        assert found["negatives"] == negatives == 14
        for gradient, parameter in zip(found["gradients"], model.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad)


def _model_and_views() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5)), torch.randn(2, 8, 7)


def _train_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model, x_2ND = _model_and_views()
    wrapped = DistributedDataParallel(model)
    own_2ND = x_2ND[:, 4 * rank : 4 * rank + 4]
    loss, accuracy, negatives = nt_xent(*wrapped(own_2ND.flatten(0, 1)).chunk(2), _TEMPERATURE)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    record = {"loss": loss.detach(), "accuracy": accuracy, "negatives": negatives, "gradients": gradients}
    torch.save(record, folder / f"{rank}.pt")
    dist.destroy_process_group()
