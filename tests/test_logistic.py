import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from core import logistic
from core.logistic import fit_logistic

_PENALTIES = [1.0, 1e-2, 1e-4]


def _data(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(300) % classes
    centres_CD = torch.randn(classes, 12, generator=generator)
    return centres_CD[labels_N] + 1.5 * torch.randn(300, 12, generator=generator) + 3, labels_N


@pytest.mark.parametrize("several", [False, True])
def test_starting_at_the_penalty_before_ends_at_the_same_classifier(several):
    features_ND, labels_N = _data()
    targets = torch.nn.functional.one_hot(labels_N, 4).float() if several else labels_N
    in_turn = list(fit_logistic(features_ND, targets, 4, _PENALTIES))
    for l2, fit in zip(_PENALTIES, in_turn, strict=True):
        (alone,) = fit_logistic(features_ND, targets, 4, [l2])
        torch.testing.assert_close(fit.logits(features_ND), alone.logits(features_ND), atol=5e-3, rtol=0)
    norms = [fit.weight_DC.norm() for fit in in_turn]
    assert norms == sorted(norms)


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_several_classes_at_once_is_a_regression_per_class_as_in_scikit_learn(l2):
    features_ND, labels_N = _data()
    present_NC = torch.stack([labels_N == 0, labels_N >= 2], 1).float()
    (ours,) = fit_logistic(features_ND, present_NC, 2, [l2])
    x_ND = features_ND.double().numpy()
    x_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0)
    for number in range(2):
        theirs = LogisticRegression(C=1 / (len(x_ND) * l2), tol=1e-9, max_iter=5000).fit(x_ND, present_NC[:, number])
        np.testing.assert_allclose(ours.weight_DC[:, number], theirs.coef_[0], atol=2e-3)
        np.testing.assert_allclose(ours.bias_C[number], theirs.intercept_[0], atol=2e-3)


@pytest.mark.parametrize("several", [False, True])
def test_gradient_and_curvature_are_the_derivatives_of_the_objective(several):
    features_ND, labels_N = _data()
    x_EN = torch.cat([features_ND.double().T, torch.ones(1, len(features_ND))])
    targets = torch.nn.functional.one_hot(labels_N, 4).float() if several else labels_N
    objective = logistic._Objective(x_EN, targets, 0.1)
    weight_CE = torch.randn(4, len(x_EN), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight_CE.requires_grad_()
    value, gradient_CE = objective(weight_CE)
    (expected_CE,) = torch.autograd.grad(_plainly(x_EN, targets, 0.1, weight_CE), weight_CE)
    torch.testing.assert_close(value, _plainly(x_EN, targets, 0.1, weight_CE))
    torch.testing.assert_close(gradient_CE, expected_CE)
    slopes_CECE = torch.autograd.functional.hessian(lambda w_CE: _plainly(x_EN, targets, 0.1, w_CE), weight_CE)
    if not several:
        alike_CE = torch.zeros_like(weight_CE)
        alike_CE[:, -1] = 1
        without = (slopes_CECE * alike_CE).sum((2, 3))
        torch.testing.assert_close(without, torch.zeros_like(without))
        slopes_CECE[:, -1, :, -1] += 1 / 4
    size = weight_CE.numel()
    torch.testing.assert_close(objective.curvature(weight_CE.detach()), slopes_CECE.reshape(size, size))
    at_zero = torch.autograd.functional.hessian(
        lambda w_CE: _plainly(x_EN, targets, 0.1, w_CE), torch.zeros_like(weight_CE)
    )
    gram_EE = x_EN @ x_EN.T / x_EN.shape[1]
    if several:
        torch.testing.assert_close(objective.curvature_if_equal(gram_EE, 4), at_zero[0, :, 0])
    else:  # without the part that couples the classes
        torch.testing.assert_close(objective.curvature_if_equal(gram_EE, 4), at_zero[0, :, 0] - at_zero[0, :, 1])


def _plainly(x_EN: torch.Tensor, targets: torch.Tensor, l2: float, weight_CE: torch.Tensor) -> torch.Tensor:
    logits_NC = (weight_CE @ x_EN).T
    if targets.ndim == 1:
        loss = torch.nn.functional.cross_entropy(logits_NC, targets)
    else:
        p_NC = logits_NC.sigmoid()
        loss = -(targets * p_NC.log() + (1 - targets) * (1 - p_NC).log()).sum(1).mean()
    return loss + l2 / 2 * weight_CE[:, :-1].square().sum()


@pytest.mark.parametrize("l2", [1e-1, 1e-4])
def test_more_weights_than_the_whole_curvature_is_affordable_for_end_at_the_same_classifier(l2, monkeypatch):
    features_ND, labels_N = _data()
    (with_it,) = fit_logistic(features_ND, labels_N, 4, [l2])
    monkeypatch.setattr(logistic, "_MOST_WEIGHTS_TOGETHER", 0)
    (without,) = fit_logistic(features_ND, labels_N, 4, [l2])
    assert not torch.equal(with_it.weight_DC, without.weight_DC)
    torch.testing.assert_close(with_it.logits(features_ND), without.logits(features_ND), atol=5e-3, rtol=0)


@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_fewer_pictures_than_features_leave_no_weight_in_directions_that_no_picture_has(l2):
    features_ND = torch.randn(30, 60, generator=torch.Generator().manual_seed(0))
    labels_N = torch.arange(30) % 3
    (fit,) = fit_logistic(features_ND, labels_N, 3, [l2])
    x_ND = (features_ND.double() - fit.mean_D) / fit.std_D
    vh = torch.linalg.svd(x_ND)[2]
    assert fit.weight_DC.isfinite().all()
    # The mean is taken away, so 30 pictures have 29 directions.
    assert (vh[29:] @ fit.weight_DC).abs().max() < 1e-3 * fit.weight_DC.abs().max()


def test_a_search_in_float32_that_fails_is_done_without(monkeypatch):
    features_ND, labels_N = _data()
    (expected,) = fit_logistic(features_ND, labels_N, 4, [1e-3])
    search = logistic._search

    def fails_in_float32(objective, start_EC, *arguments):
        found_EC, gradient, used = search(objective, start_EC, *arguments)
        return (found_EC * float("nan") if start_EC.dtype == torch.float32 else found_EC), gradient, used

    monkeypatch.setattr(logistic, "_search", fails_in_float32)
    (fit,) = fit_logistic(features_ND, labels_N, 4, [1e-3])
    torch.testing.assert_close(fit.logits(features_ND), expected.logits(features_ND), atol=5e-3, rtol=0)


def test_where_there_is_no_curvature_there_are_coordinates():
    root = logistic._cholesky(torch.zeros(3, 3, dtype=torch.float64))
    assert root.isfinite().all()
    assert root.diagonal().min() > 0


def test_few_iterations_are_shared_by_both_searches(monkeypatch):
    counts = []
    search = logistic._search
    monkeypatch.setattr(logistic, "_search", lambda *args: (found := search(*args), counts.append(found[2]))[0])
    features_ND, labels_N = _data()
    next(fit_logistic(features_ND, labels_N, 4, [1e-4], iterations=6))
    assert len(counts) == 2
    assert sum(counts) <= 6
