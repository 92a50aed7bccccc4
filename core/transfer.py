"""Transfer to the data sets of Table 8: a logistic regression on frozen features, or fine-tuning (App. B.8).

Every setting is chosen on validation pictures, never on test pictures; what is tested then learns from training and
validation pictures together. The run's own data set plays no part.

Legend: N pictures, D features, C classes.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.data import transfer as sets
from core.data.transfer import FACTS, TransferSet
from core.errors import Cause, RunFailed
from core.evaluations import TransferConfig
from core.features import extract_features
from core.finetune import Tuning, fine_tune
from core.logistic import fit_logistic
from core.measures import Measured, mean_average_precision, mean_per_class
from core.randomness import generator
from core.splits import held_out

if TYPE_CHECKING:
    from core.evaluate import Evaluator

VALIDATION = 0.2
"""Share of the training pictures held out where a data set has no validation pictures of its own."""
ITERATIONS = 100
"""Of L-BFGS for each penalty. With weak ones the optimum lies far off, and moves no prediction that matters."""
BATCH_NORM_STEPS = 10
"""Batch-norm momentum is max(1 - 10/s, 0.9), s the steps of an epoch (App. B.8)."""


def evaluate(subject: "Evaluator", config: TransferConfig) -> Measured:
    """`score`, the measure that Table 8 has for the data set, in percent.

    `data` says which measure and settings, and holds what a permutation test needs of every test picture: `correct` (a
    string of 0 and 1) with `labels`, or for pictures of several classes `scores` and `present`.
    """
    size = subject.run_config.data
    data_set = sets.load(config, size, size.image_size if config.protocol == "linear" else size.stored_size)
    learn, choose = _split(data_set, subject.run_config.seed)
    method = _linear if config.protocol == "linear" else _finetuned
    scores_NC, chosen = method(subject, config, data_set, learn, choose)
    targets = data_set.targets[data_set.test]
    return Measured(
        {"score": score(config, scores_NC, targets)},
        len(targets),
        {
            "dataset": config.dataset,
            "title": FACTS[config.dataset].title,
            "measure": FACTS[config.dataset].measure,
            "source": config.source,
            "classes": len(data_set.classes),
            "pictures": {"train": len(learn), "validation": len(choose), "test": len(targets)},
            "chosen": chosen,
            **_predictions(scores_NC, targets),
        },
    )


def score(config: TransferConfig, scores_NC: np.ndarray, targets: np.ndarray) -> float:
    """Table 8's measure for the data set, in percent."""
    measure = FACTS[config.dataset].measure
    if measure == "map":
        return mean_average_precision(scores_NC, targets)
    correct_N = scores_NC.argmax(1) == targets
    return mean_per_class(correct_N, targets) if measure == "mean_per_class" else float(100 * correct_N.mean())


