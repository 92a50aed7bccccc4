"""Images per second of a SimCLR pretraining with ours and with lightly + Lightning, same encoder, batch and recipe.

Ours is the training loop with all that it does beside (journal, checkpoints). lightly's is the example of its
documentation: its transform in a DataLoader of two worker processes, its projection head and loss, Lightning's
trainer. Each has two cores: ours for two runs at once with one thread each, as a sweep trains, and for comparison
with one such run alone. lightly's main process trains on one thread and its workers share the rest, which fills both
cores, so two of it at once would not get more done. The first steps, in which workers start and fill their queue, do
not count.
"""

import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytorch_lightning as lightning
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models.resnet import BasicBlock, ResNet

from core import cost
from core.config import RunConfig, run_config, unflatten
from core.rundir import RunDirectory
from core.train import Training
from tests.benchmarks.augment import Pictures
from tests.benchmarks.measure import Contender, Line, Turn, compare, cpu_seconds
from tests.benchmarks.trainer import full_steps

COMMON = {
    "data.image_size": 32,
    "data.stored_size": 32,
    "augment.color_strength": 0.5,
    "optimizer.name": "sgd",
    "optimizer.base_lr": 0.1,
    "optimizer.lr_scaling": "none",
    "train.epochs": 100000,
}
SMALL = {"encoder.depth": 10, "encoder.width": 0.25, "encoder.stem": "imagenet", "train.batch_size": 128}
RESNET18 = {"encoder.depth": 18, "encoder.stem": "cifar", "train.batch_size": 16}


def lines(quick: bool) -> Iterator[Line]:
    """The small encoder of `mini`; and ResNet-18 with the CIFAR stem, where arithmetic is nearly all there is."""
    torch.set_num_threads(1)
    cases = {"small encoder": (SMALL, 8 if quick else 24)}
    if not quick:
        cases["ResNet-18, CIFAR stem"] = (RESNET18, 2)
    for case, (settings, steps) in cases.items():
        with tempfile.TemporaryDirectory() as name:
            size = {"data.train_size": 8 * settings["train.batch_size"], "data.test_size": 64}
            config = run_config(unflatten({**COMMON, **settings, **size, "data.cache_dir": f"{name}/data"}))
            training = Training(config, RunDirectory.create(Path(name) / "runs", config))
            training.model.train()
            with two_runs(config, Path(name), steps) as ours:
                contenders = {
                    "lightly + Lightning": by_lightly(training, steps),
                    "ours, one run": full_steps(training, steps),
                    "ours": ours,
                }
                yield from compare("end_to_end", f"{case}, batch {config.train.batch_size}", "images/s", contenders, 3)
            training.close()


@contextlib.contextmanager
def two_runs(config: RunConfig, folder: Path, steps: int) -> Iterator[Contender]:
    """A contender that makes `steps` steps in each of two processes at once."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, _begin, (config, folder, spawn.Barrier(2))) as pool:
        yield lambda: sum(pool.map(_train, [steps, steps]))


def _begin(config: RunConfig, folder: Path, both: Barrier) -> None:
    """In each of the two processes: a training of its own, kept for all turns."""
    global _training, _both
    torch.set_num_threads(1)
    _training = Training(config, RunDirectory.create(Path(tempfile.mkdtemp(dir=folder)), config))
    _training.model.train()
    _both = both


def _train(steps: int) -> float:
    _both.wait(timeout=300)  # or one process could take both parts
    return full_steps(_training, steps)()


class SimCLR(lightning.LightningModule):
    """As in lightly's documentation, with an encoder of the same layers as ours."""

    def __init__(self, config: RunConfig):
        super().__init__()
        self.backbone = torchvision_resnet(config)
        features = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()
        self.projection_head = SimCLRProjectionHead(features, features, 128)
        self.criterion = NTXentLoss()

    def training_step(self, batch: tuple, batch_index: int) -> torch.Tensor:
        one, two = batch
        return self.criterion(*(self.projection_head(self.backbone(view)) for view in (one, two)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.06)


def torchvision_resnet(config: RunConfig) -> ResNet:
    """torchvision's network with the channels, blocks and stem of ours, all in its own layout and order."""
    blocks, channels = cost.BLOCKS[config.encoder.depth], cost.stage_channels(config.encoder)
    network = ResNet(BasicBlock, list(blocks))
    if channels[0] != 64:
        inputs = channels[0]
        network.conv1 = nn.Conv2d(3, inputs, 7, 2, 3, bias=False)
        network.bn1 = nn.BatchNorm2d(inputs)
        network.inplanes = inputs
        for number, (outputs, count) in enumerate(zip(channels, blocks, strict=True)):
            stage = network._make_layer(BasicBlock, outputs, count, stride=1 if number == 0 else 2)
            setattr(network, f"layer{number + 1}", stage)
        network.fc = nn.Linear(channels[-1], 10)
    if config.encoder.stem == "cifar":
        network.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network


class Stopwatch(lightning.Callback):
    """Times the steps after the first ones."""

    def __init__(self, first: int):
        self.first = first
        self.began = self.ended = (0.0, 0.0)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index: int) -> None:
        now = (time.perf_counter(), cpu_seconds())
        if trainer.global_step == self.first:
            self.began = now
        self.ended = now


def quiet_trainer(callback: lightning.Callback, max_steps: int = -1, max_epochs: int = -1) -> lightning.Trainer:
    """Lightning's trainer on the CPU without files and bars; -1: no limit."""
    return lightning.Trainer(
        max_steps=max_steps,
        max_epochs=max_epochs,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def by_lightly(training: Training, steps: int) -> Contender:
    config = training.config
    batch = config.train.batch_size
    x_NCHW = training.pictures.batch(torch.arange(len(training.pictures)))
    transform = SimCLRTransform(input_size=config.data.image_size, cj_strength=config.augment.color_strength)
    module = SimCLR(config)
    workers = 2
    ready = 2 + 2 * workers

    def run() -> Turn:
        # More pictures than steps: the workers are to be as busy in the last step as in the first.
        wanted = (ready + steps + 4 * workers) * batch
        dataset = Pictures(x_NCHW.repeat(-(-wanted // len(x_NCHW)), 1, 1, 1)[:wanted], transform)
        loader = DataLoader(dataset, batch, shuffle=True, drop_last=True, num_workers=workers)
        stopwatch = Stopwatch(ready)
        trainer = quiet_trainer(stopwatch, max_steps=ready + steps)
        trainer.fit(module, loader)
        wall, cpu = (end - begin for begin, end in zip(stopwatch.began, stopwatch.ended, strict=True))
        return Turn(steps * batch, wall, cpu)

    return run
