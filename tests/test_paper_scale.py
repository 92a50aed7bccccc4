"""`scale=imagenet` is the paper's own setting, number by number from ablations/paper/, and it runs."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from core import data
from core.config import LinearConfig, RunConfig
from core.encoder import build_encoder
from core.evaluations import FinetuneConfig
from core.execute import execute
from core.head import build_head
from core.linear import fit_linear
from core.optimizer import build_optimizer, scaled_lr
from core.rundir import RunDirectory
from core.schedule import learning_rate
from sweeps import request
from sweeps.grid import Grid, data_config, expand
from sweeps.paper import load_paper
from tests.pictures import pictures

PICTURES = 1_281_167
"""Training pictures of ImageNet ILSVRC-2012."""
INFO = pictures(PICTURES, 50_000, classes=1000)
PAPER = load_paper()
OWN_STUDY = """
name: own
title: One SimCLR of the paper
summary: nothing that the paper does not do by default
evaluations:
  linear: {}
  finetune_all: {kind: finetune, labels: 1.0}
"""


def paper_grid(folder: Path, *arguments: str) -> Grid:
    """A study that asks for nothing in particular, at `scale=imagenet`."""
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "own.yaml").write_text(OWN_STUDY)
    (asked,) = request.read(["study=own", "scale=imagenet", "data=image_folder", *arguments], [folder])
    return expand(asked, INFO)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return paper_grid(tmp_path_factory.mktemp("own study"))


@pytest.fixture
def config(grid: Grid) -> RunConfig:
    return grid.cells[0].runs[0].config


@pytest.fixture
def linear(grid: Grid) -> LinearConfig:
    return LinearConfig(**without_kind(grid.cells[0].runs[0].evaluations["linear"]))


def without_kind(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "kind"}


def number(text: str) -> float:
    return float(text.split("*")[0])


def test_nothing_is_mapped(grid: Grid):
    assert grid.mapped == ()
    assert grid.request.scale.is_paper


def test_training(config: RunConfig):
    paper = PAPER["training"]
    assert config.optimizer.name.upper() == paper["optimizer"]
    assert scaled_lr(config.optimizer, paper["batch_size"]) == pytest.approx(paper["lr"])
    assert config.optimizer.lr_scaling == "linear"
    assert config.optimizer.base_lr == number(paper["lr_linear"])
    assert config.optimizer.weight_decay == paper["weight_decay"]
    assert config.train.batch_size == paper["batch_size"]
    assert config.train.epochs == paper["epochs_default"]
    assert config.train.warmup_epochs == paper["warmup_epochs"]
    assert config.train.objective == "contrastive"
    assert config.data.train_size == config.data.test_size == 0  # all pictures


def test_the_schedule_warms_up_linearly_and_falls_along_one_cosine(config: RunConfig):
    steps = PICTURES // config.train.batch_size * config.train.epochs
    warmup = PICTURES // config.train.batch_size * round(config.train.warmup_epochs)
    peak = scaled_lr(config.optimizer, config.train.batch_size)
    lr_S = [learning_rate(step, steps, warmup, peak) for step in range(steps + 1)]
    assert lr_S[0] == 0
    assert lr_S[warmup // 2] == pytest.approx(peak / 2)
    assert max(lr_S) == lr_S[warmup] == pytest.approx(PAPER["training"]["lr"])
    middle = warmup + (steps - warmup) // 3
    assert lr_S[middle] == pytest.approx(peak * (1 + math.cos(math.pi / 3)) / 2, rel=1e-3)
    assert lr_S[steps] == 0
    assert all(later < earlier for earlier, later in zip(lr_S[warmup:], lr_S[warmup + 1 :], strict=False))


def test_the_square_root_scaling_of_appendix_b1(tmp_path: Path):
    base = number(PAPER["training"]["lr_sqrt"])
    grid = paper_grid(tmp_path, "optimizer.lr_scaling=sqrt", f"optimizer.base_lr={base}")
    assert scaled_lr(grid.cells[0].runs[0].config.optimizer, 4096) == pytest.approx(PAPER["training"]["lr"])


def test_encoder_and_head(config: RunConfig):
    assert f"ResNet-{config.encoder.depth}" == PAPER["training"]["encoder"]
    assert (config.encoder.width, config.encoder.stem) == (1, "imagenet")
    with torch.device("meta"):
        encoder = build_encoder(config.encoder)
        head = build_head(config.head, encoder.feature_dim)
    assert encoder.feature_dim == 2048
    shapes = [tuple(layer.weight.shape) for layer in head if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(2048, 2048), (128, 2048)]
    assert sum(isinstance(layer, torch.nn.ReLU) for layer in head) == 1
    assert "output 128-d" in PAPER["training"]["projection_head"]


def test_batch_norm_and_bias_take_neither_weight_decay_nor_lars(config: RunConfig):
    with torch.device("meta"):
        optimizer = build_optimizer(config.optimizer, [build_encoder(config.encoder)])
    weights, vectors = optimizer.param_groups
    assert (weights["adapt"], weights["weight_decay"]) == (True, PAPER["training"]["weight_decay"])
    assert (vectors["adapt"], vectors["weight_decay"]) == (False, 0)
    assert weights["momentum"] == 0.9


def test_loss(config: RunConfig):
    best = max(PAPER["table5"]["rows"], key=lambda row: row[-1])
    assert [config.loss.normalize, config.loss.temperature] == best[:2]
    assert config.loss.name == "nt_xent"
    assert (config.loss.negatives, config.loss.mining) == ("both_views", "none")
    pictures = PAPER["training"]["batch_range"][1]
    assert 2 * (pictures - 1) == PAPER["training"]["negatives_at_8192"]


def test_augmentation(config: RunConfig):
    paper, own = PAPER["augmentation"], config.augment
    assert own.transforms == ("crop", "color", "blur")
    assert (own.shared, own.branches) == ((), "both")
    assert config.data.image_size == paper["crop"]["size"]
    assert list(own.crop_area) == paper["crop"]["area"]
    assert own.crop_aspect == pytest.approx(paper["crop"]["aspect"], abs=1e-4)
    assert own.flip_p == paper["flip_p"]
    assert own.color_strength == paper["color_jitter"]["default_s"]
    assert own.color_p == paper["color_jitter"]["p"]
    assert own.gray_p == paper["color_drop_p"]
    assert own.blur_p == paper["blur"]["p"]
    assert list(own.blur_sigma) == paper["blur"]["sigma"]


def test_linear_evaluation(config: RunConfig, linear: LinearConfig):
    paper = PAPER["linear_evaluation"]
    assert linear.protocol == "sgd"
    assert linear.base_lr * linear.batch_size / 256 == pytest.approx(paper["lr"])
    assert linear.base_lr == number(paper["lr_rule"])
    assert linear.batch_size == paper["batch_size"]
    assert linear.epochs == paper["epochs"]
    # Test pictures: the shorter side to 256, the centre of 224.
    assert (config.data.stored_size, config.data.image_size) == (256, 224)


def test_linear_evaluation_has_nesterov_momentum_and_neither_penalty_nor_warm_up(
    linear: LinearConfig, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, Any]] = []
    sgd = torch.optim.SGD

    class Spy(sgd):
        def step(self, *arguments: Any) -> Any:
            seen.append({key: self.param_groups[0][key] for key in ("lr", "momentum", "nesterov", "weight_decay")})
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "SGD", Spy)
    features_ND = torch.randn(linear.batch_size, 3, generator=torch.Generator().manual_seed(0))
    fit_linear(features_ND, (features_ND[:, 0] > 0).long(), 2, linear, seed=0)
    assert len(seen) == PAPER["linear_evaluation"]["epochs"]
    assert seen[0] == {"lr": pytest.approx(1.6), "momentum": 0.9, "nesterov": True, "weight_decay": 0}
    lr_S = [step["lr"] for step in seen]
    assert lr_S == sorted(lr_S, reverse=True)


def test_fine_tuning():
    paper = PAPER["fine_tuning_semi_supervised"]
    (asked,) = request.read(["study=semi_supervised", "scale=imagenet", "data=image_folder"])
    run = expand(asked, INFO).cells[0].runs[0]
    for name, share, label in (("finetune_1", 0.01, "1%"), ("finetune_10", 0.1, "10%")):
        config = FinetuneConfig(**without_kind(run.evaluations[name]))
        assert config.labels == share
        assert config.epochs == paper["epochs"][label]
        assert config.base_lr == number(paper["lr_rule"])
        assert config.batch_size == paper["batch_size"]
        assert config.base_lr * config.batch_size / 256 == pytest.approx(paper["lr"])
        assert config.labelled(PICTURES) / 1000 == pytest.approx(12.8 if share == 0.01 else 128, abs=0.2)


def noisy_picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).resize((330, 270)).save(file)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture folder as ImageNet is laid out: 2 classes, 4 training and 4 validation pictures of 330 x 270."""
    root = tmp_path_factory.mktemp("small imagenet")
    for seed in range(8):
        split = "train" if seed < 4 else "val"
        noisy_picture(root / split / f"n0{seed % 2}" / f"{seed}.jpg", seed)
    return root


