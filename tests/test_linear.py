import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from core.config import LinearConfig
from core.linear import fit_linear, topk_accuracy

_CLASSES = 7


def _features(pictures: int = 600, dim: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes in correlated, shifted, non-negative features, as a ReLU network gives them."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(pictures) % _CLASSES
    centres_CD = torch.randn(_CLASSES, dim, generator=generator)
    mix_DD = torch.randn(dim, dim, generator=generator) + 1
    noise_ND = 2 * torch.randn(pictures, dim, generator=generator)
    return ((centres_CD[labels_N] + noise_ND) @ mix_DD + 5).relu(), labels_N


def _accuracy(features_ND: torch.Tensor, labels_N: torch.Tensor, config: LinearConfig) -> float:
    classifier = fit_linear(features_ND, labels_N, _CLASSES, config, seed=0)
    return topk_accuracy(classifier.logits(features_ND), labels_N)["top1"]


@pytest.mark.parametrize("l2", [1e-2, 1e-4])
def test_lbfgs_finds_the_optimum_that_scikit_learn_finds(l2):
    """Same coefficients, up to a shift common to all classes, which changes nothing; same objective."""
    features_ND, labels_N = _features()
    ours = fit_linear(features_ND, labels_N, _CLASSES, LinearConfig(protocol="lbfgs", l2=l2), seed=0)

    x_ND = features_ND.double().numpy()
    x_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0)
    theirs = LogisticRegression(C=1 / (len(x_ND) * l2), tol=1e-8, max_iter=5000).fit(x_ND, labels_N.numpy())

    weight_DC, bias_C = ours.weight_DC.numpy(), ours.bias_C.numpy()
    np.testing.assert_allclose(_centred(weight_DC), _centred(theirs.coef_.T), atol=2e-3)
    np.testing.assert_allclose(_centred(bias_C), _centred(theirs.intercept_), atol=2e-3)

    def objective(weight_DC: np.ndarray, bias_C: np.ndarray) -> float:
        logits_NC = torch.from_numpy(x_ND @ weight_DC + bias_C)
        return functional.cross_entropy(logits_NC, labels_N).item() + l2 / 2 * (weight_DC**2).sum()

    assert objective(weight_DC, bias_C) <= objective(theirs.coef_.T, theirs.intercept_) + 1e-7
    predicted = ours.logits(features_ND).argmax(1).numpy()
    assert (predicted == theirs.predict(x_ND)).mean() > 0.995


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(-1, keepdims=True)


def test_lbfgs_copes_with_dead_and_duplicate_features():
    features_ND, labels_N = _features()
    config = LinearConfig(protocol="lbfgs")
    plain = fit_linear(features_ND, labels_N, _CLASSES, config, seed=0).logits(features_ND)
    dead_ND = torch.full((len(features_ND), 1), 0.3)
    classifier = fit_linear(torch.cat([features_ND, dead_ND], 1), labels_N, _CLASSES, config, seed=0)
    torch.testing.assert_close(classifier.logits(torch.cat([features_ND, dead_ND], 1)), plain, atol=1e-3, rtol=1e-3)
    twice = _accuracy(torch.cat([features_ND, features_ND], 1), labels_N, config)
    assert twice == pytest.approx(_accuracy(features_ND, labels_N, config), abs=1)


def test_lbfgs_with_more_features_than_pictures():
    features_ND, labels_N = _features(pictures=40, dim=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _accuracy(features_ND, labels_N, LinearConfig(protocol="lbfgs", l2=1e-3)) == 100


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_lbfgs_does_not_depend_on_the_scale_of_the_features(factor):
    features_ND, labels_N = _features()
    config = LinearConfig(protocol="lbfgs")
    logits_NC = fit_linear(features_ND, labels_N, _CLASSES, config, 0).logits(features_ND)
    scaled_NC = fit_linear(features_ND * factor, labels_N, _CLASSES, config, 0).logits(features_ND * factor)
    torch.testing.assert_close(scaled_NC, logits_NC, atol=1e-3, rtol=1e-3)


def test_lbfgs_ends_where_there_is_no_optimum():
    features_ND, labels_N = torch.eye(_CLASSES), torch.arange(_CLASSES)
    features_ND = features_ND.repeat(3, 1)
    classifier = fit_linear(features_ND, labels_N.repeat(3), _CLASSES, LinearConfig(protocol="lbfgs", l2=0), 0)
    assert classifier.weight_DC.isfinite().all()
    assert topk_accuracy(classifier.logits(features_ND), labels_N.repeat(3))["top1"] == 100


@pytest.mark.parametrize("protocol", ["lbfgs", "sgd"])
def test_same_inputs_give_the_same_classifier(protocol):
    features_ND, labels_N = _features()
    config = LinearConfig(protocol=protocol, epochs=3, batch_size=64)
    first, second = (fit_linear(features_ND, labels_N, _CLASSES, config, seed=1) for _ in range(2))
    assert torch.equal(first.weight_DC, second.weight_DC)
    assert torch.equal(first.bias_C, second.bias_C)


def test_sgd_order_depends_on_the_seed():
    features_ND, labels_N = _features()
    config = LinearConfig(protocol="sgd", epochs=1, batch_size=64)
    first, second = (fit_linear(features_ND, labels_N, _CLASSES, config, seed) for seed in (0, 1))
    assert not torch.equal(first.weight_DC, second.weight_DC)


def test_sgd_reaches_the_accuracy_of_lbfgs_on_an_easy_problem():
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(800) % _CLASSES
    features_ND = 3 * functional.one_hot(labels_N, 12) + torch.randn(800, 12, generator=generator)
    converged = _accuracy(features_ND, labels_N, LinearConfig(protocol="lbfgs"))
    assert 90 < converged < 100
    sgd = _accuracy(features_ND, labels_N, LinearConfig(protocol="sgd", batch_size=64, epochs=60))
    assert sgd == pytest.approx(converged, abs=1)


def test_sgd_first_step_by_hand():
    """One batch of everything, so one step: Nesterov's first is (1 + momentum) * lr * gradient."""
    features_ND, labels_N = _features(pictures=64)
    config = LinearConfig(protocol="sgd", base_lr=0.1, batch_size=4096, epochs=1)
    classifier = fit_linear(features_ND, labels_N, _CLASSES, config, seed=0)
    error_NC = torch.full((64, _CLASSES), 1 / _CLASSES) - functional.one_hot(labels_N, _CLASSES)
    lr = 0.1 * 64 / 256
    torch.testing.assert_close(classifier.weight_DC, -1.9 * lr * features_ND.T @ error_NC / 64)
    torch.testing.assert_close(classifier.bias_C, -1.9 * lr * error_NC.mean(0))


def test_topk_accuracy_by_hand():
    scores_NC = torch.tensor([[6.0, 5, 4, 3, 2, 1]] * 4)
    assert topk_accuracy(scores_NC, torch.tensor([0, 1, 4, 5])) == {"top1": 25.0, "top5": 75.0}


@pytest.mark.parametrize(("classes", "names"), [(2, {"top1"}), (5, {"top1"}), (6, {"top1", "top5"})])
def test_top5_only_where_it_says_something(classes, names):
    assert set(topk_accuracy(torch.rand(3, classes), torch.zeros(3, dtype=torch.int64))) == names


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(6, 20), st.integers(0, 2**32))
def test_topk_accuracy_is_a_percentage_and_top5_no_smaller(pictures, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(classes, (pictures,), generator=generator)
    metrics = topk_accuracy(torch.rand(pictures, classes, generator=generator), labels_N)
    assert 0 <= metrics["top1"] <= metrics["top5"] <= 100
