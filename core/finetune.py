"""Fine-tuning: the whole encoder learns on, with a linear classifier on top of h, from few or many labels (App. B.5).

Only a copy learns; the run's encoder stays as it is. Everything random is a function of (seed, step).

Legend: N pictures, C classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from core.augment import Augmenter
from core.config import AugmentConfig
from core.device import send
from core.errors import Cause, RunFailed
from core.evaluations import FinetuneConfig
from core.feasible import check_labels
from core.features import extract_features
from core.linear import topk_accuracy
from core.measures import Measured
from core.optimizer import parameter_groups
from core.randomness import generator
from core.schedule import learning_rate
from core.splits import balanced_order

if TYPE_CHECKING:
    from core.data.pictures import Pictures
    from core.evaluate import Evaluator

ONLY_CROPS = AugmentConfig(transforms=("crop",))
"""Random crops, resized and flipped, are all that changes a picture (App. B.5, B.8)."""


@dataclass(frozen=True)
class Tuning:
    """How a copy is fine-tuned: SGD with Nesterov momentum 0.9; no warm-up."""

    peak_lr: float
    steps: int
    batch_size: int
    weight_decay: float = 0.0
    batch_norm_momentum: float | None = None
    """Weight of a batch in the running statistics; None: as in pretraining."""


def evaluate(subject: "Evaluator", config: FinetuneConfig) -> Measured:
    """Top-1 and top-5 accuracy on the test pictures after fine-tuning on a share of the training labels.

    The labelled pictures are class-balanced and fixed per seed; those of a smaller share are among those of a
    larger one. A batch is at most all of them, and the learning rate falls along a cosine, as in the official code.
    """
    seed, labels_N = subject.run_config.seed, subject.train.labels_N
    check_labels("finetune", config, len(labels_N), subject.classes)
    count = config.labelled(len(labels_N))
    rows_N = balanced_order(labels_N, generator(seed, "labels"))[:count]
    batch_size = min(config.batch_size, count)
    tuning = Tuning(
        peak_lr=config.base_lr * batch_size / 256,
        steps=max(1, config.epochs * count // batch_size),
        batch_size=batch_size,
    )
    model = fine_tune(subject, subject.train, rows_N, labels_N, subject.classes, tuning)
    scores_NC = extract_features(model, subject.test, subject.run_config.data.image_size, subject.device)
    return Measured(topk_accuracy(scores_NC, subject.test.labels_N), len(scores_NC))


def fine_tune(
    subject: "Evaluator",
    pictures: "Pictures",
    rows_N: torch.Tensor,
    targets: torch.Tensor,
    classes: int,
    tuning: Tuning,
) -> nn.Sequential:
    """A copy of the encoder with a linear classifier, which starts at 0, trained on the pictures `rows_N`.

    targets: of all `pictures`: labels_N, or for pictures of several classes at once, 0 or 1 as float (N, C).
    Raises: RunFailed (diverged) if the loss is not finite.
    """
    config, device = subject.run_config, subject.device
    encoder = subject.copy_of_encoder()
    classifier = nn.utils.skip_init(nn.Linear, encoder.feature_dim, classes, device=device)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    model = nn.Sequential(encoder, classifier).train()
    if tuning.batch_norm_momentum is not None:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = tuning.batch_norm_momentum
    optimizer = torch.optim.SGD(
        parameter_groups([model], tuning.weight_decay), lr=tuning.peak_lr, momentum=0.9, nesterov=True
    )
    loss_of = nn.functional.cross_entropy if targets.ndim == 1 else nn.functional.binary_cross_entropy_with_logits
    augmenter = Augmenter(ONLY_CROPS, config.data.image_size)
    precision = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.train.precision == "bf16")
    samples = tuning.batch_size
    batches = list(_batches(rows_N, tuning, config.seed))
    for step, x_NCHW in enumerate(pictures.batches(iter(batches))):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step * samples, tuning.steps * samples, 0, tuning.peak_lr)
        view_NCHW = augmenter.one_view(send(x_NCHW, device), augmenter.draw(samples, config.seed, step))
        with precision:
            logits_NC = model(view_NCHW)
        loss = loss_of(logits_NC.float(), send(targets[batches[step]], device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        # The value waits for the device, so on a GPU not at every step.
        if (step % 20 == 0 or step == tuning.steps - 1) and not math.isfinite(loss.item()):
            raise RunFailed(Cause.DIVERGED, f"fine-tuning: loss is {loss.item()} at step {step + 1}")
    return model


def _batches(rows_N: torch.Tensor, tuning: Tuning, seed: int) -> Iterator[torch.Tensor]:
    """The pictures of each step: permutations of all of them, one after another, cut into batches.

    So no batch is smaller than the others: batch norm cannot learn from a batch of one.
    """
    waiting, epoch = rows_N[:0], 0
    for _ in range(tuning.steps):
        while len(waiting) < tuning.batch_size:
            order = torch.randperm(len(rows_N), generator=generator(seed, "finetune", epoch))
            waiting, epoch = torch.cat([waiting, rows_N[order]]), epoch + 1
        yield waiting[: tuning.batch_size]
        waiting = waiting[tuning.batch_size :]
