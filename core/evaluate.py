"""Evaluations of a trained encoder: what its frozen features are good for.

Features are extracted once per encoder and shared by all evaluations of it. The encoder leaves as it came:
same weights, same batch-norm statistics, same mode.

A further kind of evaluation is one file with `evaluate(subject: Evaluator, config) -> metrics`, its config in
`core.config.EVALUATIONS`, and a line in `KINDS`.

Legend: N pictures, C channels, H height, W width, D features.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from core import knn, linear
from core.augment import plain_view
from core.config import RunConfig
from core.data.pictures import Pictures
from core.encoder import Encoder
from core.errors import Cause, RunFailed, unknown_name


class Evaluator:
    """One encoder and the pictures to evaluate it on.

    Evaluations read from it the features and labels of both sets (on `device`), the number of classes, and
    where they need more, the encoder and the pictures themselves.
    """

    def __init__(
        self,
        encoder: Encoder,
        run_config: RunConfig,
        train: Pictures,
        test: Pictures,
        device: torch.device | str,
    ):
        self.encoder = encoder.to(device)
        self.run_config = run_config
        self.train = train
        self.test = test
        self.device = device
        self.classes = len(train.classes)
        self.train_labels_N = train.labels_N.to(device)
        self.test_labels_N = test.labels_N.to(device)

    def run(self, kind: str, config: Any) -> tuple[dict[str, float], int]:
        """The metrics of one evaluation, in percent, and the number of test pictures they rest on.

        Raises: UserError for an unknown kind, RunFailed (diverged) if features are not finite.
        """
        if kind not in KINDS:
            raise unknown_name("evaluation", kind, KINDS)
        return KINDS[kind](self, config), len(self.test)

    @cached_property
    def train_features_ND(self) -> torch.Tensor:
        return self._features(self.train)

    @cached_property
    def test_features_ND(self) -> torch.Tensor:
        return self._features(self.test)

    def _features(self, pictures: Pictures) -> torch.Tensor:
        image_size = self.run_config.data.image_size
        return extract_features(self.encoder, pictures, image_size, self.device).to(self.device)


KINDS: dict[str, Callable[[Evaluator, Any], dict[str, float]]] = {
    "linear": linear.evaluate,
    "knn": knn.evaluate,
}
"""The evaluation behind each name of `core.config.EVALUATIONS`."""


def extract_features(
    encoder: Encoder, pictures: Pictures, image_size: int, device: torch.device | str, batch_size: int = 512
) -> torch.Tensor:
    """h_ND in fp32 on the CPU, in the order of `pictures`, each seen once without augmentation.

    Raises: RunFailed (diverged) if a feature is not finite.
    """
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        features = []
        with torch.no_grad():
            for x_NCHW in pictures.batches(torch.arange(len(pictures)).split(batch_size)):
                view_NCHW = plain_view(x_NCHW.to(device), image_size)
                features.append(encoder(view_NCHW.contiguous(memory_format=torch.channels_last)).float().cpu())
    finally:
        for module, training in modes.items():
            module.training = training
    features_ND = torch.cat(features)
    if not features_ND.isfinite().all():
        raise RunFailed(Cause.DIVERGED, "the encoder's features are not finite")
    return features_ND
