"""How near a training step is to its limit: the full step against its bare parts, those against the machine's peak.

Bare is forward, loss, backward and optimizer step on views that are ready; full is what the training loop does. The
peak is a product of two large matrices on the same one thread. Multiply-adds are the nominal ones of the layers
(core/cost.py), three times the forward pass, less the gradient of the pictures, which nobody needs.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from core import cost, data
from core.config import RunConfig
from core.rundir import RunDirectory
from core.train import Training
from sweeps.grid import data_config, expand
from sweeps.request import read
from tests.benchmarks.measure import Line, compare
from tests.benchmarks.trainer import bare_step, full_steps

SIDE = 1024
STEPS = 16
"""Of a turn: short, as the speed of a shared machine changes from second to second."""


def lines(quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    recipes = [("crop", "color")] if quick else [("crop", "color"), ("blur", "rotate"), ("sobel", "noise")]
    with tempfile.TemporaryDirectory() as name:
        (request,) = read(
            [
                "study=augment_pairs",
                f"output_dir={name}",
                "train.epochs=100000",
            ]
        )
        grid = expand(request, data.inspect(data_config(request)))
        for number, recipe in enumerate(recipes):
            cell = next(cell for cell in grid.cells if tuple(cell.values.values()) == recipe)
            yield from _steps(cell.runs[0].config, Path(name), 12 if quick else 28, layers=number == 0)


def _steps(config: RunConfig, folder: Path, rounds: int, layers: bool) -> Iterator[Line]:
    data.prepare(config.data, None)
    training = Training(config, RunDirectory.create(folder, config))
    training.model.train()
    bare = bare_step(training)

    def bare_steps() -> float:
        for _ in range(STEPS):
            bare()
        return STEPS * config.train.batch_size

    case = f"step, {' + '.join(config.augment.transforms)}"
    ours, other = compare(
        "limit", case, "images/s", {"ours": full_steps(training, STEPS), "bare step": bare_steps}, rounds
    )
    yield ours
    yield replace(other, note="ours is full over bare; 0.95 is the aim")
    if layers:
        yield from _against_the_peak(training, rounds)
    training.close()


def _against_the_peak(training: Training, rounds: int) -> Iterator[Line]:
    """Bare step, and each convolution alone, in multiply-adds per second beside a large matrix product."""
    config = training.config
    left, right = torch.randn(2, SIDE, SIDE).unbind()
    pictures = 2 * config.train.batch_size
    stem_share = _stem_multiply_adds(training.model.encoder, config.data.image_size)
    nominal = pictures * (3 * cost.multiply_adds(config.encoder, config.data.image_size) - stem_share)
    bare = bare_step(training)

    def product() -> float:
        left @ right
        return SIDE**3 / 1e9

    def step() -> float:
        bare()
        return nominal / 1e9

    contenders = {"ours": step, "matrix product": product}
    for line in compare("limit", "bare step", "G multiply-adds/s", contenders, rounds, 0.3):
        yield replace(line, note="ours is bare step over peak") if line.ratios else line
    peak = SIDE**3 / 1e9 / _seconds(product, 5)
    total = 0.0
    for name, x_NCHW, layer in _convolutions(training, pictures):
        needs = [x_NCHW.requires_grad_(name != "conv1"), layer.weight]
        slope_NCHW = torch.ones_like(layer(x_NCHW))

        def both(layer=layer, x_NCHW=x_NCHW, slope_NCHW=slope_NCHW, needs=needs) -> None:
            torch.autograd.grad(layer(x_NCHW), [x for x in needs if x.requires_grad], slope_NCHW)

        seconds = _seconds(both, rounds)
        total += seconds
        work = (3 if name != "conv1" else 2) * slope_NCHW[0].numel() * layer.weight[0].numel() * pictures / 1e9
        note = f"{seconds * 1e3:.2f} ms of CPU, {work / seconds / peak:.2f} of the peak"
        yield Line("limit", f"layer {name}", "forward and backward", "G multiply-adds/s", (work / seconds,), note=note)
    whole = _seconds(bare, rounds)
    note = f"{(whole - total) * 1e3:.1f} of {whole * 1e3:.1f} ms of CPU: norms, ReLU, pooling, head, loss, optimizer"
    yield Line("limit", "all else in a bare step", "", "share", (1 - total / whole,), note=note)


def _convolutions(training: Training, pictures: int) -> Iterator[tuple[str, Tensor, nn.Conv2d]]:
    """Every convolution with an input like that of a step."""
    seen: list[tuple[str, Tensor, nn.Conv2d]] = []
    layers = {name: part for name, part in training.model.encoder.named_modules() if isinstance(part, nn.Conv2d)}
    handles = [
        layer.register_forward_hook(lambda part, inputs, _, name=name: seen.append((name, inputs[0].detach(), part)))
        for name, layer in layers.items()
    ]
    side = training.config.data.image_size
    training.model(torch.rand(pictures, 3, side, side).contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    yield from seen


def _stem_multiply_adds(encoder: nn.Module, image_size: int) -> int:
    stem = encoder.conv1
    with torch.no_grad():
        return stem(torch.zeros(1, 3, image_size, image_size))[0].numel() * stem.weight[0].numel()


def _seconds(function, repeats: int) -> float:
    """Median processor time of one call."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return statistics.median(times)
