"""The typed config of one run and of its evaluations.

Defaults are the paper's own ImageNet recipe (arXiv 2002.05709v3), with the section beside each;
a scale replaces what a smaller machine cannot do. Every key is a science key, part of the run id,
unless `MACHINE_KEYS` in core/identity.py lists it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from core.errors import InvalidValue, UserError, unknown_name

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

_typed = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
_Range = tuple[float, float]


def _help(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


def _invalid(key: str, value: object, allowed: str) -> PydanticCustomError:
    """For checks that no single field can make; `_explain` turns it into the user's line."""
    return PydanticCustomError("invalid", "{allowed}", {"key": key, "value": value, "allowed": allowed})


@_typed
class DataConfig:
    """Which pictures, how many, and at which size."""

    name: Annotated[DatasetName, _help("data set")] = "synthetic"
    image_size: Annotated[int, _help("side of a view in pixels", ge=8, le=1024)] = 224
    stored_size: Annotated[
        int, _help("side in pixels of the stored picture from which views are taken", ge=8, le=2048)
    ] = 256
    train_size: Annotated[int, _help("training pictures used, at most; 0: all", ge=0)] = 0
    test_size: Annotated[int, _help("test pictures used, at most; 0: all", ge=0)] = 0
    fingerprint: Annotated[str, _help("hash that names the pictures, set by the planner")] = ""
    root: Annotated[str, _help("folder that holds the pictures (not part of the run id)")] = ""
    download: Annotated[bool, _help("let torchvision download a missing data set")] = False
    cache_dir: Annotated[str, _help("folder of the decoded pictures")] = "outputs/data"
    cache_gb: Annotated[float, _help("largest decoded cache; above it pictures are streamed", ge=0)] = 8.0
    max_bad: Annotated[int, _help("pictures that may fail to decode and are skipped", ge=0)] = 0
    workers: Annotated[int, _help("processes that decode streamed pictures; 0: one per core", ge=0)] = 0


