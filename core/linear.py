"""Linear evaluation: how well a linear classifier reads classes from frozen features (Sec. 2.3, App. B.6).

Works on features alone, so the encoder cannot change. Two protocols: `lbfgs`, a logistic regression run to
its optimum, which has no learning rate to get wrong; `sgd`, the paper's.

Legend: N pictures, D features, C classes.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from core.config import LinearConfig
from core.errors import InvalidValue
from core.measures import Measured
from core.randomness import generator
from core.schedule import learning_rate
from core.splits import held_out

if TYPE_CHECKING:
    from core.evaluate import Evaluator

_GRADIENT_TOLERANCE = 1e-5
_MOST_ITERATIONS = 2000


@dataclass(frozen=True)
class LinearClassifier:
    """logits = ((features - mean) / std) @ weight + bias."""

    weight_DC: torch.Tensor
    bias_C: torch.Tensor
    mean_D: torch.Tensor
    std_D: torch.Tensor

    def logits(self, features_ND: torch.Tensor) -> torch.Tensor:
        """logits_NC, in the precision of the classifier."""
        x_ND = (features_ND.to(self.weight_DC) - self.mean_D) / self.std_D
        return x_ND @ self.weight_DC + self.bias_C


def evaluate(subject: "Evaluator", config: LinearConfig) -> Measured:
    """Top-1 and top-5 accuracy on the test pictures, in percent, of a classifier fit on all training pictures.

    With a validation share also `validation_top1`, the accuracy on held-out training pictures of a classifier fit on
    the others: what a study tunes by, since the test pictures are not for choosing.
    """
    train_ND, test_ND = subject.features(config.features)
    labels_N, seed = subject.train_labels_N, subject.run_config.seed
    classifier = fit_linear(train_ND, labels_N, subject.classes, config, seed)
    metrics = topk_accuracy(classifier.logits(test_ND), subject.test_labels_N)
    if config.validation:
        learned, held = (
            rows_N.to(train_ND.device)
            for rows_N in held_out(labels_N.cpu(), config.validation, generator(seed, "validation"))
        )
        if not len(held):
            raise InvalidValue("validation", config.validation, "a share that holds out a picture of some class")
        classifier = fit_linear(train_ND[learned], labels_N[learned], subject.classes, config, seed)
        metrics["validation_top1"] = topk_accuracy(classifier.logits(train_ND[held]), labels_N[held])["top1"]
    return Measured(metrics, len(test_ND))


def fit_linear(
    train_features_ND: torch.Tensor,
    train_labels_N: torch.Tensor,
    classes: int,
    config: LinearConfig,
    seed: int,
) -> LinearClassifier:
    """The linear classifier of `config.protocol`, on the device of the features; deterministic.

    `seed` decides the order of pictures (sgd).
    """
    if config.protocol == "lbfgs":
        return _fit_lbfgs(train_features_ND, train_labels_N, classes, config)
    return _fit_sgd(train_features_ND, train_labels_N, classes, config, seed)


def topk_accuracy(scores_NC: torch.Tensor, labels_N: torch.Tensor) -> dict[str, float]:
    """Top-1 accuracy in percent, and top-5 where there are more than 5 classes."""
    metrics = {"top1": 1, "top5": 5} if scores_NC.shape[1] > 5 else {"top1": 1}
    ranked = scores_NC.topk(max(metrics.values()), dim=1).indices
    hits = ranked == labels_N[:, None]
    return {name: 100 * hits[:, :k].sum().item() / len(hits) for name, k in metrics.items()}


def _fit_lbfgs(
    features_ND: torch.Tensor, labels_N: torch.Tensor, classes: int, config: LinearConfig
) -> LinearClassifier:
    """Minimises mean cross-entropy + l2/2 * |W|^2 on standardised features, in float64; bias not penalised.

    Features of a ReLU network are strongly correlated, which costs L-BFGS many iterations. So the search runs
    in coordinates V with W = P V, where P is the inverse square root of the initial curvature: same
    objective, same optimum. Converged when no component of the gradient by V and bias exceeds 1e-5; the
    objective is then within about 1e-8 of its minimum. Warns where that is not reached in 2,000 iterations
    (separable classes with l2=0 have no optimum).
    """
    x_ND = features_ND.double()
    mean_D = x_ND.mean(0)
    std_D = x_ND.std(0, correction=0)
    std_D = torch.where(std_D > 0, std_D, 1.0)  # a dead unit stays 0 and gets no weight
    x_ND = (x_ND - mean_D) / std_D
    p_DD = _preconditioner(x_ND, classes, config.l2)
    xp_ND = x_ND @ p_DD
    v_DC = x_ND.new_zeros(x_ND.shape[1], classes, requires_grad=True)
    bias_C = x_ND.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [v_DC, bias_C],
        max_iter=_MOST_ITERATIONS,
        max_eval=2 * _MOST_ITERATIONS,
        history_size=20,
        tolerance_grad=_GRADIENT_TOLERANCE,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = config.l2 / 2 * (p_DD @ v_DC).square().sum()
        loss = F.cross_entropy(xp_ND @ v_DC + bias_C, labels_N) + penalty
        loss.backward()
        return loss

    optimizer.step(objective)
    objective()
    gradient = max(p.grad.abs().max().item() for p in (v_DC, bias_C) if p.grad is not None)
    if not gradient <= _GRADIENT_TOLERANCE:
        warnings.warn(f"linear evaluation did not converge: largest gradient {gradient:.1e}", stacklevel=2)
    return LinearClassifier((p_DD @ v_DC).detach(), bias_C.detach(), mean_D, std_D)


def _preconditioner(x_ND: torch.Tensor, classes: int, l2: float) -> torch.Tensor:
    """(covariance / C + l2)^(-1/2), up to a rotation: the curvature where all classes are equally likely."""
    variance_D, basis_DD = torch.linalg.eigh(x_ND.T @ x_ND / len(x_ND))
    curvature_D = variance_D / classes + l2
    return basis_DD / curvature_D.clamp(min=1e-10 * curvature_D.max()).sqrt()


def _fit_sgd(
    features_ND: torch.Tensor, labels_N: torch.Tensor, classes: int, config: LinearConfig, seed: int
) -> LinearClassifier:
    """SGD with Nesterov momentum 0.9 on the features as they are, without penalty or warm-up (App. B.5, B.6).

    The paper gives the peak rate, base_lr * B/256; that it falls along a cosine to 0 is the official code's
    (model_util.py). The paper's random crops of the training pictures are not made: the features are given.
    Weights start at 0, and a batch is at most all pictures.
    """
    pictures = len(features_ND)
    batch_size = min(config.batch_size, pictures)
    weight_DC = features_ND.new_zeros(features_ND.shape[1], classes, requires_grad=True)
    bias_C = features_ND.new_zeros(classes, requires_grad=True)
    peak = config.base_lr * batch_size / 256
    optimizer = torch.optim.SGD([weight_DC, bias_C], lr=peak, momentum=0.9, nesterov=True)
    seen = 0
    for epoch in range(config.epochs):
        order = torch.randperm(pictures, generator=generator(seed, "linear", epoch)).to(features_ND.device)
        for batch in order.split(batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate(seen, config.epochs * pictures, 0, peak)
            optimizer.zero_grad()
            F.cross_entropy(features_ND[batch] @ weight_DC + bias_C, labels_N[batch]).backward()
            optimizer.step()
            seen += len(batch)
    mean_D = torch.zeros_like(features_ND[0])
    return LinearClassifier(weight_DC.detach(), bias_C.detach(), mean_D, torch.ones_like(mean_D))
