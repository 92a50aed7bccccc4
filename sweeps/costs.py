"""What a plan will cost, from finished runs where there are any, and the text of `action=plan`."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from core.errors import UserError
from core.rundir import RunDirectory
from sweeps.grid import Grid, PlannedRun
from sweeps.plan import DEFAULT_SPEED, Plan, grid_disk_bytes, seconds, work
from sweeps.progress import cell_name, duration

LOOKED_AT = 50
"""Finished runs from which a speed is taken; more would only slow the plan down."""


def measured_speed(runs: Path, done: Iterable[PlannedRun], train_count: int) -> float | None:
    """Multiply-adds per second of this study's finished runs; None where none is finished."""
    total_work = total_seconds = 0.0
    for run in list(done)[:LOOKED_AT]:
        result = RunDirectory(runs, run.id).result()
        if result and result["compute_seconds"]:
            total_work += work(run.config, train_count)
            total_seconds += result["compute_seconds"]
    return total_work / total_seconds if total_seconds else None


def show(grid: Grid, plan: Plan, workers: int, console: Console) -> None:
    """Print what `action=run` would do: cells, runs, reused runs, estimated time and disk."""
    request = grid.request
    speed = measured_speed(request.runs, (*plan.done, *plan.evaluate), grid.info.train_count)
    basis = "speed of the finished runs" if speed else f"{DEFAULT_SPEED / 1e9:.0f} GMAC/s per worker assumed"
    total = sum(seconds(run.config, grid.info.train_count, speed or DEFAULT_SPEED) for run in plan.train)
    first = next(iter(grid.runs().values())).config
    console.print(f"[bold]{request.study.name}[/]: {request.study.title}")
    console.print(
        f"scale {request.scale.name}, data {first.data.name} ({grid.info.train_count:,} training and "
        f"{grid.info.test_count:,} test pictures, {first.data.image_size} pixels), seeds {list(request.seeds)}"
    )
    for entry in grid.mapped:
        console.print(f"{entry['key']}: {entry['paper']} in the paper, {entry['own']} here")
    if request.changes:
        console.print(f"changed on the command line: {' '.join(request.changes)}", markup=False)
    console.print(
        f"{len(grid.cells)} cells and {len(grid.references)} references, {len(grid.runs())} runs: "
        f"{len(plan.train)} to train, {len(plan.evaluate)} to evaluate only, {len(plan.done)} reused, "
        f"{len(plan.running)} running elsewhere, {len(plan.hopeless)} diverged before"
    )
    console.print(
        f"estimated {duration(total / max(1, workers))} on {workers} workers ({basis}), "
        f"{grid_disk_bytes(grid, plan) / 1e6:,.0f} MB of disk"
    )
    for cell in (*grid.references, *grid.cells):
        ids = " ".join(run.id for run in cell.runs)
        console.print(f"  {cell_name(cell, grid):24} {ids}", markup=False, highlight=False)


def check_writable(output: Path) -> None:
    """Raises: UserError if the folder cannot be written to."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UserError(f"output_dir={output}: must be a folder that can be written to ({error.strerror})") from None


def check_disk(grid: Grid, plan: Plan) -> None:
    """Raises: UserError if what the plan will write does not fit on the disk."""
    output = grid.request.output
    needed, free = grid_disk_bytes(grid, plan), shutil.disk_usage(output).free
    if needed > free:
        raise UserError(
            f"output_dir={output}: the study needs about {needed / 1e6:,.0f} MB and the disk has "
            f"{free / 1e6:,.0f} MB free"
        )
