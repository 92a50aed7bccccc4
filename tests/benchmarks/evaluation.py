"""Linear evaluation and kNN on the same features: ours beside scikit-learn's and lightly's, with each one's accuracy.

The features are those of the untrained encoder of `mini` on the embedded pictures: non-negative and strongly
correlated, as features of a ResNet are. One thread each. scikit-learn gets them standardised and the same penalty, in
single precision, as they come, and in double.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from lightly.utils.benchmarking.knn import knn_predict
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from core import data
from core.config import DataConfig, EncoderConfig, KnnConfig, LinearConfig
from core.encoder import build_encoder
from core.environment import keep_freed_memory
from core.features import extract_features
from core.knn import knn_scores
from core.linear import fit_linear, topk_accuracy
from tests.benchmarks.measure import Contender, Line, compare

L2 = LinearConfig().l2
SKLEARN = {
    "scikit-learn": (1e-4, torch.float32),
    "scikit-learn, tol 1e-6": (1e-6, torch.float32),
    "scikit-learn, float64": (1e-4, torch.float64),
    "scikit-learn, float64, 1e-6": (1e-6, torch.float64),
}
"""Tolerance (1e-4 is its own) and precision; only the last of them comes as near to the optimum as ours."""


class Features:
    """Features and labels of a training and a test set."""

    def __init__(self, train_size: int, test_size: int):
        torch.manual_seed(0)
        encoder = build_encoder(EncoderConfig(depth=10, width=0.25)).to(memory_format=torch.channels_last)
        with tempfile.TemporaryDirectory() as cache:
            sizes = {"stored_size": 32, "image_size": 32, "train_size": train_size, "test_size": test_size}
            config = DataConfig(name="synthetic", cache_dir=cache, **sizes)
            train, test = (data.load(config, split) for split in ("train", "test"))
            self.train_ND = extract_features(encoder, train, 32, "cpu")
            self.test_ND = extract_features(encoder, test, 32, "cpu")
            self.train_labels_N, self.test_labels_N = train.labels_N.clone(), test.labels_N.clone()
            self.classes = len(train.classes)

    def standardised(self) -> tuple[Tensor, Tensor]:
        mean_D, std_D = self.train_ND.mean(0), self.train_ND.std(0, correction=0).clamp(min=1e-9)
        return (self.train_ND - mean_D) / std_D, (self.test_ND - mean_D) / std_D


def lines(quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as every run does; the others gain by it too
    threadpool_limits(1)  # scikit-learn's
    features = Features(*((2048, 1000) if quick else (8192, 2000)))
    size = f"{len(features.train_ND):,} x {features.train_ND.shape[1]}"
    rounds = 3
    for case, unit, makers in (
        (
            f"linear, {size}",
            "fits/s",
            {"ours": linear, **{name: partial(by_sklearn, *settings) for name, settings in SKLEARN.items()}},
        ),
        (f"kNN, {size}", "evaluations/s", {"ours": knn, "lightly": knn_by_lightly, "scikit-learn": knn_by_sklearn}),
    ):
        accuracies: dict[str, float] = {}
        contenders = {name: _noting(make(features), name, accuracies) for name, make in makers.items()}
        for line in compare("evaluation", case, unit, contenders, rounds):
            yield replace(line, note=f"top-1 {accuracies[line.contender]:.2f}")


def _noting(evaluate: Callable[[], float], name: str, accuracies: dict[str, float]) -> Contender:
    def run() -> float:
        accuracies[name] = evaluate()
        return 1.0

    return run


def linear(features: Features) -> Callable[[], float]:
    config = LinearConfig(protocol="lbfgs", l2=L2)

    def run() -> float:
        classifier = fit_linear(features.train_ND, features.train_labels_N, features.classes, config, 0)
        return topk_accuracy(classifier.logits(features.test_ND), features.test_labels_N)["top1"]

    return run


def by_sklearn(tolerance: float, precision: torch.dtype, features: Features) -> Callable[[], float]:
    train_ND, test_ND = (x.to(precision).numpy() for x in features.standardised())
    train_labels, test_labels = features.train_labels_N.numpy(), features.test_labels_N.numpy()

    def run() -> float:
        model = LogisticRegression(C=1 / (L2 * len(train_ND)), max_iter=5000, tol=tolerance)
        return 100 * model.fit(train_ND, train_labels).score(test_ND, test_labels)

    return run


def knn(features: Features) -> Callable[[], float]:
    config = KnnConfig()

    def run() -> float:
        scores_NC = knn_scores(
            features.train_ND,
            features.train_labels_N,
            features.test_ND,
            features.classes,
            config,
        )
        return topk_accuracy(scores_NC, features.test_labels_N)["top1"]

    return run


def knn_by_lightly(features: Features) -> Callable[[], float]:
    config = KnnConfig()
    bank_DN = torch.nn.functional.normalize(features.train_ND, dim=1).T.contiguous()
    queries_ND = torch.nn.functional.normalize(features.test_ND, dim=1)

    def run() -> float:
        settings = (features.classes, config.k, config.temperature)
        parts = [knn_predict(part, bank_DN, features.train_labels_N, *settings) for part in queries_ND.split(512)]
        return 100 * (torch.cat(parts)[:, 0] == features.test_labels_N).float().mean().item()

    return run


def knn_by_sklearn(features: Features) -> Callable[[], float]:
    """Unweighted, since weights of a function of one's own would be called in Python."""
    train_ND, test_ND = (torch.nn.functional.normalize(x, dim=1).numpy() for x in (features.train_ND, features.test_ND))

    def run() -> float:
        model = KNeighborsClassifier(KnnConfig().k, algorithm="brute").fit(train_ND, features.train_labels_N.numpy())
        return 100 * model.score(test_ND, features.test_labels_N.numpy())

    return run
