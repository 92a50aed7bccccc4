"""The first step of two gloo processes against one process: `python -m tests.benchmarks.distributed [scale=mini]`.

Prints the relative differences of the loss and of the gradients (by norm, over all weights and the largest of any
tensor) in single and in double precision, and how far each is from double precision. Rounding puts
a few units on the other side of their ReLU, which a gradient in single precision shows.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import core.train
from core import data
from core.config import RunConfig
from core.loss import contrastive_loss
from core.rundir import RunDirectory
from core.train import Training
from sweeps.grid import data_config, expand
from sweeps.request import read


@contextmanager
def patched_model(dtype: torch.dtype) -> Iterator[None]:
    """Models are made in `dtype`, from the initial weights that they have in single precision."""
    own = core.train.Model
    core.train.Model = lambda *arguments: own(*arguments).to(dtype)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        core.train.Model = own  # type: ignore[misc]


def first_step(config: RunConfig, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Loss and gradients of the first training step, before any weight changes."""
    with patched_model(dtype):
        training = Training(config, RunDirectory.create(folder, config))
    training.model.train()
    x_NCHW = training.pictures.batch(training.indices(0))
    draws = training.augmenter.draw(config.train.batch_size, config.seed, 0)
    draws = draws.slice(training.own_start, training.own_start + training.own_count)
    views = training.augmenter.two_views(x_NCHW, draws).to(dtype)
    result = contrastive_loss(config.loss, *training.shared_model(views).chunk(2))
    result.loss.backward()
    training.close()
    named = training.model.named_parameters()
    gradients = {name: weight.grad.double() for name, weight in named if weight.grad is not None}
    return {"loss": result.loss.item(), "negatives": result.negatives, "gradients": gradients}


def _rank(rank: int, config: RunConfig, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for dtype in (torch.float32, torch.float64):
        torch.save(first_step(config, folder / f"{rank}", dtype), folder / f"{rank}.{dtype}.pt")
    dist.barrier()  # a process that leaves while the other still speaks to it may abort
    dist.destroy_process_group()


def compare(config: RunConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """The first step by one and by two processes, in single and in double precision."""
    mp.spawn(_rank, args=(config, folder), nprocs=2)
    steps = {}
    for name, dtype in {"single": torch.float32, "double": torch.float64}.items():
        steps[f"one {name}"] = first_step(config, folder / "one", dtype)
        steps[f"two {name}"] = torch.load(folder / f"0.{dtype}.pt", weights_only=True)
    return steps


def differences(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """Relative difference of the losses, of all gradients together, and of the gradient that differs most."""
    pairs = [(other["gradients"][name], gradient) for name, gradient in one["gradients"].items()]
    each = [((a - b).norm() / b.norm()).item() for a, b in pairs]
    whole = sum((a - b).norm() ** 2 for a, b in pairs) / sum(b.norm() ** 2 for _, b in pairs)
    return abs(other["loss"] - one["loss"]) / one["loss"], float(whole) ** 0.5, max(each)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        (request,) = read(["study=recipe", f"output_dir={name}", *sys.argv[1:]])
        grid = expand(request, data.inspect(data_config(request)))
        config = grid.cells[0].runs[0].config
        data.prepare(config.data, None)
        steps = compare(config, Path(name))
    print(f"batch {config.train.batch_size}: {steps['two single']['negatives']} negatives per anchor")
    for first, second in (
        ("one single", "two single"),
        ("one double", "two double"),
        ("one double", "one single"),
        ("one double", "two single"),
    ):
        loss, whole, worst = differences(steps[first], steps[second])
        print(f"{second} against {first}: loss {loss:.1e}, gradient {whole:.1e}, worst tensor {worst:.1e}")


if __name__ == "__main__":
    main()
