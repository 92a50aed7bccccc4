"""How planning and reading grow with a study: plan, status, collect and report of 1,000 to 100,000 cells, MLflow sync
of 2,000.

The study has two axes and one seed. Six of ten runs are done, one failed, three wait, as in the middle of a sweep; for
MLflow all are done, with the configs, journals and 20 metrics of real ones (`half_done.finish`). Each command is a
process of its own, the start included. The growth exponent is the slope of log seconds over log cells, fitted.
"""

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from core import data
from core.rundir import write_json
from sweeps.grid import Grid, data_config, expand
from sweeps.manifest import manifest
from sweeps.request import read
from tests.benchmarks.half_done import fill, finish
from tests.benchmarks.measure import ENVIRONMENT, Line
from tests.commandline import RUN

COLLECT = "import sys, pathlib; from reports.build import load; load(pathlib.Path(sys.argv[1]))"
WATCH = """
import pathlib, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
pathlib.Path(sys.argv[1]).write_text(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss / 1024}")
sys.exit(code)
"""
"""Starts a command and writes down what it used. Linux counts the memory of a process that starts another as that of
the other too, and this one has imported torch."""
EXPECTED = 10_000
"""Runs that MLflow is to take five minutes for at most; fewer are made and mirrored here."""


def lines(quick: bool) -> Iterator[Line]:
    seconds: dict[str, dict[int, float]] = {}
    for side in (10, 32) if quick else (32, 100, 316):
        with tempfile.TemporaryDirectory() as name:
            for command, cells, line in _of_one_size(Path(name), side, 1 if quick else 3):
                seconds.setdefault(command, {})[cells] = statistics.median(1 / value for value in line.values) * cells
                yield line
    mirrored: dict[int, Line] = {}
    for side in (10, 22) if quick else (22, 45):
        with tempfile.TemporaryDirectory() as name:
            cells, line = _mirror(Path(name), side)
            mirrored[cells] = line
            yield line
    yield _expected(mirrored)
    seconds["MLflow sync"] = {cells: cells / line.values[0] for cells, line in mirrored.items()}
    for command, by_cells in seconds.items():
        sizes = ", ".join(f"{took:.1f} s at {cells:,}" for cells, took in by_cells.items())
        yield Line("planner", f"{command}: growth exponent", "ours", "", (_exponent(by_cells),), note=sizes)


def _of_one_size(folder: Path, side: int, rounds: int) -> Iterator[tuple[str, int, Line]]:
    words = _study(folder, side)
    grid = _grid(folder, words)
    request, cells = grid.request, len(grid.cells)
    commands: dict[str, Sequence[str]] = {"plan": [*RUN, *words, "action=plan"]}
    yield "plan", cells, _line("plan", cells, commands["plan"], folder, rounds)
    write_json(request.manifest, manifest(grid))
    fill(request.runs, {run.id: run.evaluation_ids.values() for run in grid.runs().values()})
    commands["status"] = [*RUN, *words, "action=status"]
    commands["collect"] = [sys.executable, "-c", COLLECT, str(request.report_dir)]
    commands["plan, half done"] = commands["plan"]
    for command in ("plan, half done", "status", "collect"):
        yield command, cells, _line(command, cells, commands[command], folder, rounds)
    yield "report", cells, _line("report", cells, [*RUN, *words, "action=report"], folder, 1)


def _mirror(folder: Path, side: int) -> tuple[int, Line]:
    """Finished runs are written into a new sqlite file."""
    words = _study(folder, side)
    grid = _grid(folder, words)
    finish(grid.request.runs, grid.runs().values())
    cells = len(grid.cells)
    return cells, _line("MLflow sync", cells, [*RUN, *words, "action=track"], folder, 1)


def _expected(mirrored: Mapping[int, Line]) -> Line:
    """What MLflow takes for EXPECTED runs, on a straight line through the sizes measured."""
    walls = statistics.linear_regression(list(mirrored), [n / line.values[0] for n, line in mirrored.items()])
    processors = statistics.linear_regression(list(mirrored), [n / line.cpu_values[0] for n, line in mirrored.items()])
    wall, processor = (fit.intercept + EXPECTED * fit.slope for fit in (walls, processors))
    note = f"{1000 * processors.slope:.1f} ms of processor time a run"
    return Line("planner", f"MLflow sync of {EXPECTED:,}, expected", "ours", "s", (wall,), (processor,), note=note)


def _grid(folder: Path, words: Sequence[str]) -> Grid:
    (request,) = read(words[2:], [folder])
    return expand(request, data.inspect(data_config(request)))


def _study(folder: Path, side: int) -> list[str]:
    """The words of a study with side x side cells."""
    axes = {
        "loss.temperature": [round(0.01 * (1 + number), 4) for number in range(side)],
        "optimizer.base_lr": [round(0.001 * (1 + number), 4) for number in range(side)],
    }
    study = {"name": "grid", "title": "grid", "summary": "many cells", "axes": axes, "evaluations": ["linear"]}
    study |= {"metric": "linear.top1", "report": {"kind": "table"}}
    (folder / "study").mkdir()
    (folder / "study" / "grid.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return ["--config-dir", str(folder), "study=grid", f"output_dir={folder / 'outputs'}"]


def _line(command: str, cells: int, words: Sequence[str], folder: Path, rounds: int) -> Line:
    """Runs a command; the first time to warm the caches of the system, unless it is to run only once."""
    took = [_run(words, folder) for _ in range(rounds + (rounds > 1))][rounds > 1 :]
    rates, cpu_rates = zip(*((cells / wall, cells / cpu) for wall, cpu, _ in took), strict=True)
    memory = max(megabytes for _, _, megabytes in took)
    seconds, processor = (statistics.median(turn[clock] for turn in took) for clock in (0, 1))
    note = f"{seconds:.2f} s, {processor:.2f} s of processor time, {memory:.0f} MB"
    return Line("planner", f"{command} of {cells:,}", "ours", "cells/s", rates, cpu_rates, note=note)


def _run(words: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Wall and processor seconds of a command, and the most memory it had in MB. Raises: RuntimeError if it failed."""
    with open(folder / "output", "w+") as output:
        begin = time.perf_counter()
        watched = [sys.executable, "-c", WATCH, str(folder / "used"), *words]
        process = subprocess.run(watched, stdout=output, stderr=output, cwd=folder, env=ENVIRONMENT)
        wall = time.perf_counter() - begin
        if process.returncode:
            raise RuntimeError((folder / "output").read_text()[-2000:])
    processor, megabytes = map(float, (folder / "used").read_text().split())
    return wall, processor, megabytes


def _exponent(seconds: Mapping[int, float]) -> float:
    """Of the growth over all sizes, the start of the command included."""
    return statistics.linear_regression(list(map(math.log, seconds)), list(map(math.log, seconds.values()))).slope
