"""What every study costs at the paper's own scale: `python -m tests.benchmarks.paper_scale`.

Prints the table of docs/paper-scale.md, from the grids that a plan makes, for pictures that need not be there. The
model is the page's: multiply-adds of training and evaluating over a published speed of one GPU.
"""

from dataclasses import replace
from functools import cache

from core.config import RunConfig
from core.cost import multiply_adds
from core.data import DatasetInfo
from sweeps import request
from sweeps.grid import Grid, expand
from sweeps.plan import disk_bytes, work
from sweeps.planned import PlannedRun, merged

IMAGENET = DatasetInfo(
    train_count=1_281_167,
    test_count=50_000,
    classes=tuple(map(str, range(1000))),
    fingerprint="imagenet",
    bytes=0,
    cached=True,
    streamed=True,
    bad=(),
)
CIFAR10 = replace(
    IMAGENET, train_count=50_000, test_count=10_000, classes=tuple(map(str, range(10))), fingerprint="cifar10"
)
PUBLISHED_PICTURES_PER_SECOND = 938
"""Training a ResNet-50 on one A100 in TF32, by NVIDIA (see the page)."""
GPU = PUBLISHED_PICTURES_PER_SECOND * 3 * multiply_adds(RunConfig().encoder, 224)
"""Multiply-adds per second."""


@cache
def grid_of(study: str) -> Grid:
    data = "cifar10" if study.startswith("cifar10") else "image_folder"
    (asked,) = request.read([f"study={study}", "scale=imagenet", f"data={data}"])
    return expand(asked, CIFAR10 if data == "cifar10" else IMAGENET)


def evaluation_work(run: PlannedRun, info: DatasetInfo) -> float:
    """Multiply-adds of the evaluations that need the encoder: one pass over the pictures for all that read features."""
    forward = multiply_adds(run.config.encoder, run.config.data.image_size)
    passes = 0.0
    kinds = {tree["kind"] for tree in run.evaluations.values()}
    if kinds & {"linear", "knn"}:
        passes += info.train_count + info.test_count
    for tree in run.evaluations.values():
        if tree["kind"] == "finetune":
            passes += 3 * tree["labels"] * info.train_count * tree["epochs"] + info.test_count
        elif tree["kind"] == "probe":
            passes += 2 * min(tree["pictures"] or info.train_count, info.train_count)
        elif tree["kind"] == "transfer" and tree["protocol"] == "finetune":
            steps = tree["steps"] if run.config.train.epochs else tree["scratch_steps"]
            tried = tree["lr_values"] * tree["weight_decay_values"] + 1  # and once more with the best
            passes += 3 * tried * steps * tree["batch_size"]
    return forward * passes


def line(name: str, cells: str, runs: dict[str, PlannedRun], infos: dict[str, DatasetInfo]) -> str:
    training = sum(work(run.config, infos[key].train_count) for key, run in runs.items()) / GPU / 3600
    evaluating = sum(evaluation_work(run, infos[key]) for key, run in runs.items()) / GPU / 3600
    longest = max(work(run.config, infos[key].train_count) for key, run in runs.items()) / GPU / 3600
    disk = sum(disk_bytes(run.config) for run in runs.values()) / 1e9
    return f"| {name} | {cells} | {len(runs)} | {training:,.0f} | {longest:,.0f} | {evaluating:,.0f} | {disk:,.1f} |"


def main() -> None:
    print("| study | cells | runs | GPU hours, training | longest run | GPU hours, evaluating | disk, GB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    grids = [grid_of(name) for name in request.study_names()]
    infos = {key: grid.info for grid in grids for key in grid.runs()}
    for grid in grids:
        print(line(grid.request.study.name, str(len(grid.cells)), grid.runs(), infos))
    everything = merged(run for grid in grids for run in grid.runs().values())
    print(line("**all, shared runs once**", "", everything, infos))
    asked = sum(len(grid.runs()) for grid in grids)
    print(f"\n{asked} runs asked for, {len(everything)} different: {1 - len(everything) / asked:.0%} shared")


if __name__ == "__main__":
    main()
