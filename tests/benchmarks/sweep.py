"""Efficiency of a finished sweep: `python -m tests.benchmarks.sweep OUTPUT_DIR/reports/STUDY [--workers 2]`.

Efficiency is the bare compute of all runs over what the workers could have done in the wall time from the
first attempt's start to the last evaluation's end (and, second line, to the report's end). Bare compute is
measured now, with as many processes at once as the sweep had workers: the time of forward, loss, backward
and optimizer step on ready views, for the steps that the runs took.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import torch

from core.journal import read_lines
from core.rundir import RunDirectory
from core.train import Training
from reports.manifest import read
from tests.benchmarks.trainer import bare_step

STEPS = 40


def bare_seconds(directory: Path, queue: multiprocessing.Queue) -> None:
    """Median seconds of one bare step of the run in `directory`."""
    torch.set_num_threads(1)
    config = RunDirectory(directory.parent, directory.name).config()
    with tempfile.TemporaryDirectory() as name:
        training = Training(config, RunDirectory.create(name, config))
        training.model.train()
        step = bare_step(training)
        times = []
        for _ in range(STEPS):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
        training.journal.close()
    queue.put(statistics.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report_dir", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    manifest = read(arguments.report_dir)
    runs = {planned.run: RunDirectory(manifest.runs_folder, planned.run) for _, _, planned in manifest.planned()}
    results = {name: run.result() for name, run in runs.items()}
    lines = [line for run in runs.values() for line in read_lines(run.attempts_file)]
    wall = max(line["time"] for line in lines) - min(line["time"] for line in lines)
    report = (arguments.report_dir / "report.html").stat().st_mtime
    with_report = report - min(line["time"] for line in lines)
    trained = next(run for name, run in runs.items() if results[name]["steps"])
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    processes = [spawn.Process(target=bare_seconds, args=(trained.path, queue)) for _ in range(arguments.workers)]
    for process in processes:
        process.start()
    seconds = statistics.mean(queue.get() for _ in processes)
    bare = seconds * sum(result["steps"] for result in results.values())
    print(f"{len(runs)} runs, bare step {seconds * 1000:.1f} ms with {arguments.workers} processes at once")
    print(f"runs             {wall:7.1f} s  efficiency {bare / (wall * arguments.workers):.3f}")
    print(f"runs and report  {with_report:7.1f} s  efficiency {bare / (with_report * arguments.workers):.3f}")


if __name__ == "__main__":
    main()
