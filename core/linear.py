"""Linear evaluation: how well a linear classifier reads classes from frozen features (Sec. 2.3, App. B.6).

Works on features alone, so the encoder cannot change. Two protocols: `lbfgs`, a logistic regression run to
its optimum, which has no learning rate to get wrong; `sgd`, the paper's.

Legend: N pictures, D features, C classes.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from core.config import LinearConfig
from core.errors import InvalidValue
from core.logistic import LinearClassifier, fit_logistic
from core.measures import Measured
from core.randomness import generator
from core.schedule import learning_rate
from core.splits import held_out

if TYPE_CHECKING:
    from core.evaluate import Evaluator


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
        return next(fit_logistic(train_features_ND, train_labels_N, classes, [config.l2]))
    return _fit_sgd(train_features_ND, train_labels_N, classes, config, seed)


def topk_accuracy(scores_NC: torch.Tensor, labels_N: torch.Tensor) -> dict[str, float]:
    """Top-1 accuracy in percent, and top-5 where there are more than 5 classes."""
    metrics = {"top1": 1, "top5": 5} if scores_NC.shape[1] > 5 else {"top1": 1}
    ranked = scores_NC.topk(max(metrics.values()), dim=1).indices
    hits = ranked == labels_N[:, None]
    return {name: 100 * hits[:, :k].sum().item() / len(hits) for name, k in metrics.items()}


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
