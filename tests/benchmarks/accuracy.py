"""Time to 35% kNN accuracy on CIFAR-10 pictures: ours, ours with SGD, and lightly + Lightning.

The same pictures, encoder, batch and augmentation (crop, flip, colour distortion on both branches). lightly is as its
documentation has it: SGD at a constant rate of 0.06, its loss's temperature and head. Ours is the recipe of `mini`, and
the same with SGD at a peak rate of 0.06, warm-up and cosine kept. Accuracy is looked at every few steps, by the same
function for all; looking does not count, though lightly's workers get ahead meanwhile. Needs the archive of CIFAR-10
pictures in ../shared/data, and says so where it is missing.
"""

import itertools
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as lightning
import torch
from lightly.transforms import SimCLRTransform
from torch import nn
from torch.utils.data import DataLoader

from core import data
from core.config import KnnConfig, RunConfig
from core.features import extract_features
from core.knn import knn_scores
from core.linear import topk_accuracy
from core.rundir import RunDirectory
from core.train import Stopped, Training
from sweeps.grid import data_config, expand
from sweeps.request import read
from tests.benchmarks.augment import Pictures
from tests.benchmarks.end_to_end import SimCLR, quiet_trainer
from tests.benchmarks.measure import ROOT, Contender, Line, Turn, compare, cpu_seconds

ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10-images.tar.xz"
GOAL = 35.0
EVERY = 16
"""Steps between looks."""
MOST_EPOCHS = 20


def lines(quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    case = f"to {GOAL:.0f}% kNN, CIFAR-10 pictures"
    if not ARCHIVE.exists():
        yield Line("accuracy", case, "none", "", (), note=f"not measured: {ARCHIVE.name} is not there")
        return
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(Path(name) / "pictures")
        config = config_of(Path(name))
        as_lightly = replace(
            config.optimizer, name="sgd", base_lr=0.06, lr_scaling="none", momentum=0.0, weight_decay=0.0
        )
        contenders = {
            "lightly + Lightning": by_lightly(config),
            "ours, with SGD": by_ours(replace(config, optimizer=as_lightly), Path(name)),
            "ours": by_ours(config, Path(name)),
        }
        for line in compare("accuracy", case, "times/s", contenders, 1 if quick else 3, warm=True):
            seconds = ", ".join(f"{1 / value:.1f} s" for value in line.values)
            yield replace(line, note=seconds)


def config_of(folder: Path) -> RunConfig:
    """The standard recipe of `mini`, long enough."""
    words = ["study=recipe", "train.objective=contrastive", "data=image_folder", f"data.root={folder / 'pictures'}"]
    (request,) = read([*words, f"output_dir={folder}", "data.test_size=2000", f"train.epochs={MOST_EPOCHS}"])
    data.prepare(data_config(request), None)
    return expand(request, data.inspect(data_config(request))).cells[0].runs[0].config


class Watch:
    """Stops the clock while it looks whether an encoder is good enough."""

    def __init__(self, config: RunConfig):
        self.train, self.test = (data.load(config.data, split) for split in ("train", "test"))
        self.image_size = config.data.image_size
        self.looking = (0.0, 0.0)
        self.began = _now()

    def sees(self, encoder: nn.Module) -> bool:
        """Whether kNN accuracy is GOAL or more."""
        begin = _now()
        train_ND, test_ND = (
            extract_features(encoder, part, self.image_size, "cpu") for part in (self.train, self.test)
        )
        scores_NC = knn_scores(train_ND, self.train.labels_N, test_ND, len(self.train.classes), KnnConfig())
        reached = topk_accuracy(scores_NC, self.test.labels_N)["top1"] >= GOAL
        self.looking = _plus(self.looking, _since(begin))
        return reached

    def turn(self) -> Turn:
        wall, cpu = (spent - looked for spent, looked in zip(_since(self.began), self.looking, strict=True))
        return Turn(1, wall, cpu)


def by_ours(config: RunConfig, folder: Path) -> Contender:
    names = itertools.count()

    def run() -> Turn:
        training = Training(config, RunDirectory.create(folder / f"run{next(names)}", config))
        watch = Watch(config)

        def enough() -> bool:
            step = training.progress.step + 1  # of the one just made
            return step % EVERY == 0 and watch.sees(training.model.encoder)

        try:
            training.run(enough)
        except Stopped:
            return watch.turn()
        finally:
            training.close()
        raise RuntimeError(f"ours did not reach {GOAL}% in {MOST_EPOCHS} epochs")

    return run


class Look(lightning.Callback):
    def __init__(self, config: RunConfig):
        self.config = config

    def on_train_start(self, trainer, module) -> None:
        self.watch = Watch(self.config)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index: int) -> None:
        if trainer.global_step % EVERY == 0 and self.watch.sees(module.backbone):
            trainer.should_stop = True


def by_lightly(config: RunConfig) -> Contender:
    pictures = data.load(config.data, "train")
    transform = SimCLRTransform(
        input_size=config.data.image_size, cj_strength=config.augment.color_strength, gaussian_blur=0.0
    )
    dataset = Pictures(pictures.batch(torch.arange(len(pictures))), transform)

    def run() -> Turn:
        loader = DataLoader(dataset, config.train.batch_size, shuffle=True, drop_last=True, num_workers=2)
        look = Look(config)
        trainer = quiet_trainer(look, max_epochs=MOST_EPOCHS)
        trainer.fit(SimCLR(config), loader)
        if not trainer.should_stop:
            raise RuntimeError(f"lightly did not reach {GOAL}% in {MOST_EPOCHS} epochs")
        return look.watch.turn()

    return run


def _now() -> tuple[float, float]:
    return time.perf_counter(), cpu_seconds()


def _since(begin: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = _now()
    return wall - begin[0], cpu - begin[1]


def _plus(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return first[0] + second[0], first[1] + second[1]
