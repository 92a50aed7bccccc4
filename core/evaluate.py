"""Evaluations of a trained encoder: what it is good for.

Features are extracted once per encoder and shared by all evaluations of it. The encoder leaves as it came: same
weights, same batch-norm statistics, same mode; what is fine-tuned is a copy.

A further kind of evaluation is one file with `evaluate(subject: Evaluator, config) -> Measured`, its config in
`core.evaluations.EVALUATIONS`, and a line in `KINDS`.

Legend: N pictures, D features.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import nn

from core import finetune, histograms, knn, linear, loss_gradients, probe, transfer
from core.config import RunConfig
from core.data.pictures import Pictures
from core.encoder import Encoder, build_encoder
from core.errors import UserError, unknown_name
from core.features import extract_features, project
from core.measures import Measured


class Evaluator:
    """One encoder and the pictures to evaluate it on.

    Evaluations read from it the features and labels of both sets (on `device`), the number of classes, and
    where they need more, the encoder, its projection head (None where there is none) and the pictures themselves.
    """

    def __init__(
        self,
        encoder: Encoder,
        run_config: RunConfig,
        train: Pictures,
        test: Pictures,
        device: torch.device | str,
        head: nn.Module | None = None,
    ):
        self.encoder = encoder.to(device)
        self.head = head if head is None else head.to(device)
        self.run_config = run_config
        self.train = train
        self.test = test
        self.device = device
        self.classes = len(train.classes)
        self.train_labels_N = train.labels_N.to(device)
        self.test_labels_N = test.labels_N.to(device)

    def run(self, kind: str, config: Any) -> Measured:
        """One evaluation.

        Raises: UserError for an unknown kind or one that this encoder cannot have, RunFailed (diverged) if
        features are not finite.
        """
        if kind not in KINDS:
            raise unknown_name("evaluation", kind, KINDS)
        return KINDS[kind](self, config)

    def features(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The features h or z of the training and of the test pictures."""
        h = self.train_features_ND, self.test_features_ND
        return h if name == "h" else (self.project(h[0]), self.project(h[1]))

    def project(self, h_ND: torch.Tensor) -> torch.Tensor:
        """z = g(h). Raises: UserError if the run has no projection head."""
        if self.head is None:
            raise UserError("features=z: a supervised run has no projection head; allowed: h")
        return project(self.head, h_ND)

    def copy_of_encoder(self) -> Encoder:
        """Another encoder with the same weights, for one process, whatever the training was shared by."""
        with torch.random.fork_rng(devices=[]):
            encoder = build_encoder(self.run_config.encoder)
        encoder.load_state_dict(self.encoder.state_dict())
        return encoder.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @cached_property
    def train_features_ND(self) -> torch.Tensor:
        return self._features(self.train)

    @cached_property
    def test_features_ND(self) -> torch.Tensor:
        return self._features(self.test)

    def _features(self, pictures: Pictures) -> torch.Tensor:
        image_size = self.run_config.data.image_size
        return extract_features(self.encoder, pictures, image_size, self.device).to(self.device)


KINDS: dict[str, Callable[[Evaluator, Any], Measured]] = {
    "linear": linear.evaluate,
    "knn": knn.evaluate,
    "finetune": finetune.evaluate,
    "probe": probe.evaluate,
    "histograms": histograms.evaluate,
    "loss_gradients": loss_gradients.evaluate,
    "transfer": transfer.evaluate,
}
"""The evaluation behind each name of `core.evaluations.EVALUATIONS`."""
