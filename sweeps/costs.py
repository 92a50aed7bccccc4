"""What a plan will cost, from finished runs where there are any, and the text of `action=plan`."""

import heapq
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from rich.console import Console

from core.config import RunConfig, as_dict
from core.cost import multiply_adds
from core.data import DatasetInfo
from core.errors import UserError
from core.rundir import RunDirectory
from sweeps.grid import Grid
from sweeps.plan import Plan, evaluation_work, grid_disk_bytes, samples, work, work_on
from sweeps.planned import PlannedRun
from sweeps.progress import cell_name, duration

LOOKED_AT = 50
"""Finished runs from which a speed is taken; more would only slow the plan down."""
LIKE_SHAPE = 10
"""The same of other studies' runs."""
CPU_SPEED = 30e9
"""Multiply-adds per second of one CPU thread on a small ResNet, forward and backward; only used while
no finished run tells this machine's own speed."""
GPU_SPEED = 938 * 3 * multiply_adds(RunConfig().encoder, 224)
"""The same of one A100: NVIDIA publishes 938 pictures/s for training a ResNet-50 in TF32 (docs/paper-scale.md)."""
STEP_SECONDS = 0.008
"""What a step takes on a CPU however few pictures are in it: views, optimizer, starting operations. On a GPU that goes
on beside its multiply-adds."""
STARTUP_SECONDS = 0.2
"""What the first steps of a training take longer than the others, as memory and kernels are set up for them."""
SWEEP_SECONDS = 20.0
"""Importing torch, making or opening the data set, and the report; once, however many runs there are."""


@dataclass(frozen=True)
class Speed:
    """How fast one worker is; the model behind every estimate of time."""

    runs: Path
    info: DatasetInfo
    multiply_adds: float
    """Per second of training."""
    evaluations: Mapping[str, float]
    """Seconds of an evaluation by kind, as far as finished runs have had one."""
    step: float
    """Seconds of a step beside its multiply-adds."""
    is_measured: bool
    """Whether it is that of this study's own runs."""
    basis: str
    """Where the speed is from, in words."""

    @classmethod
    def of(
        cls, runs: Path, done: Iterable[PlannedRun], info: DatasetInfo, on_gpu: bool, like: RunConfig | None = None
    ) -> "Speed":
        """From the finished runs among `done` on the same kind of device; without any, from those of other studies
        that are shaped as `like`; assumed where there is none either.
        """
        step = 0.0 if on_gpu else STEP_SECONDS
        total_work = total_seconds = 0.0
        evaluations: dict[str, list[float]] = {}
        for run in list(done)[:LOOKED_AT]:
            directory = RunDirectory(runs, run.id)
            result = directory.result()
            if result and (seconds := _training_seconds(result, on_gpu)):
                total_work += work(run.config, info.train_count)
                total_seconds += _of_work(seconds, result["steps"] * step)
            for name, identity in run.evaluation_ids.items():
                record = directory.evaluation(identity)
                if record and _was_on_gpu(record) == on_gpu:
                    evaluations.setdefault(run.evaluations[name]["kind"], []).append(record["seconds"])
        is_measured = bool(total_seconds)
        basis = "speed of the finished runs"
        if not total_seconds and like:
            basis = "speed of finished runs with the same encoder"
            for result in islice(_of_like_shape(runs, like, on_gpu), LIKE_SHAPE):
                total_work += work_on(like, result["samples"])
                total_seconds += _of_work(_training_seconds(result, on_gpu), result["steps"] * step)
        means = {kind: fmean(seconds) for kind, seconds in evaluations.items()}
        speed = total_work / total_seconds if total_seconds else GPU_SPEED if on_gpu else CPU_SPEED
        if not total_seconds:
            basis = f"{speed / 1e9:,.0f} GMAC/s per worker assumed"
        return cls(runs, info, speed, means, step, is_measured, basis)

    def training(self, run: PlannedRun) -> float:
        """Seconds of a training."""
        seen = samples(run.config, self.info.train_count)
        steps = seen // run.config.train.batch_size
        return work_on(run.config, seen) / self.multiply_adds + steps * self.step + STARTUP_SECONDS

    def evaluating(self, run: PlannedRun, names: Iterable[str]) -> float:
        """Seconds of some of a run's evaluations."""
        trees = [run.evaluations[name] for name in names]
        seen = sum(self.evaluations.get(tree["kind"], 0.0) for tree in trees)
        unseen = [tree for tree in trees if tree["kind"] not in self.evaluations]
        return seen + evaluation_work(run.config, unseen, self.info) / self.multiply_adds

    def of_plan(self, plan: Plan, workers: int = 1) -> float:
        """Seconds until the last of the workers is done, each of which takes the next run when it has none."""
        busy_until = [0.0] * workers
        for seconds in self._of_runs(plan):
            heapq.heapreplace(busy_until, busy_until[0] + seconds)
        return max(busy_until)

    def _of_runs(self, plan: Plan) -> Iterator[float]:
        """Seconds of each run, in the order in which they begin."""
        for run in plan.evaluate:
            yield self.evaluating(run, self._missing(run))
        for run in plan.train:
            yield self.training(run) + self.evaluating(run, run.evaluations)

    def _missing(self, run: PlannedRun) -> list[str]:
        """The evaluations that a trained run lacks."""
        directory = RunDirectory(self.runs, run.id)
        return [name for name, id_ in run.evaluation_ids.items() if not directory.evaluation_file(id_).exists()]


