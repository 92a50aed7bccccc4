"""The contrastive losses against references in plain loops, against lightly, and in two processes against one.

Legend: N pictures, D dimension of z.
"""

import itertools
import math
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.config import LossConfig
from core.loss import CHUNK_BYTES, ContrastiveResult, contrastive_loss

NT_XENT = LossConfig(temperature=0.2)
CONFIGS = {
    "-".join(values): LossConfig(name=name, mining=mining, negatives=negatives, temperature=0.2, margin=0.4)
    for name, mining, negatives in itertools.product(
        ["nt_xent", "nt_logistic", "margin_triplet"], ["none", "semi_hard"], ["both_views", "other_view"]
    )
    for values in [(name, mining, negatives)]
    if (name, mining) != ("nt_xent", "semi_hard")
}
every_loss = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def views(pictures: int = 6, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1_ND, z2_ND = torch.randn(2, pictures, dim, generator=generator)
    # Views of a picture are alike, so that there are easy, semi-hard and hard negatives.
    return z1_ND.requires_grad_(), (0.7 * z1_ND.detach() + 0.7 * z2_ND).requires_grad_()


def reference(config: LossConfig, z1_ND: Tensor, z2_ND: Tensor) -> tuple[Tensor, float, float]:
    """Loss, accuracy and entropy word by word in double precision: Eq. 1, Table 2, Sec. 5.1."""
    z = [view for pair in zip(z1_ND.double(), z2_ND.double(), strict=True) for view in pair]
    if config.normalize:
        z = [view / view.norm() for view in z]
    temperature = 1.0 if config.name == "margin_triplet" else config.temperature
    losses, entropies, correct = [], [], 0
    for i in range(len(z)):
        positive = i ^ 1
        others = [k for k in range(len(z)) if k != i]
        if config.negatives == "other_view":
            others = [k for k in others if k % 2 != i % 2]
        similarity = {k: z[i] @ z[k] / temperature for k in others}
        total = sum(s.exp() for s in similarity.values())
        share = [(s.exp() / total).item() for s in similarity.values()]
        entropies.append(-sum(p * math.log(p) for p in share if p > 0))
        correct += max(others, key=lambda k: similarity[k].item()) == positive

        to_positive = similarity.pop(positive)
        counted = list(similarity.values())
        if config.mining == "semi_hard":
            farther = [s for s in counted if s < to_positive]
            counted = [max(farther)] if farther else []
        if config.name == "nt_xent":
            losses.append(-torch.log(to_positive.exp() / total))
        elif config.name == "nt_logistic":
            losses.append(-torch.log(torch.sigmoid(to_positive)))
            losses[-1] = losses[-1] - sum(torch.log(torch.sigmoid(-s)) for s in counted) / max(1, len(counted))
        else:
            terms = [torch.clamp(s - to_positive + config.margin, min=0) for s in counted]
            losses.append(sum(terms, 0 * to_positive) / max(1, len(terms)))
    return torch.stack(losses).mean(), 100 * correct / len(z), sum(entropies) / len(z)


def gradients(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, tensors)


def assert_is_the_reference(config: LossConfig, z1_ND: Tensor, z2_ND: Tensor) -> None:
    result = contrastive_loss(config, z1_ND, z2_ND)
    loss, accuracy, entropy = reference(config, z1_ND, z2_ND)
    torch.testing.assert_close(result.loss.double(), loss, atol=1e-5, rtol=1e-5)
    assert result.accuracy.item() == pytest.approx(accuracy)
    assert result.entropy.item() == pytest.approx(entropy, abs=1e-5)
    ours, theirs = gradients(result.loss, z1_ND, z2_ND), gradients(loss, z1_ND, z2_ND)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@every_loss
@pytest.mark.parametrize("normalize", [True, False])
def test_is_the_formula_in_plain_loops(config, normalize):
    # Short plain vectors, so that their dot products are as moderate as cosines.
    scale = 1.0 if normalize else 0.4
    z1_ND, z2_ND = ((scale * z.detach()).requires_grad_() for z in views())
    assert_is_the_reference(LossConfig(**{**vars(config), "normalize": normalize}), z1_ND, z2_ND)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("name", ["nt_xent", "nt_logistic"])
def test_temperature(name, temperature):
    assert_is_the_reference(LossConfig(name=name, temperature=temperature), *views())


@pytest.mark.parametrize("margin", [0.0, 0.4, 1.6])
@pytest.mark.parametrize("mining", ["none", "semi_hard"])
def test_margin(margin, mining):
    assert_is_the_reference(LossConfig(name="margin_triplet", margin=margin, mining=mining), *views())


@settings(max_examples=30)
@given(
    config=st.sampled_from(list(CONFIGS.values())),
    pictures=st.integers(2, 6),
    dim=st.integers(2, 8),
    seed=st.integers(0, 2**31),
)
def test_is_the_formula_for_any_batch(config, pictures, dim, seed):
    assert_is_the_reference(config, *views(pictures, dim, seed))


def test_nt_xent_agrees_with_lightly():
    lightly_loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=NT_XENT.temperature)
    z1_ND, z2_ND = views(pictures=32, dim=16)
    loss = contrastive_loss(NT_XENT, z1_ND, z2_ND).loss
    expected = lightly_loss(z1_ND, z2_ND)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(loss, z1_ND, z2_ND), gradients(expected, z1_ND, z2_ND))


