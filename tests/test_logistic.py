import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

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
