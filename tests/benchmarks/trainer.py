"""The training step against its bare parts: `python -m tests.benchmarks.trainer [data.root=DIR ...]`.

The bare step is forward, loss, backward and optimizer step of the same model on views that are ready. The
full step is what the training loop does: fetch pictures, draw, augment, the bare step, logging and
checkpoints. The two take turns in one process, so that a noisy machine disturbs both alike.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from core import data
from core.config import RunConfig
from core.loss import contrastive_loss
from core.rundir import RunDirectory
from core.train import Stopped, Training
from sweeps.grid import data_config, expand
from sweeps.request import read

ROUNDS = 5
"""Epochs of each kind, in turns."""


def bare_step(training: Training) -> Callable[[], None]:
    """Forward, loss, backward and optimizer step on ready views."""
    config = training.config
    x_NCHW = training.pictures.batch(training.indices(0))
    draws = training.augmenter.draw(len(x_NCHW), config.seed, 0)
    views_NCHW = training.augmenter.two_views(x_NCHW, draws)

    def step() -> None:
        loss = contrastive_loss(config.loss, *training.model(views_NCHW).chunk(2)).loss
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        training.optimizer.step()

    return step


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        (request,) = read(["study=augment_pairs", f"output_dir={name}", "train.epochs=100000", *sys.argv[1:]])
        grid = expand(request, data.inspect(data_config(request)))
        print("training step over bare step, 1 thread; median (least to most) of the ratio over epochs")
        for values in (("crop", "color"), ("blur", "rotate"), ("sobel", "noise")):
            cell = next(cell for cell in grid.cells if tuple(cell.values.values()) == values)
            config = cell.runs[0].config
            ratios = compare(config, Path(name))
            middle = statistics.median(ratios)
            print(f"{' + '.join(values):16} {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), n={ROUNDS}")


def compare(config: RunConfig, folder: Path) -> list[float]:
    """Ratio of full to bare steps, per round of one epoch."""
    data.prepare(config.data, None)
    training = Training(config, RunDirectory.create(folder, config))
    training.model.train()
    bare = bare_step(training)
    ratios = []
    for round_ in range(ROUNDS + 1):
        begin = time.perf_counter()
        for _ in range(training.steps_per_epoch):
            bare()
        between = time.perf_counter()
        epoch_end = training.progress.step + training.steps_per_epoch
        with contextlib.suppress(Stopped):
            training.run(lambda epoch_end=epoch_end: training.progress.step >= epoch_end)
        end = time.perf_counter()
        if round_ > 0:  # the first round warms up
            ratios.append((end - between) / (between - begin))
    training.journal.close()
    return ratios


if __name__ == "__main__":
    main()