@pytest.mark.parametrize("pictures", [2, 7])
def test_negatives_are_all_other_pictures_views(pictures):
    assert contrastive_loss(NT_XENT, *views(pictures)).negatives == 2 * pictures - 2
    one_view = LossConfig(negatives="other_view")
    assert contrastive_loss(one_view, *views(pictures)).negatives == pictures - 1


def test_semi_hard_mining_counts_the_nearest_negative_beyond_the_positive():
    """By hand: every view 1 is the same vector, at these cosines to the views 2."""
    cosines = torch.tensor([0.5, 0.9, 0.3, -0.2])
    z1_ND = torch.tensor([1.0, 0.0]).expand(4, 2)
    z2_ND = torch.stack([cosines, (1 - cosines**2).sqrt()], 1)
    common = {"mining": "semi_hard", "negatives": "other_view"}
    # Anchors of view 1: 0.5 has 0.3, 0.9 has 0.5, 0.3 has -0.2, and -0.2 has none. Anchors of view 2 see four equal
    # candidates, none of them beyond the positive.
    triplet = LossConfig(name="margin_triplet", margin=0.45, **common)
    expected = ((0.3 - 0.5 + 0.45) + (0.5 - 0.9 + 0.45) + 0 + 0) / 8
    assert contrastive_loss(triplet, z1_ND, z2_ND).loss.item() == pytest.approx(expected)
    logistic = LossConfig(name="nt_logistic", temperature=1.0, **common)
    expected = 2 * sum(math.log1p(math.exp(-c)) for c in cosines.tolist())
    expected = (expected + sum(math.log1p(math.exp(c)) for c in (0.3, 0.5, -0.2))) / 8
    assert contrastive_loss(logistic, z1_ND, z2_ND).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["nt_logistic", "margin_triplet"])
def test_an_anchor_with_only_harder_negatives_has_no_negative_term(name):
    """The two views of a picture are opposite, and each is alike with the other picture's."""
    x_D = torch.tensor([1.0, 0.0])
    z1_ND, z2_ND = torch.stack([x_D, -x_D]), torch.stack([-x_D, x_D])
    config = LossConfig(name=name, mining="semi_hard", negatives="other_view", temperature=1.0, margin=0.5)
    loss = contrastive_loss(config, z1_ND, z2_ND).loss.item()
    assert loss == pytest.approx(math.log(1 + math.e) if name == "nt_logistic" else 0.0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LossConfig(), math.log(15)),
        (LossConfig(negatives="other_view"), math.log(8)),
        (LossConfig(name="nt_logistic", temperature=1.0), 2 * math.log(1 + math.e) - 1),
        (LossConfig(name="margin_triplet", margin=0.3), 0.3),
        (LossConfig(name="margin_triplet", margin=0.3, mining="semi_hard"), 0.0),
    ],
)
def test_of_equal_vectors_is_chance(config, expected):
    z_ND = torch.ones(8, 4)
    assert contrastive_loss(config, z_ND, z_ND).loss.item() == pytest.approx(expected)


def test_entropy_is_between_certainty_and_chance():
    z_ND = torch.ones(8, 4)
    assert contrastive_loss(NT_XENT, z_ND, z_ND).entropy.item() == pytest.approx(math.log(15))
    certain = LossConfig(temperature=0.01)
    assert contrastive_loss(certain, torch.eye(8), torch.eye(8)).entropy.item() < 1e-6


def test_of_well_separated_pictures_is_near_zero():
    result = contrastive_loss(LossConfig(temperature=0.05), torch.eye(8), torch.eye(8))
    assert result.loss.item() < 1e-6
    assert result.accuracy.item() == 100