@pytest.fixture(scope="module")
def finished(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, dict[str, Any]]:
    """A run of the paper's recipe on those pictures, two steps long, with its evaluations."""
    folder = tmp_path_factory.mktemp("paper scale")
    changes = ["train.batch_size=2", "train.epochs=1", "machine.log_steps=1"]
    changes += ["evaluate.linear.epochs=1", "evaluate.finetune.epochs=1", "evaluate.finetune.batch_size=4"]
    (folder / "study").mkdir()
    (folder / "study" / "own.yaml").write_text(OWN_STUDY)
    arguments = ["study=own", "scale=imagenet", "data=image_folder", f"data.root={tree}", f"output_dir={folder}"]
    (asked,) = request.read([*arguments, *changes], [folder])
    run = expand(asked, data.inspect(data_config(asked))).cells[0].runs[0]
    directory = RunDirectory.create(asked.runs, run.config)
    outcome = execute(directory, run.evaluations, {})
    assert outcome.outcome == "done", outcome
    return directory, {name: directory.evaluation(identity) for name, identity in run.evaluation_ids.items()}


def test_a_resnet_50_takes_two_real_steps_at_224_pixels(finished):
    directory, _ = finished
    result = directory.result()
    assert result["steps"] == 2
    assert math.isfinite(result["metrics"]["loss"])
    # Table 6 prints 24 million parameters, with the classifier; the encoder alone has 23.5.
    assert 23.4e6 < result["parameters"] < 23.6e6
    lines = [json.loads(line) for line in directory.journal_file.read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    # Warm-up ends with the only epoch: half the peak of 0.3 * 2/256 at the second of two steps.
    assert [step["lr"] for step in steps] == [0, pytest.approx(0.3 * 2 / 256 / 2)]
    torch.manual_seed(0)
    fresh = build_encoder(directory.config().encoder).state_dict()
    trained = safetensors.torch.load_file(directory.encoder_file)
    assert trained["conv1.weight"].shape == (64, 3, 7, 7)
    assert not torch.equal(fresh["layer4.2.conv3.weight"], trained["layer4.2.conv3.weight"])


def test_a_linear_evaluation_step(finished):
    _, records = finished
    assert records["linear"]["kind"] == "linear"
    assert records["linear"]["config"]["protocol"] == "sgd"
    assert records["linear"]["n"] == 4
    assert records["linear"]["metrics"]["top1"] in (0, 25, 50, 75, 100)


def test_a_fine_tuning_step(finished):
    _, records = finished
    assert records["finetune_all"]["kind"] == "finetune"
    assert records["finetune_all"]["config"]["batch_size"] == 4
    assert records["finetune_all"]["n"] == 4
    assert records["finetune_all"]["metrics"]["top1"] in (0, 25, 50, 75, 100)
