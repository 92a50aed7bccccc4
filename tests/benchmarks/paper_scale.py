"""What every study costs at the paper's own scale: `python -m tests.benchmarks.paper_scale`.

Prints the table of docs/paper-scale.md, from the grids that a plan makes, for pictures that need not be there. The
model is the page's: multiply-adds of training and evaluating over a published speed of one GPU.
"""

from dataclasses import replace
from functools import cache

from core.data import DatasetInfo
from sweeps import request
from sweeps.costs import GPU_SPEED
from sweeps.grid import Grid, expand
from sweeps.plan import disk_bytes, evaluation_work, work
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


@cache
def grid_of(study: str) -> Grid:
    data = "cifar10" if study.startswith("cifar10") else "image_folder"
    (asked,) = request.read([f"study={study}", "scale=imagenet", f"data={data}"])
    return expand(asked, CIFAR10 if data == "cifar10" else IMAGENET)


def line(name: str, cells: str, runs: dict[str, PlannedRun], infos: dict[str, DatasetInfo]) -> str:
    trainings = [work(run.config, infos[key].train_count) for key, run in runs.items()]
    evaluating = sum(evaluation_work(run.config, run.evaluations.values(), infos[key]) for key, run in runs.items())
    hours = [amount / GPU_SPEED / 3600 for amount in (sum(trainings), max(trainings), evaluating)]
    disk = sum(disk_bytes(run.config) for run in runs.values()) / 1e9
    return f"| {name} | {cells} | {len(runs)} | {' | '.join(f'{number:,.0f}' for number in hours)} | {disk:,.1f} |"


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