@every_loss
def test_cosines_do_not_depend_on_the_length_of_z(config):
    z1_ND, z2_ND = views()
    scaled = contrastive_loss(config, 100 * z1_ND, 0.01 * z2_ND).loss
    torch.testing.assert_close(scaled, contrastive_loss(config, z1_ND, z2_ND).loss)


@every_loss
@pytest.mark.parametrize("normalize", [True, False])
def test_stays_finite_at_a_tiny_temperature(config, normalize):
    z1_ND, z2_ND = views()
    result = contrastive_loss(LossConfig(**{**vars(config), "temperature": 1e-4, "normalize": normalize}), z1_ND, z2_ND)
    assert result.loss.isfinite()
    assert result.entropy.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(result.loss, z1_ND, z2_ND))


@every_loss
def test_is_computed_in_fp32_under_autocast(config):
    z1_ND, z2_ND = (z.detach().bfloat16() for z in views(pictures=32))
    expected = contrastive_loss(config, z1_ND.float(), z2_ND.float()).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(config, z1_ND, z2_ND).loss
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_only_the_loss_carries_a_gradient():
    result = contrastive_loss(NT_XENT, *views())
    assert result.loss.requires_grad
    assert not result.accuracy.requires_grad
    assert not result.entropy.requires_grad


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path):
    """All values on both ranks, and the parameter gradient after DDP's averaging, for every loss."""
    mp.spawn(_train_rank, args=(tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, config in CONFIGS.items():
        model, x_2ND = _model_and_views()
        result = contrastive_loss(config, *model(x_2ND.flatten(0, 1)).chunk(2))
        result.loss.backward()
        expected = _record(result, model)
        assert expected["negatives"] == (7 if config.negatives == "other_view" else 14)
        for record in ranks:
            torch.testing.assert_close(record[name], expected, msg=lambda text, name=name: f"{name}: {text}")


def _model_and_views() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5)), torch.randn(2, 8, 7)


def _record(result: ContrastiveResult, model: nn.Module) -> dict:
    return {
        "values": torch.stack([result.loss.detach(), result.accuracy, result.entropy]),
        "negatives": result.negatives,
        "gradients": [parameter.grad for parameter in model.parameters()],
    }


def _train_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    records = {}
    for name, config in CONFIGS.items():
        model, x_2ND = _model_and_views()
        wrapped = DistributedDataParallel(model)
        own_2ND = x_2ND[:, 4 * rank : 4 * rank + 4]
        result = contrastive_loss(config, *wrapped(own_2ND.flatten(0, 1)).chunk(2))
        result.loss.backward()
        records[name] = _record(result, model)
    torch.save(records, folder / f"{rank}.pt")
    dist.destroy_process_group()


@every_loss
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_the_rows_held_at_a_time_do_not_matter(config, rows, monkeypatch):
    def measured() -> tuple[Tensor, ...]:
        z1_ND, z2_ND = views(pictures=9)
        result = contrastive_loss(config, z1_ND, z2_ND)
        return result.loss, result.accuracy, result.entropy, *gradients(result.loss, z1_ND, z2_ND)

    whole = measured()
    candidates = 9 if config.negatives == "other_view" else 18
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 4 * rows * candidates)
    torch.testing.assert_close(measured(), whole, atol=1e-6, rtol=1e-5)


@every_loss
def test_keeps_nothing_for_the_backward_pass_that_grows_with_the_square_of_the_batch(config):
    saved = []

    def save(x: Tensor) -> Tensor:
        saved.append(weakref.ref(x))
        return x

    z1_ND, z2_ND = views(pictures=512, dim=4)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        loss = contrastive_loss(config, z1_ND, z2_ND).loss
    kept = {x.data_ptr(): x.numel() for reference in saved if (x := reference()) is not None}
    assert 2 * 1024 * 4 <= sum(kept.values()) < 20 * 1024 * 4
    assert loss.requires_grad


def test_large_batches_agree_with_the_plain_formula():
    z1_ND, z2_ND = views(pictures=1500, dim=16)
    loss = contrastive_loss(NT_XENT, z1_ND, z2_ND).loss
    z_AD = nn.functional.normalize(torch.cat([z1_ND, z2_ND]))
    logits_AA = (z_AD @ z_AD.T / NT_XENT.temperature).fill_diagonal_(-math.inf)
    expected = nn.functional.cross_entropy(logits_AA, torch.arange(3000).roll(1500))
    torch.testing.assert_close(loss, expected)
    ours, plain = gradients(loss, z1_ND, z2_ND), gradients(expected, z1_ND, z2_ND)
    torch.testing.assert_close(ours, plain, atol=1e-5 * plain[0].abs().max().item(), rtol=1e-4)