def _of_like_shape(runs: Path, like: RunConfig, on_gpu: bool) -> Iterator[dict[str, Any]]:
    """The results of trainings with the same encoder, picture size and objective on this kind of device.

    A few run directories are looked at, as text: parsing takes long, and damage in another study is not told here.
    """
    encoder = yaml.safe_dump({"encoder": as_dict(like.encoder)}, sort_keys=False)
    words = (encoder, f"  image_size: {like.data.image_size}\n", f"  objective: {like.train.objective}\n")
    there = os.listdir(runs) if runs.exists() else []
    for run in there[: 4 * LOOKED_AT]:
        directory = RunDirectory(runs, run)
        with suppress(OSError, ValueError, KeyError, TypeError):
            text = directory.config_file.read_text()
            result = directory.result() if all(word in text for word in words) else None
            if result and result["samples"] and _training_seconds(result, on_gpu):
                yield result


def _training_seconds(result: Mapping[str, Any], on_gpu: bool) -> float:
    """Of a training on this kind of device; 0 where there was none."""
    if not result["steps"] or _was_on_gpu(result) != on_gpu:
        return 0.0
    # What waiting for pictures costs counts too; earlier versions did not record it.
    return result.get("seconds", result["compute_seconds"])


def _of_work(seconds: float, fixed: float) -> float:
    """Those of a training's seconds that its multiply-adds take; `fixed`: what its steps take beside them."""
    return max(seconds - fixed - STARTUP_SECONDS, seconds / 10)


def _was_on_gpu(record: Mapping[str, Any]) -> bool:
    return record["environment"]["device"] != "cpu"


def estimate(plan: Plan, speed: Speed, workers: int) -> str:
    """How long a plan will take here, in words."""
    seconds = speed.of_plan(plan, max(1, workers)) + (SWEEP_SECONDS if plan.to_do else 0)
    return f"estimated {duration(seconds)} on {workers} worker{'s' * (workers != 1)} ({speed.basis})"


def show(grid: Grid, plan: Plan, speed: Speed, workers: int, console: Console) -> None:
    """Print what `action=run` would do: cells, runs, reused runs, estimated time and disk."""
    request = grid.request
    first = grid.config
    console.print(f"[bold]{request.study.name}[/]: {request.study.title}")
    console.print(
        f"scale {request.scale.name}, data {first.data.name} ({grid.info.train_count:,} training and "
        f"{grid.info.test_count:,} test pictures, {first.data.image_size} pixels), seeds {list(request.seeds)}"
    )
    show_left_out(grid.info, console)
    for entry in grid.mapped:
        console.print(f"{entry['key']}: {entry['paper']} in the paper, {entry['own']} here")
    if request.changes:
        console.print(f"changed on the command line: {' '.join(request.changes)}", markup=False)
    console.print(
        f"{len(grid.cells)} cells and {len(grid.references)} references, {len(grid.runs())} runs: "
        f"{len(plan.train)} to train, {len(plan.evaluate)} to evaluate only, {len(plan.done)} reused, "
        f"{len(plan.running)} running elsewhere, {len(plan.queued)} queued, {len(plan.hopeless)} diverged before"
    )
    console.print(f"{estimate(plan, speed, workers)}, {grid_disk_bytes(grid, plan) / 1e6:,.0f} MB of disk")
    for cell in (*grid.references, *grid.cells):  # not through the console, which takes seconds for many cells
        console.file.write(f"  {cell_name(cell, grid):24} {' '.join(run.id for run in cell.runs)}\n")


def show_left_out(info: DatasetInfo, console: Console) -> None:
    """Print what of the user's files is in no run."""
    if info.bad:
        console.print(f"{len(info.bad)} picture(s) that cannot be decoded are skipped")
    if info.others:
        console.print(f"files not used, as no pictures by their ending: {', '.join(info.others)}", markup=False)


def check_disk(grid: Grid, plan: Plan) -> None:
    """Raises: UserError if what the plan will write does not fit on the disk."""
    output = grid.request.output
    needed, free = grid_disk_bytes(grid, plan), shutil.disk_usage(output).free
    if needed > free:
        raise UserError(
            f"output_dir={output}: the study needs about {needed / 1e6:,.0f} MB and the disk has "
            f"{free / 1e6:,.0f} MB free"
        )
