"""Weighted k-nearest-neighbour classification of frozen features (Wu et al. 2018): nothing is trained.

Legend: N training pictures, M test pictures, D features, K neighbours, C classes.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from core.config import KnnConfig
from core.linear import topk_accuracy
from core.measures import Measured

if TYPE_CHECKING:
    from core.evaluate import Evaluator

_SIMILARITIES_AT_ONCE = 2**26  # 256 MB of fp32


def evaluate(subject: "Evaluator", config: KnnConfig) -> Measured:
    """Top-1 and top-5 accuracy on the test pictures, in percent."""
    scores_MC = knn_scores(
        subject.train_features_ND, subject.train_labels_N, subject.test_features_ND, subject.classes, config
    )
    return Measured(topk_accuracy(scores_MC, subject.test_labels_N), len(scores_MC))


def knn_scores(
    train_features_ND: torch.Tensor,
    train_labels_N: torch.Tensor,
    test_features_MD: torch.Tensor,
    classes: int,
    config: KnnConfig,
) -> torch.Tensor:
    """Each class's share of the neighbours' votes, scores_MC.

    The `k` training pictures of highest cosine similarity (all of them if there are fewer) vote for their
    class with weight exp(cosine / temperature).
    """
    train_ND = F.normalize(train_features_ND, dim=1)
    test_MD = F.normalize(test_features_MD, dim=1)
    k = min(config.k, len(train_ND))
    rows = max(1, _SIMILARITIES_AT_ONCE // len(train_ND))
    scores = []
    for chunk in test_MD.split(rows):
        nearest = (chunk @ train_ND.T).topk(k, dim=1)
        # Softmax is the same vote divided by its sum, and does not overflow at a small temperature.
        votes_MK = (nearest.values / config.temperature).softmax(1)
        empty_MC = votes_MK.new_zeros(len(chunk), classes)
        scores.append(empty_MC.scatter_add(1, train_labels_N[nearest.indices], votes_MK))
    return torch.cat(scores)
