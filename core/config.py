"""The typed config of one run and of its evaluations.

Defaults are the paper's own ImageNet recipe (arXiv 2002.05709v3), with the section beside each;
a scale replaces what a smaller machine cannot do. Every key is a science key, part of the run id,
unless `MACHINE_KEYS` in core/identity.py lists it.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import model_validator

from core.evaluations import EVALUATIONS, METRICS, KnnConfig, LinearConfig, evaluation_config
from core.typed import (
    Range,
    as_dict,
    flatten,
    help_text,
    invalid,
    key_names,
    known_keys,
    parse,
    typed,
    unflatten,
    validate,
)

__all__ = [
    "EVALUATIONS",
    "METRICS",
    "SECTIONS",
    "TRANSFORMS",
    "AugmentConfig",
    "DataConfig",
    "EncoderConfig",
    "HeadConfig",
    "KnnConfig",
    "LinearConfig",
    "LossConfig",
    "MachineConfig",
    "OptimizerConfig",
    "RunConfig",
    "TrainConfig",
    "as_dict",
    "evaluation_config",
    "flatten",
    "key_names",
    "known_keys",
    "parse",
    "run_config",
    "unflatten",
    "with_seed",
]

DatasetName = Literal["synthetic", "cifar10", "cifar100", "stl10", "image_folder"]
TransformName = Literal[
    "crop",
    "cutout",
    "color",
    "sobel",
    "noise",
    "blur",
    "rotate",
    "autoaugment",
    "equalize",
    "solarize",
    "motion_blur",
]
TRANSFORMS: tuple[str, ...] = get_args(TransformName)


@typed
class DataConfig:
    """Which pictures, how many, and at which size."""

    name: Annotated[DatasetName, help_text("data set")] = "synthetic"
    image_size: Annotated[int, help_text("side of a view in pixels", ge=8, le=1024)] = 224
    stored_size: Annotated[
        int, help_text("side in pixels of the stored picture from which views are taken", ge=8, le=2048)
    ] = 256
    train_size: Annotated[int, help_text("training pictures used, at most; 0: all", ge=0)] = 0
    test_size: Annotated[int, help_text("test pictures used, at most; 0: all", ge=0)] = 0
    fingerprint: Annotated[str, help_text("hash that names the pictures, set by the planner")] = ""
    root: Annotated[str, help_text("folder that holds the pictures (not part of the run id)")] = ""
    transfer_root: Annotated[
        str, help_text("folder that holds the data sets of Table 8; empty: below cache_dir (not part of the run id)")
    ] = ""
    download: Annotated[bool, help_text("let torchvision download a missing data set")] = False
    cache_dir: Annotated[str, help_text("folder of the decoded pictures")] = "outputs/data"
    cache_gb: Annotated[float, help_text("largest decoded cache; above it pictures are streamed", ge=0)] = 8.0
    max_bad: Annotated[int, help_text("pictures that may fail to decode and are skipped", ge=0)] = 0
    workers: Annotated[int, help_text("processes that decode streamed pictures; 0: one per core", ge=0)] = 0


@typed
class AugmentConfig:
    """How a picture becomes two views (App. A). All parameters are drawn per picture."""

    shared: Annotated[
        tuple[TransformName, ...], help_text("applied first, with the same parameters on both branches (Fig. 5)")
    ] = ()
    transforms: Annotated[
        tuple[TransformName, ...],
        help_text("applied in this order; a name given twice counts once (Fig. 5, diagonal)"),
    ] = ("crop", "color", "blur")
    branches: Annotated[Literal["one", "both"], help_text("views that `transforms` change (Fig. 5: one)")] = "both"
    crop_area: Annotated[Range, help_text("area of a crop as a share of the picture")] = (0.08, 1.0)
    crop_aspect: Annotated[Range, help_text("width over height of a crop")] = (3 / 4, 4 / 3)
    flip_p: Annotated[float, help_text("probability of a left-right flip after a crop", ge=0, le=1)] = 0.5
    color_strength: Annotated[float, help_text("s: jitter of 0.8s, 0.8s, 0.8s, 0.2s", ge=0, le=2.5)] = 1.0
    color_p: Annotated[float, help_text("probability of the colour jitter", ge=0, le=1)] = 0.8
    gray_p: Annotated[float, help_text("probability of grey after the jitter", ge=0, le=1)] = 0.2
    cutout_area: Annotated[Range, help_text("area of the erased square as a share of the picture")] = (
        0.02,
        0.33,
    )
    noise_std: Annotated[Range, help_text("standard deviation of the Gaussian noise, pixels in 0 to 1")] = (
        0.0,
        0.2,
    )
    blur_sigma: Annotated[Range, help_text("sigma of the blur in pixels of the view")] = (0.1, 2.0)
    blur_p: Annotated[float, help_text("probability of the blur", ge=0, le=1)] = 0.5
    sobel_p: Annotated[float, help_text("probability of the Sobel filter", ge=0, le=1)] = 1.0
    equalize_p: Annotated[float, help_text("probability of equalizing", ge=0, le=1)] = 0.5
    solarize_p: Annotated[float, help_text("probability of solarizing", ge=0, le=1)] = 0.5
    solarize_threshold: Annotated[float, help_text("value from which pixels are inverted", ge=0, le=1)] = 0.5
    motion_blur_length: Annotated[Range, help_text("length of the motion as a share of the view's side")] = (0.0, 0.1)
    motion_blur_p: Annotated[float, help_text("probability of the motion blur", ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _check(self) -> "AugmentConfig":
        # Canonical form: the diagonal of Fig. 5 names one transformation twice and applies it once.
        object.__setattr__(self, "transforms", tuple(dict.fromkeys(self.transforms)))
        for key in ("crop_area", "crop_aspect", "cutout_area", "noise_std", "blur_sigma", "motion_blur_length"):
            low, high = getattr(self, key)
            if key in ("crop_aspect", "crop_area") and low == 0:
                raise invalid(f"augment.{key}", [low, high], "two numbers above 0")
            if not 0 <= low <= high:
                raise invalid(f"augment.{key}", [low, high], "two numbers, 0 <= low <= high")
            if key == "noise_std" and high > 10:
                raise invalid("augment.noise_std", [low, high], "at most 10; pixels are in 0 to 1")
            if key in ("crop_area", "cutout_area", "motion_blur_length") and high > 1:
                raise invalid(f"augment.{key}", [low, high], "a share of the picture is at most 1")
        return self


@typed
class EncoderConfig:
    """The ResNet f(.) (Sec. 2.1); `stem=cifar` is App. B.9: 3x3 stride 1, no max-pool."""

    depth: Annotated[Literal[10, 18, 34, 50, 101, 152], help_text("layers; 10 is the small encoder of `mini`")] = 50
    width: Annotated[float, help_text("width multiplier; 1 is 64 channels in the first stage", gt=0, le=8)] = 1.0
    stem: Annotated[Literal["imagenet", "cifar"], help_text("first layers")] = "imagenet"

    @model_validator(mode="after")
    def _check(self) -> "EncoderConfig":
        if 64 * self.width % 1 or 64 * self.width < 8:
            raise invalid("encoder.width", self.width, "64 times the width must be an integer of at least 8")
        return self


@typed
class HeadConfig:
    """The projection head g(.) (Sec. 4.2)."""

    kind: Annotated[Literal["none", "linear", "nonlinear"], help_text("projection head")] = "nonlinear"
    out_dim: Annotated[int, help_text("dimension of z; not used by kind=none", ge=1)] = 128
    hidden_dim: Annotated[int, help_text("hidden units of the nonlinear head; 0: as h", ge=0)] = 0
    batch_norm: Annotated[bool, help_text("batch norm after each layer, as in the official code")] = True


@typed
class LossConfig:
    """The contrastive loss (Eq. 1, Table 2)."""

    name: Annotated[Literal["nt_xent", "nt_logistic", "margin_triplet"], help_text("contrastive loss")] = "nt_xent"
    temperature: Annotated[float, help_text("tau; not used by margin_triplet", gt=0)] = 0.1
    normalize: Annotated[bool, help_text("compare cosines; false: plain dot products (Table 5)")] = True
    margin: Annotated[float, help_text("m of margin_triplet", ge=0)] = 0.8
    mining: Annotated[
        Literal["none", "semi_hard"],
        help_text("negatives that count: all, or the one most similar below the positive (Sec. 5.1); not for nt_xent"),
    ] = "none"
    negatives: Annotated[
        Literal["both_views", "other_view"], help_text("views that are candidates; other_view is App. B.10's choice")
    ] = "both_views"

    def without_effect(self) -> set[str]:
        """The keys that the loss does not read."""
        return {
            "nt_xent": {"margin", "mining"},
            "nt_logistic": {"margin"},
            "margin_triplet": {"temperature"},
        }[self.name]


@typed
class OptimizerConfig:
    """Optimizer and learning rate (Sec. 2.2, App. B.1)."""

    name: Annotated[Literal["lars", "sgd", "adamw"], help_text("optimizer")] = "lars"
    base_lr: Annotated[float, help_text("learning rate before scaling", gt=0)] = 0.3
    lr_scaling: Annotated[
        Literal["linear", "sqrt", "none"], help_text("lr = base*B/256, base*sqrt(B) or base (Sec. 2.2, App. B.1)")
    ] = "linear"
    weight_decay: Annotated[float, help_text("weight decay; none on bias and batch norm", ge=0)] = 1e-6
    momentum: Annotated[float, help_text("momentum of LARS and SGD", ge=0, lt=1)] = 0.9
    trust: Annotated[float, help_text("LARS trust coefficient (eta)", gt=0)] = 0.001


@typed
class TrainConfig:
    """The training itself (Sec. 2.3)."""

    objective: Annotated[Literal["contrastive", "supervised"], help_text("what is learned")] = "contrastive"
    epochs: Annotated[int, help_text("passes over the training pictures; 0: the untrained encoder", ge=0, le=10**6)] = (
        100
    )
    batch_size: Annotated[int, help_text("pictures per step, over all processes", ge=2)] = 4096
    warmup_epochs: Annotated[float, help_text("linear warm-up, at most all epochs; then cosine to 0", ge=0)] = 10.0
    precision: Annotated[Literal["fp32", "bf16"], help_text("arithmetic of the encoder")] = "fp32"


@typed
class MachineConfig:
    """Where and how a run executes; never part of the run id."""

    device: Annotated[Literal["auto", "cpu", "cuda"], help_text("device that trains")] = "auto"
    threads: Annotated[int, help_text("threads of one process; 0: the launcher chooses", ge=0)] = 0
    compile: Annotated[bool, help_text("torch.compile of the model; needs a C++ compiler")] = False
    checkpoint_seconds: Annotated[float, help_text("time between checkpoints", gt=0)] = 60.0
    log_steps: Annotated[int, help_text("steps between journal lines", ge=1)] = 10


@typed
class RunConfig:
    """Everything that decides one training."""

    seed: Annotated[int, help_text("seed of initialisation, shuffling and augmentation", ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    encoder: EncoderConfig = EncoderConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    machine: MachineConfig = MachineConfig()

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if self.data.stored_size < self.data.image_size:
            allowed = f"at least data.image_size ({self.data.image_size})"
            raise invalid("data.stored_size", self.data.stored_size, allowed)
        return self

    def without_effect(self) -> set[str]:
        """The keys that change nothing in this run, because of what other keys say."""
        named = {*self.augment.shared, *self.augment.transforms}
        keys = {key for transform, its_keys in _KEYS_OF_TRANSFORM.items() if transform not in named for key in its_keys}
        if self.train.objective == "supervised":
            keys |= {"head.kind", "head.out_dim", "head.hidden_dim", "head.batch_norm"}
            keys |= {"augment.branches", *key_names(LossConfig, "loss.")}
        elif self.head.kind == "none":
            keys |= {"head.out_dim", "head.hidden_dim", "head.batch_norm"}
        elif self.head.kind == "linear":
            keys |= {"head.hidden_dim"}
        keys |= {f"loss.{key}" for key in self.loss.without_effect()}
        if self.data.name == "synthetic":
            keys |= {"data.root", "data.download"}
        if self.data.name != "image_folder":
            keys |= {"data.max_bad"}
        if self.optimizer.name != "lars":
            keys |= {"optimizer.trust"}
        if self.optimizer.name == "adamw":
            keys |= {"optimizer.momentum"}
        return keys


_KEYS_OF_TRANSFORM = {
    "crop": ("augment.crop_area", "augment.crop_aspect", "augment.flip_p"),
    "color": ("augment.color_strength", "augment.color_p", "augment.gray_p"),
    "cutout": ("augment.cutout_area",),
    "noise": ("augment.noise_std",),
    "blur": ("augment.blur_sigma", "augment.blur_p"),
    "sobel": ("augment.sobel_p",),
    "equalize": ("augment.equalize_p",),
    "solarize": ("augment.solarize_p", "augment.solarize_threshold"),
    "motion_blur": ("augment.motion_blur_length", "augment.motion_blur_p"),
}


SECTIONS: dict[str, Any] = {name: kind for name, kind in get_type_hints(RunConfig).items() if is_dataclass(kind)}
"""The sections of a run's config by name."""


def run_config(tree: Mapping[str, Any]) -> RunConfig:
    """Plain nested values to the config of a run. Raises: UserError."""
    return parse(RunConfig, tree)


def config_of_sections(seed: int, sections: Mapping[str, Any]) -> RunConfig:
    """The config of a valid seed and typed sections by name. Raises: UserError if they do not go together."""
    return validate(RunConfig, {"seed": seed, **sections})


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The same run under another seed, a valid one; validating all else again would cost a large plan seconds."""
    other = object.__new__(RunConfig)
    other.__dict__.update(config.__dict__, seed=seed)
    return other