def _predictions(scores_NC: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    if targets.ndim > 1:
        return {
            "scores": [[float(f"{value:.4g}") for value in row] for row in scores_NC.tolist()],
            "present": ["".join(str(int(value)) for value in row) for row in targets.tolist()],
        }
    correct_N = scores_NC.argmax(1) == targets
    return {"correct": "".join(str(int(value)) for value in correct_N), "labels": targets.tolist()}


def _split(data_set: TransferSet, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures to learn from and those to choose by: the official validation pictures, or some held out."""
    if len(data_set.validation):
        return data_set.train, data_set.validation
    targets = data_set.targets[data_set.train]
    # Pictures of several classes are told apart by all of them together.
    kinds = targets if targets.ndim == 1 else np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    learned, held = held_out(torch.from_numpy(kinds), VALIDATION, generator(seed, "transfer"))
    return data_set.train[learned.numpy()], data_set.train[held.numpy()]


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """`count` values from low to high, evenly spaced on a logarithmic scale; one value is their geometric mean."""
    if count == 1:
        return [float(np.sqrt(low * high))]
    return [float(value) for value in np.geomspace(low, high, count)]


def _linear(
    subject: "Evaluator", config: TransferConfig, data_set: TransferSet, learn: np.ndarray, choose: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of the test pictures by the logistic regression whose l2 penalty is best on validation pictures.

    The penalty is on the sum of losses over pictures, so that it weighs less the more there are, and on weights of
    standardised features: the paper does not say either.
    """
    device, image_size = subject.device, subject.run_config.data.image_size
    h_ND = extract_features(subject.encoder, data_set.pictures, image_size, device).to(device)
    targets = torch.from_numpy(data_set.targets).to(device)
    classes = len(data_set.classes)
    # From strong to weak: each starts at the one before, and near 0 there is little to find.
    penalties = log_spaced(*config.l2, config.l2_values)[::-1]
    fits = fit_logistic(h_ND[learn], targets[learn], classes, [l2 / len(learn) for l2 in penalties], ITERATIONS)
    scores = [score(config, _numpy(fit.logits(h_ND[choose])), data_set.targets[choose]) for fit in fits]
    best = penalties[int(np.argmax(scores))]
    both = np.concatenate([learn, choose])
    *_, fit = fit_logistic(
        h_ND[both], targets[both], classes, [l2 / len(both) for l2 in penalties if l2 >= best], ITERATIONS
    )
    return _numpy(fit.logits(h_ND[data_set.test])), {"l2": best, "validation": max(scores)}


def _finetuned(
    subject: "Evaluator", config: TransferConfig, data_set: TransferSet, learn: np.ndarray, choose: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of the test pictures after fine-tuning with what is best on validation pictures; divergence is worst."""
    best: tuple[float, float, float] | None = None
    tries = list(_tries(subject.run_config.train.epochs == 0, config))
    for lr, weight_decay in tries:
        reached = 0.0
        if len(tries) > 1:
            try:
                scores_NC = _tune(subject, config, data_set, learn, choose, lr, weight_decay)
            except RunFailed as error:
                if error.cause != Cause.DIVERGED:
                    raise
                continue
            reached = score(config, scores_NC, data_set.targets[choose])
        if best is None or reached > best[0]:
            best = reached, lr, weight_decay
    if best is None:
        raise RunFailed(Cause.DIVERGED, "fine-tuning diverged at every learning rate and weight decay")
    reached, lr, weight_decay = best
    both = np.concatenate([learn, choose])
    scores_NC = _tune(subject, config, data_set, both, data_set.test, lr, weight_decay)
    return scores_NC, {"lr": lr, "weight_decay": weight_decay, "validation": reached}


def _tries(scratch: bool, config: TransferConfig) -> Iterator[tuple[float, float]]:
    """Learning rates and weight decays to try. The values of the weight decay are divided by the learning rate."""
    rates = log_spaced(*(config.scratch_lr if scratch else config.lr), config.lr_values)
    if scratch:
        decays = log_spaced(*config.scratch_weight_decay, config.weight_decay_values)
    else:
        values = config.weight_decay_values - 1
        decays = [0.0, *(log_spaced(*config.weight_decay, values) if values else [])]
    for lr in rates:
        for decay in decays:
            yield lr, decay / lr


def _tune(
    subject: "Evaluator",
    config: TransferConfig,
    data_set: TransferSet,
    learn: np.ndarray,
    look: np.ndarray,
    lr: float,
    weight_decay: float,
) -> np.ndarray:
    """Scores of the pictures `look` after fine-tuning on the pictures `learn`."""
    batch_size = min(config.batch_size, len(learn))
    tuning = Tuning(
        peak_lr=lr,
        weight_decay=weight_decay,
        steps=config.scratch_steps if subject.run_config.train.epochs == 0 else config.steps,
        batch_size=batch_size,
        batch_norm_momentum=1 - max(1 - BATCH_NORM_STEPS / (len(learn) / batch_size), 0.9),
    )
    targets, rows_N = torch.from_numpy(data_set.targets), torch.from_numpy(learn)
    model = fine_tune(subject, data_set.pictures, rows_N, targets, len(data_set.classes), tuning)
    image_size = subject.run_config.data.image_size
    return extract_features(model, data_set.pictures, image_size, subject.device, rows_N=torch.from_numpy(look)).numpy()


def _numpy(scores_NC: torch.Tensor) -> np.ndarray:
    return scores_NC.cpu().numpy()
