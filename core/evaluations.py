"""The typed configs of the evaluations: what can be measured on a trained encoder.

Defaults are the paper's own protocol where it states one; a scale replaces what a smaller machine cannot do. Every key
is part of the evaluation id. In a study an evaluation has a name and is `{"kind": <one of EVALUATIONS>, **config}`; the
name is not part of the id, so studies share evaluations.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import model_validator

from core.errors import UserError, unknown_name
from core.typed import Range, help_text, invalid, parse, typed

Features = Literal["h", "z"]
ProbeTask = Literal["color", "rotation", "noise", "sobel"]
TransferName = Literal[
    "food",
    "cifar10",
    "cifar100",
    "birdsnap",
    "sun397",
    "cars",
    "aircraft",
    "voc2007",
    "dtd",
    "pets",
    "caltech101",
    "flowers",
]

_FEATURES = "h, or z = g(h) through the run's projection head"


@typed
class LinearConfig:
    """Linear evaluation on the frozen encoder (Sec. 2.3, App. B.6)."""

    protocol: Annotated[Literal["lbfgs", "sgd"], help_text("converged logistic regression, or the paper's SGD")] = "sgd"
    features: Annotated[Features, help_text(_FEATURES)] = "h"
    l2: Annotated[float, help_text("l2 penalty of the logistic regression (lbfgs)", ge=0)] = 1e-4
    base_lr: Annotated[float, help_text("lr = base*B/256 (sgd)", gt=0)] = 0.1
    batch_size: Annotated[int, help_text("batch size (sgd)", ge=1)] = 4096
    epochs: Annotated[int, help_text("epochs (sgd)", ge=1)] = 90
    validation: Annotated[
        float, help_text("share of the training pictures held out for validation_top1; 0: none", ge=0, lt=1)
    ] = 0.0

    def without_effect(self) -> set[str]:
        return {"l2"} if self.protocol == "sgd" else {"base_lr", "batch_size", "epochs"}

    def metrics(self) -> tuple[str, ...]:
        return ("top1", "top5", "validation_top1") if self.validation else ("top1", "top5")


@typed
class KnnConfig:
    """Weighted k-nearest-neighbour accuracy (Wu et al. 2018, which the paper's baselines use)."""

    k: Annotated[int, help_text("neighbours", ge=1)] = 200
    temperature: Annotated[float, help_text("weight exp(cosine/temperature)", gt=0)] = 0.1

    def without_effect(self) -> set[str]:
        return set()

    def metrics(self) -> tuple[str, ...]:
        return ("top1", "top5")


@typed
class FinetuneConfig:
    """Fine-tuning of the whole encoder with a linear classifier on few labels (Table 7, App. B.5).

    On an untrained run (train.epochs=0) it is supervised training from scratch on the same labels.
    """

    labels: Annotated[float, help_text("share of the training pictures with labels, class-balanced", gt=0, le=1)] = 0.01
    base_lr: Annotated[float, help_text("lr = base*B/256", gt=0)] = 0.05
    batch_size: Annotated[int, help_text("batch size, at most all labelled pictures", ge=2)] = 4096
    epochs: Annotated[int, help_text("passes over the labelled pictures (App. B.5: 60 at 1%, 30 at 10%)", ge=1)] = 60

    def labelled(self, pictures: int) -> int:
        """How many of the training pictures have a label."""
        return round(self.labels * pictures)

    def without_effect(self) -> set[str]:
        return set()

    def metrics(self) -> tuple[str, ...]:
        return ("top1", "top5")


@typed
class ProbeConfig:
    """How well an MLP reads from frozen features which transformation a picture went through (Table 3).

    The paper says no more than "additional MLPs"; its size and training are ours.
    """

    task: Annotated[ProbeTask, help_text("colour or grey, angle of rotation, original or noisy, original or Sobel")] = (
        "color"
    )
    features: Annotated[Features, help_text(_FEATURES)] = "h"
    pictures: Annotated[int, help_text("training and test pictures used, at most; 0: all", ge=0)] = 100_000
    hidden_dim: Annotated[int, help_text("hidden units; 0: as many as features", ge=0)] = 0
    lr: Annotated[float, help_text("peak learning rate of Adam, which falls along a cosine", gt=0)] = 1e-3
    batch_size: Annotated[int, help_text("batch size, at most all pictures", ge=1)] = 256
    epochs: Annotated[int, help_text("epochs", ge=1)] = 30

    def without_effect(self) -> set[str]:
        return set()

    def metrics(self) -> tuple[str, ...]:
        return ("top1", "guess")


@typed
class HistogramsConfig:
    """Intensity histograms of crops, with and without colour distortion (Fig. 6); uses no encoder."""

    pictures: Annotated[int, help_text("test pictures, at most, among which a crop finds its own", ge=2)] = 1000
    crops: Annotated[int, help_text("crops shown of each of the two pictures of the figure", ge=1)] = 3
    bins: Annotated[int, help_text("bins of a histogram", ge=2, le=256)] = 64

    def without_effect(self) -> set[str]:
        return set()

    def metrics(self) -> tuple[str, ...]:
        return ("found", "found_distorted", "chance")


@typed
class LossGradientsConfig:
    """The three losses of Table 2: gradients against autograd, and weights of negatives; uses no encoder."""

    temperature: Annotated[float, help_text("tau", gt=0)] = 0.1
    margin: Annotated[float, help_text("m of the margin triplet", ge=0)] = 0.8
    positive: Annotated[float, help_text("cosine of the positive", ge=-1, le=1)] = 0.5
    points: Annotated[int, help_text("cosines from -1 to 1 at which a negative's weight is given", ge=3)] = 81

    def without_effect(self) -> set[str]:
        return set()

    def metrics(self) -> tuple[str, ...]:
        return LOSS_GRADIENTS_METRICS


LOSS_GRADIENTS_METRICS = tuple(
    f"{measure}_{loss}"
    for measure in ("difference", "easy", "semi_hard", "hard")
    for loss in ("nt_xent", "nt_logistic", "margin_triplet")
)
"""Relative difference from autograd, and mean weight of each kind of negative, of each loss."""


@typed
class TransferConfig:
    """Transfer to another data set, by a logistic regression on frozen features or by fine-tuning (App. B.8).

    Settings are chosen on validation pictures; the classifier that is tested learns from training and validation
    pictures. Where a range is one of several values, they are evenly spaced on a logarithmic scale.
    """

    dataset: Annotated[TransferName, help_text("the data set")] = "food"
    protocol: Annotated[Literal["linear", "finetune"], help_text("what is trained")] = "linear"
    source: Annotated[
        Literal["torchvision", "folder", "procedural"],
        help_text("the data set itself, from torchvision or a folder of class folders; or a procedural stand-in"),
    ] = "torchvision"
    procedural_size: Annotated[
        int, help_text("training pictures of a procedural stand-in; half as many test it", ge=40)
    ] = 1000
    l2: Annotated[Range, help_text("range of the l2 penalty on the sum of losses (linear)")] = (1e-6, 1e5)
    l2_values: Annotated[int, help_text("values of l2 tried (linear)", ge=1)] = 45
    batch_size: Annotated[int, help_text("batch size (finetune)", ge=2)] = 256
    steps: Annotated[int, help_text("steps (finetune)", ge=1)] = 20_000
    lr: Annotated[Range, help_text("range of the learning rate (finetune)")] = (1e-4, 0.1)
    lr_values: Annotated[int, help_text("learning rates tried (finetune)", ge=1)] = 7
    weight_decay: Annotated[
        Range,
        help_text("range of weight decay times learning rate (finetune)"),
    ] = (1e-6, 1e-3)
    weight_decay_values: Annotated[
        int, help_text("weight decays tried; for a trained encoder the first is none (finetune)", ge=1)
    ] = 8
    scratch_steps: Annotated[int, help_text("steps of an untrained encoder (finetune)", ge=1)] = 40_000
    scratch_lr: Annotated[Range, help_text("the same range, of an untrained encoder (finetune)")] = (
        1e-3,
        1.0,
    )
    scratch_weight_decay: Annotated[Range, help_text("the same range, of an untrained encoder (finetune)")] = (
        1e-5,
        10**-1.5,
    )

    @model_validator(mode="after")
    def _check(self) -> "TransferConfig":
        for key in ("l2", "lr", "weight_decay", "scratch_lr", "scratch_weight_decay"):
            low, high = getattr(self, key)
            if not 0 < low <= high:
                raise invalid(f"evaluate.transfer.{key}", [low, high], "two numbers, 0 < low <= high")
        return self

    def without_effect(self) -> set[str]:
        finetune = {"batch_size", "steps", "lr", "lr_values", "weight_decay", "weight_decay_values"}
        finetune |= {"scratch_steps", "scratch_lr", "scratch_weight_decay"}
        keys = finetune if self.protocol == "linear" else {"l2", "l2_values"}
        return keys if self.source == "procedural" else keys | {"procedural_size"}

    def metrics(self) -> tuple[str, ...]:
        return ("score",)


EVALUATIONS: dict[str, type] = {
    "linear": LinearConfig,
    "knn": KnnConfig,
    "finetune": FinetuneConfig,
    "probe": ProbeConfig,
    "histograms": HistogramsConfig,
    "loss_gradients": LossGradientsConfig,
    "transfer": TransferConfig,
}

METRICS: dict[str, tuple[str, ...]] = {
    **{kind: config().metrics() for kind, config in EVALUATIONS.items()},
    "linear": LinearConfig(validation=0.1).metrics(),
    "train": ("loss", "accuracy", "entropy"),
}
"""What a study can show: `<evaluation>.<name>`, or `train.<name>` from the end of training. docs/evaluations.md says
what each is. In percent, but the loss, the entropy (nats) and the loss gradients' metrics (plain numbers); top5 exists
where there are more than five classes, validation_top1 where a validation share is set."""


def evaluation_config(tree: Mapping[str, Any], prefix: str = "evaluate.") -> tuple[str, Any]:
    """`{"kind": kind, **settings}` to (kind, typed config).

    prefix: how keys are called in messages, such as "evaluate.finetune_1.".
    Raises: UserError naming the key, the value and what is allowed.
    """
    settings = dict(tree)
    kind = settings.pop("kind", None)
    if kind is None:
        raise UserError(f"{prefix}kind is missing: one of {', '.join(EVALUATIONS)}")
    if kind not in EVALUATIONS:
        raise unknown_name(f"{prefix}kind", str(kind), EVALUATIONS)
    return kind, parse(EVALUATIONS[kind], settings, prefix)
