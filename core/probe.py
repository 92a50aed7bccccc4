"""Probes: what a representation knows of the transformation that a picture went through (Table 3, Sec. 4.2).

Works on features alone, so neither encoder nor head can change. Which picture is transformed how is a function of the
seed, with exact shares, so the accuracy of the best guess is known.

Legend: N pictures, C channels, H height, W width, D features, K kinds of picture that are told apart.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from core.augment.color import luma
from core.augment.draws import indices
from core.augment.filters import Noise, sobel
from core.config import AugmentConfig
from core.evaluations import ProbeConfig, ProbeTask
from core.features import Change, extract_features, frozen
from core.linear import topk_accuracy
from core.measures import Measured
from core.randomness import generator
from core.schedule import learning_rate

if TYPE_CHECKING:
    from core.data.pictures import Pictures
    from core.evaluate import Evaluator

SHARES: dict[ProbeTask, tuple[float, ...]] = {
    "color": (0.8, 0.2),  # grey with the probability of App. A, so guessing "colour" is right in 80% (Table 3)
    "rotation": (0.25, 0.25, 0.25, 0.25),
    "noise": (0.5, 0.5),
    "sobel": (0.5, 0.5),
}
"""The share of each kind of picture; kind 0 is the picture as it is."""


def evaluate(subject: "Evaluator", config: ProbeConfig) -> Measured:
    """Accuracy in percent of an MLP on test pictures (`top1`), and of the best guess (`guess`)."""
    seed = subject.run_config.seed
    (train_ND, train_labels_N), (test_ND, test_labels_N) = (
        _features(subject, pictures, split, config)
        for split, pictures in (("train", subject.train), ("test", subject.test))
    )
    kinds = len(SHARES[config.task])
    probe = _fit(train_ND, train_labels_N, kinds, config, seed)
    with frozen(probe):
        logits_NK = probe((test_ND - train_ND.mean(0)) / _spread(train_ND))
    metrics = topk_accuracy(logits_NK, test_labels_N)
    guess = 100 * test_labels_N.bincount().max().item() / len(test_labels_N)
    return Measured({**metrics, "guess": guess}, len(test_labels_N))


def _features(
    subject: "Evaluator", pictures: "Pictures", split: str, config: ProbeConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of some of the pictures after the transformations of the task, and what was done to each."""
    seed, device, image_size = subject.run_config.seed, subject.device, subject.run_config.data.image_size
    count = min(config.pictures or len(pictures), len(pictures))
    rows_N = torch.randperm(len(pictures), generator=generator(seed, f"probe/{split}"))[:count].sort().values
    # By the pictures' numbers, of which only those of the rows are used.
    kind_N = torch.zeros(len(pictures), dtype=torch.long)
    kind_N[rows_N] = kinds_of(config.task, count, generator(seed, f"probe/{split}/{config.task}"))
    change = _change(config.task, kind_N, generator(seed, f"probe/{split}/noise"), image_size)
    h_ND = extract_features(subject.encoder, pictures, image_size, device, change=change, rows_N=rows_N).to(device)
    features_ND = h_ND if config.features == "h" else subject.project(h_ND)
    return features_ND, kind_N[rows_N].to(device)


def kinds_of(task: ProbeTask, count: int, generator: torch.Generator) -> torch.Tensor:
    """A kind for each of `count` pictures, in random order, with the shares of the task as exact as can be."""
    limits_K = torch.tensor(SHARES[task], dtype=torch.float64).cumsum(0)
    ordered_N = torch.searchsorted(limits_K, (torch.arange(count, dtype=torch.float64) + 0.5) / count)
    return ordered_N[torch.randperm(count, generator=generator)]


def _change(task: ProbeTask, kind_N: torch.Tensor, generator: torch.Generator, image_size: int) -> Change:
    """What happens to a batch of views, given the kind of every picture."""
    noise = Noise(AugmentConfig(), image_size)
    drawn = noise.draw(len(kind_N), generator) if task == "noise" else {}

    def change(view_NCHW: torch.Tensor, numbers_N: torch.Tensor) -> torch.Tensor:
        for kind in range(1, len(SHARES[task])):
            chosen_N = kind_N[numbers_N] == kind
            own = numbers_N[chosen_N]
            rows = indices(chosen_N, view_NCHW)
            x_NCHW = view_NCHW.index_select(0, rows)
            if task == "color":
                changed_NCHW = luma(x_NCHW).expand_as(x_NCHW)
            elif task == "rotation":
                changed_NCHW = x_NCHW.rot90(kind, (2, 3))
            elif task == "noise":
                changed_NCHW = noise.apply(x_NCHW, {name: value[own] for name, value in drawn.items()})
            else:
                changed_NCHW = sobel(x_NCHW)
            view_NCHW.index_copy_(0, rows, changed_NCHW)
        return view_NCHW

    return change


def _fit(
    features_ND: torch.Tensor, labels_N: torch.Tensor, kinds: int, config: ProbeConfig, seed: int
) -> nn.Sequential:
    """An MLP with one hidden layer on standardised features, trained with Adam to the end of a cosine."""
    x_ND = (features_ND - features_ND.mean(0)) / _spread(features_ND)
    count, dim = x_ND.shape
    hidden = config.hidden_dim or dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "probe").initial_seed())
        probe = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, kinds)).to(x_ND.device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=config.lr, fused=True)
    batch_size = min(config.batch_size, count)
    seen = 0
    for epoch in range(config.epochs):
        order = torch.randperm(count, generator=generator(seed, "probe/shuffle", epoch)).to(x_ND.device)
        for batch in order.split(batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate(seen, config.epochs * count, 0, config.lr)
            loss = F.cross_entropy(probe(x_ND[batch]), labels_N[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += len(batch)
    return probe


def _spread(features_ND: torch.Tensor) -> torch.Tensor:
    std_D = features_ND.std(0, correction=0)
    return torch.where(std_D > 0, std_D, 1.0)  # a dead unit says nothing