@_typed
class AugmentConfig:
    """How a picture becomes two views (App. A). All parameters are drawn per picture."""

    shared: Annotated[
        tuple[TransformName, ...], _help("applied first, with the same parameters on both branches (Fig. 5)")
    ] = ()
    transforms: Annotated[
        tuple[TransformName, ...],
        _help("applied in this order; a name given twice counts once (Fig. 5, diagonal)"),
    ] = ("crop", "color", "blur")
    branches: Annotated[Literal["one", "both"], _help("views that `transforms` change (Fig. 5: one)")] = "both"
    crop_area: Annotated[_Range, _help("area of a crop as a share of the picture")] = (0.08, 1.0)
    crop_aspect: Annotated[_Range, _help("width over height of a crop")] = (3 / 4, 4 / 3)
    flip_p: Annotated[float, _help("probability of a left-right flip after a crop", ge=0, le=1)] = 0.5
    color_strength: Annotated[float, _help("s: jitter of 0.8s, 0.8s, 0.8s, 0.2s", ge=0, le=2.5)] = 1.0
    color_p: Annotated[float, _help("probability of the colour jitter", ge=0, le=1)] = 0.8
    gray_p: Annotated[float, _help("probability of grey after the jitter", ge=0, le=1)] = 0.2
    cutout_area: Annotated[_Range, _help("area of the erased square as a share of the picture")] = (
        0.02,
        0.33,
    )
    noise_std: Annotated[_Range, _help("standard deviation of the Gaussian noise, pixels in 0 to 1")] = (
        0.0,
        0.2,
    )
    blur_sigma: Annotated[_Range, _help("sigma of the blur in pixels of the view")] = (0.1, 2.0)
    blur_p: Annotated[float, _help("probability of the blur", ge=0, le=1)] = 0.5
    sobel_p: Annotated[float, _help("probability of the Sobel filter", ge=0, le=1)] = 1.0
    equalize_p: Annotated[float, _help("probability of equalizing", ge=0, le=1)] = 0.5
    solarize_p: Annotated[float, _help("probability of solarizing", ge=0, le=1)] = 0.5
    solarize_threshold: Annotated[float, _help("value from which pixels are inverted", ge=0, le=1)] = 0.5
    motion_blur_length: Annotated[_Range, _help("length of the motion as a share of the view's side")] = (0.0, 0.1)
    motion_blur_p: Annotated[float, _help("probability of the motion blur", ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _check(self) -> "AugmentConfig":
        # Canonical form: the diagonal of Fig. 5 names one transformation twice and applies it once.
        object.__setattr__(self, "transforms", tuple(dict.fromkeys(self.transforms)))
        for key in ("crop_area", "crop_aspect", "cutout_area", "noise_std", "blur_sigma", "motion_blur_length"):
            low, high = getattr(self, key)
            if key == "crop_aspect" and low == 0:
                raise _invalid("augment.crop_aspect", [low, high], "two numbers above 0")
            if not 0 <= low <= high:
                raise _invalid(f"augment.{key}", [low, high], "two numbers, 0 <= low <= high")
            if key in ("crop_area", "cutout_area", "motion_blur_length") and high > 1:
                raise _invalid(f"augment.{key}", [low, high], "a share of the picture is at most 1")
        return self


@_typed
class EncoderConfig:
    """The ResNet f(.) (Sec. 2.1); `stem=cifar` is App. B.9: 3x3 stride 1, no max-pool."""

    depth: Annotated[Literal[10, 18, 34, 50, 101, 152], _help("layers; 10 is the small encoder of `mini`")] = 50
    width: Annotated[float, _help("width multiplier; 1 is 64 channels in the first stage", gt=0, le=8)] = 1.0
    stem: Annotated[Literal["imagenet", "cifar"], _help("first layers")] = "imagenet"


@_typed
class HeadConfig:
    """The projection head g(.) (Sec. 4.2)."""

    kind: Annotated[Literal["none", "linear", "nonlinear"], _help("projection head")] = "nonlinear"
    out_dim: Annotated[int, _help("dimension of z; not used by kind=none", ge=1)] = 128
    hidden_dim: Annotated[int, _help("hidden units of the nonlinear head; 0: as h", ge=0)] = 0
    batch_norm: Annotated[bool, _help("batch norm after each layer, as in the official code")] = True


@_typed
class LossConfig:
    """The contrastive loss (Eq. 1, Table 2)."""

    name: Annotated[Literal["nt_xent", "nt_logistic", "margin_triplet"], _help("contrastive loss")] = "nt_xent"
    temperature: Annotated[float, _help("tau; not used by margin_triplet", gt=0)] = 0.1
    normalize: Annotated[bool, _help("compare cosines; false: plain dot products (Table 5)")] = True
    margin: Annotated[float, _help("m of margin_triplet", ge=0)] = 0.8
    mining: Annotated[
        Literal["none", "semi_hard"],
        _help("negatives that count: all, or the one most similar below the positive (Sec. 5.1); not for nt_xent"),
    ] = "none"
    negatives: Annotated[
        Literal["both_views", "other_view"], _help("views that are candidates; other_view is App. B.10's choice")
    ] = "both_views"

    def without_effect(self) -> set[str]:
        """The keys that the loss does not read."""
        return {
            "nt_xent": {"margin", "mining"},
            "nt_logistic": {"margin"},
            "margin_triplet": {"temperature"},
        }[self.name]


@_typed
class OptimizerConfig:
    """Optimizer and learning rate (Sec. 2.2, App. B.1)."""

    name: Annotated[Literal["lars", "sgd", "adamw"], _help("optimizer")] = "lars"
    base_lr: Annotated[float, _help("learning rate before scaling", gt=0)] = 0.3
    lr_scaling: Annotated[
        Literal["linear", "sqrt", "none"], _help("lr = base*B/256, base*sqrt(B) or base (Sec. 2.2, App. B.1)")
    ] = "linear"
    weight_decay: Annotated[float, _help("weight decay; none on bias and batch norm", ge=0)] = 1e-6
    momentum: Annotated[float, _help("momentum of LARS and SGD", ge=0, lt=1)] = 0.9
    trust: Annotated[float, _help("LARS trust coefficient (eta)", gt=0)] = 0.001


@_typed
class TrainConfig:
    """The training itself (Sec. 2.3)."""

    objective: Annotated[Literal["contrastive", "supervised"], _help("what is learned")] = "contrastive"
    epochs: Annotated[int, _help("passes over the training pictures; 0: the untrained encoder", ge=0)] = 100
    batch_size: Annotated[int, _help("pictures per step, over all processes", ge=2)] = 4096
    warmup_epochs: Annotated[float, _help("linear warm-up, at most all epochs; then cosine decay to 0", ge=0)] = 10.0
    precision: Annotated[Literal["fp32", "bf16"], _help("arithmetic of the encoder")] = "fp32"


@_typed
class MachineConfig:
    """Where and how a run executes; never part of the run id."""

    device: Annotated[Literal["auto", "cpu", "cuda"], _help("device that trains")] = "auto"
    threads: Annotated[int, _help("threads of one process; 0: the launcher chooses", ge=0)] = 0
    checkpoint_seconds: Annotated[float, _help("time between checkpoints", gt=0)] = 60.0
    log_steps: Annotated[int, _help("steps between journal lines", ge=1)] = 10


@_typed
class RunConfig:
    """Everything that decides one training."""

    seed: Annotated[int, _help("seed of initialisation, shuffling and augmentation", ge=0)] = 0
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
            raise _invalid("data.stored_size", self.data.stored_size, allowed)
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
            keys |= {"data.root", "data.download", "data.max_bad"}
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


@_typed
class LinearConfig:
    """Linear evaluation on the frozen encoder (Sec. 2.3, App. B.6)."""

    protocol: Annotated[Literal["lbfgs", "sgd"], _help("converged logistic regression, or the paper's SGD")] = "sgd"
    l2: Annotated[float, _help("l2 penalty of the logistic regression (lbfgs)", ge=0)] = 1e-4
    base_lr: Annotated[float, _help("lr = base*B/256 (sgd)", gt=0)] = 0.1
    batch_size: Annotated[int, _help("batch size (sgd)", ge=1)] = 4096
    epochs: Annotated[int, _help("epochs (sgd)", ge=1)] = 90

    def without_effect(self) -> set[str]:
        """The keys that the protocol does not read."""
        return {"l2"} if self.protocol == "sgd" else {"base_lr", "batch_size", "epochs"}


@_typed
class KnnConfig:
    """Weighted k-nearest-neighbour accuracy (Wu et al. 2018, which the paper's baselines use)."""

    k: Annotated[int, _help("neighbours", ge=1)] = 200
    temperature: Annotated[float, _help("weight exp(cosine/temperature)", gt=0)] = 0.1

    def without_effect(self) -> set[str]:
        return set()


EVALUATIONS: dict[str, type] = {"linear": LinearConfig, "knn": KnnConfig}
METRICS: dict[str, tuple[str, ...]] = {
    "linear": ("top1", "top5"),
    "knn": ("top1", "top5"),
    "train": ("loss", "accuracy", "entropy"),
}
"""What a study can show: `<evaluation>.<name>`, or `train.<name>` from the end of training. In percent, but the
loss and the entropy (nats); top5 exists where there are more than five classes."""


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings as (dotted key, value); lists are leaves."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def as_dict(config: Any) -> dict[str, Any]:
    """A typed config as nested plain values, as written to config.yaml."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def parse(kind: type, tree: Mapping[str, Any], prefix: str = "") -> Any:
    """Plain nested values to the typed config `kind`.

    Raises: UserError naming the key, the value and what is allowed.
    """
    try:
        return _adapter(kind).validate_python(tree)
    except ValidationError as error:
        raise _explain(kind, error, prefix) from None


def run_config(tree: Mapping[str, Any]) -> RunConfig:
    """Plain nested values to the config of a run. Raises: UserError."""
    return parse(RunConfig, tree)


def key_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the typed config `kind`."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from key_names(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def known_keys(kind: type = RunConfig) -> dict[str, Any]:
    """Every dotted key of `kind` with its default."""
    return dict(flatten(as_dict(kind())))


_adapters: dict[type, TypeAdapter] = {}


def _adapter(kind: type) -> TypeAdapter:
    return _adapters.setdefault(kind, TypeAdapter(kind))


def _explain(kind: type, error: ValidationError, prefix: str) -> UserError:
    first = error.errors()[0]
    key = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_name("key", key, key_names(kind, prefix))
    if first["type"] == "invalid":
        return InvalidValue(**first["ctx"])
    return InvalidValue(key, first["input"], first["msg"][0].lower() + first["msg"][1:])
