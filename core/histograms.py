"""Fig. 6: intensity histograms of crops, and how often a crop's histogram alone finds its own picture.

No encoder is used: this is about what crops share before any network has seen them (Sec. 3.1).

Legend: N pictures, C channels, H height, W width, B bins.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from core.augment import Augmenter
from core.config import TransformName
from core.evaluations import HistogramsConfig
from core.measures import Measured
from core.randomness import generator

if TYPE_CHECKING:
    from core.evaluate import Evaluator

CROPPED: tuple[TransformName, ...] = ("crop",)
DISTORTED: tuple[TransformName, ...] = ("crop", "color")
_SHOWN = 2
"""Pictures in the figure, one in each row."""


def evaluate(subject: "Evaluator", config: HistogramsConfig) -> Measured:
    """Percent of crops whose histogram is nearest to that of another crop of the same picture.

    `found` for crops alone, `found_distorted` after colour distortion of both (the run's own settings), `chance` for a
    guess among as many pictures. `data` has the histograms of some crops of two pictures of different classes,
    as shares: {"bins", "pictures": [{"picture", "class"}], "crops": [[[share]]], "distorted": ...} by picture and crop.
    """
    seed, labels_N = subject.run_config.seed, subject.test.labels_N
    rows_N = torch.randperm(len(labels_N), generator=generator(seed, "histograms"))[: config.pictures]
    chosen = labels_N[rows_N]
    others = (chosen != chosen[0]).nonzero()[:, 0]
    shown = rows_N[[0, int(others[0]) if len(others) else 1]]
    metrics: dict[str, float] = {}
    data: dict[str, Any] = {
        "bins": config.bins,
        "pictures": [
            {"picture": int(row), "class": str(subject.test.classes[labels_N[row]])} for row in shown.tolist()
        ],
    }
    x_NCHW = subject.test.batch(rows_N)
    repeated_NCHW = subject.test.batch(shown.repeat_interleave(config.crops))
    for metric, name, transforms in (("found", "crops", CROPPED), ("found_distorted", "distorted", DISTORTED)):
        recipe = replace(subject.run_config.augment, shared=(), transforms=transforms, branches="both")
        augmenter = Augmenter(recipe, subject.run_config.data.image_size)
        views_NCHW = augmenter.two_views(x_NCHW, augmenter.draw(len(x_NCHW), seed, 0))
        metrics[metric] = found(*histograms(views_NCHW, config.bins).chunk(2))
        crops_NCHW = augmenter.one_view(repeated_NCHW, augmenter.draw(len(repeated_NCHW), seed, 1))
        shares_NB = histograms(crops_NCHW, config.bins).view(_SHOWN, config.crops, config.bins)
        data[name] = [[[round(share, 6) for share in crop] for crop in picture] for picture in shares_NB.tolist()]
    metrics["chance"] = 100 / len(rows_N)
    return Measured(metrics, len(rows_N), data)


def histograms(view_NCHW: torch.Tensor, bins: int) -> torch.Tensor:
    """(N, B): the shares of a view's values, over all channels together, in equal bins from 0 to 1."""
    count = len(view_NCHW)
    bin_NV = (view_NCHW.flatten(1) * bins).long().clamp_(max=bins - 1)
    empty_NB = torch.zeros(count, bins, device=view_NCHW.device)
    return empty_NB.scatter_add_(1, bin_NV, torch.ones_like(bin_NV, dtype=torch.float)) / bin_NV.shape[1]


def found(query_NB: torch.Tensor, gallery_NB: torch.Tensor) -> float:
    """Percent of the queries i to which gallery i is nearest, by the sum of absolute differences."""
    nearest_N = torch.cdist(query_NB, gallery_NB, p=1).argmin(1)
    return 100 * (nearest_N == torch.arange(len(query_NB), device=query_NB.device)).double().mean().item()
