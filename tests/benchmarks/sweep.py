"""A whole study, ours beside a shell loop, Hydra's joblib launcher and the sum of the bare compute.

All train and evaluate the same runs with the same core. The shell loop starts one process per run, with all cores, as
a script does; joblib keeps one process per core. Ours is the command that users type, MLflow and report included.
Bare compute is forward, loss, backward and optimizer step on ready views, for the steps that the runs take,
shared by all cores. `python -m tests.benchmarks.sweep OUTPUT_DIR/reports/STUDY` says it of a finished sweep, and
also with the forward pass of each run's training and test pictures, without which it has no features to evaluate.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from core import data
from core.augment import plain_view
from core.environment import cores
from core.features import frozen
from core.journal import read_lines
from core.rundir import RunDirectory, write_json
from core.train import Training
from reports.manifest import read as read_manifest
from sweeps.grid import data_config, expand
from sweeps.planned import PlannedRun
from sweeps.request import read
from tests.benchmarks.measure import Contender, Line, Turn, compare, timed
from tests.benchmarks.one_run import JOBS_FILE
from tests.benchmarks.trainer import bare_step
from tests.commandline import RUN

ONE_RUN = [sys.executable, "-m", "tests.benchmarks.one_run"]
QUICK = ["augment.transforms.0=crop,color", "augment.transforms.1=crop,color"]
STEPS = 40


def lines(quick: bool) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["study=augment_pairs", f"data.cache_dir={folder / 'data'}", *(QUICK if quick else [])]
        (request,) = read([*words, f"output_dir={folder / 'ours'}"])
        config = data_config(request)
        data.prepare(config, None)
        runs = list(expand(request, data.inspect(config)).runs().values())
        joblib = ["--multirun", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={cores()}"]
        loop = [[f"number={number}"] for number in range(len(runs))]
        ours = [[*RUN, *words, f"output_dir={folder / 'ours'}"]]
        contenders: dict[str, Contender] = {
            "ours": lambda: timed(ours, len(runs), folder),
            "shell loop": lambda: _one_by_one(runs, folder / "loop", loop),
            "Hydra's joblib launcher": lambda: _one_by_one(
                runs, folder / "joblib", [[*joblib, f"number={','.join(map(str, range(len(runs))))}"]]
            ),
            "bare compute": lambda: _bare(folder / "ours" / "reports" / "augment_pairs", len(runs)),
        }
        for line in compare("sweep", f"{len(runs)} runs of mini", "runs/s", contenders, 1, warm=True):
            yield replace(line, note=f"{len(runs) / line.values[0]:.0f} s")


def _one_by_one(runs: Sequence[PlannedRun], folder: Path, calls: Sequence[Sequence[str]]) -> Turn:
    """Calls of the Hydra application, one after another, on run directories that nobody has touched."""
    for run in runs:
        RunDirectory.create(folder, run.config)
    write_json(folder / JOBS_FILE, [{"run": run.id, "evaluations": run.evaluations} for run in runs])
    outputs = [f"folder={folder}", f"hydra.run.dir={folder / 'hydra'}", f"hydra.sweep.dir={folder / 'hydra'}"]
    return timed([[*ONE_RUN, *call, *outputs] for call in calls], len(runs), folder)


def _bare(report_dir: Path, runs: int) -> Turn:
    directories = run_directories(report_dir)
    seconds = Bare.measure(directories, cores()).step * sum(steps(directories))
    return Turn(runs, seconds / cores(), seconds)


def run_directories(report_dir: Path) -> list[RunDirectory]:
    """The runs of a finished sweep, each once."""
    manifest = read_manifest(report_dir)
    names = {planned.run for _, _, planned in manifest.planned()}
    return [RunDirectory(manifest.runs_folder, name) for name in sorted(names)]


def steps(directories: Sequence[RunDirectory]) -> list[int]:
    """The steps of each training. Raises: SystemExit if one is not finished."""
    results = [directory.result() for directory in directories]
    if None in results:
        raise SystemExit("the sweep is not finished: a run has no result")
    return [result["steps"] for result in results if result]


@dataclass(frozen=True)
class Bare:
    """Seconds of compute alone, of one run and as many processes at once as a sweep has workers."""

    step: float
    """Forward, loss, backward and optimizer step."""
    features: float
    """The forward pass of all training and test pictures, without augmentation."""

    @classmethod
    def measure(cls, directories: Sequence[RunDirectory], workers: int) -> "Bare":
        """Of the first run that was trained.

        It stands for all: for sweeps whose runs have one encoder, batch and picture size, as Figure 5's have.
        """
        trained = next(run for run, count in zip(directories, steps(directories), strict=True) if count)
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            step, features = zip(*pool.map(_time_bare, [trained.path] * workers), strict=True)
        return cls(statistics.mean(step), statistics.mean(features))


def _time_bare(directory: Path) -> tuple[float, float]:
    """Seconds of one bare step of the run in `directory`, and of its features."""
    torch.set_num_threads(1)
    config = RunDirectory(directory.parent, directory.name).config()
    with tempfile.TemporaryDirectory() as name:
        training = Training(config, RunDirectory.create(name, config))
        training.model.train()
        step = _median_seconds(bare_step(training))
        views_NCHW = plain_view(training.pictures.batch(training.indices(0)), config.data.image_size)
        views_NCHW = views_NCHW.contiguous(memory_format=torch.channels_last)
        with frozen(training.model.encoder):
            forward = _median_seconds(lambda: training.model.encoder(views_NCHW))
        pictures = len(training.pictures) + len(data.load(config.data, "test"))
        training.close()
    return step, forward * pictures / len(views_NCHW)


def _median_seconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    """Efficiency of a sweep that ran without a pause: from the first attempt's start to the last one's end, and to the
    report's end."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweep", description=main.__doc__)
    parser.add_argument("report_dir", type=Path)
    parser.add_argument("--workers", type=int, default=cores())
    arguments = parser.parse_args()
    directories = run_directories(arguments.report_dir)
    moments = [line["time"] for run in directories for line in read_lines(run.attempts_file)]
    report = (arguments.report_dir / "report.html").stat().st_mtime
    bare = Bare.measure(directories, arguments.workers)
    of_steps = bare.step * sum(steps(directories))
    whole = of_steps + bare.features * len(directories)
    print(f"{len(directories)} runs, with {arguments.workers} processes at once:")
    print(f"bare step {bare.step * 1e3:.1f} ms, features of a run {bare.features:.2f} s")
    for name, end in (("runs", max(moments)), ("runs and report", report)):
        wall = end - min(moments)
        shares = [f"{part / (wall * arguments.workers):.3f}" for part in (of_steps, whole)]
        print(f"{name:16} {wall:7.1f} s  efficiency {shares[0]}, with the features {shares[1]}")


if __name__ == "__main__":
    main()
