"""The live display of a sweep: cells done, running, failed; images/s; time left; the best cell so far.

On a terminal it is redrawn in place; elsewhere (a log file, CI) it is a line whenever a run ends. It only
reads run directories: it can be late or silent, and never in the way.
"""

import time
import traceback
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from core.attempts import Outcome
from core.rundir import RunDirectory, read_json
from sweeps.grid import Cell, Grid
from sweeps.plan import work
from sweeps.planned import PlannedRun
from sweeps.tail import last_step


def cell_name(cell: Cell, grid: Grid) -> str:
    """How a cell is called on the terminal: "Crop + Color", or a reference's label."""
    study = grid.request.study
    if cell.reference:
        return study.references[cell.reference].label
    texts = dict.fromkeys(study.labels.get(str(value), str(value)) for value in cell.values.values())
    return " + ".join(texts) or study.name


def metric_of(run: PlannedRun, runs: Path, metric: str) -> float | None:
    """The run's value of a metric such as `linear.top1`; None while it is not there."""
    kind, _, name = metric.partition(".")
    file = "result.json" if kind == "train" else f"evaluations/{run.evaluation_ids[kind]}.json"
    record = read_json(f"{runs}/{run.id}/{file}")  # plain text, as in core/states.py: thousands are read for one status
    return record["metrics"].get(name) if record else None


class Tally:
    """What the parent knows of its runs."""

    def __init__(self, grid: Grid, done: Collection[str]):
        """done: the ids of the runs that are done already."""
        self.grid = grid
        self.total = len(grid.runs())
        self.done = len(done)
        self.failed: dict[str, Outcome] = {}
        self.best: tuple[float, str] | None = None
        self._names: dict[str, str] = {}
        for cell in (*grid.references, *grid.cells):
            name = cell_name(cell, grid)
            for run in cell.runs:
                self._names.setdefault(run.id, name)
        self._in_grid = {run.id: run for cell in grid.cells for run in cell.runs}
        for identity in done:
            self._note_best(identity)

    def name(self, run: str) -> str:
        return self._names[run]

    def end(self, run: str, outcome: Outcome) -> None:
        if outcome.outcome == "done":
            self.done += 1
            self._note_best(run)
        else:
            self.failed[run] = outcome

    def _note_best(self, identity: str) -> None:
        """Compare a run that is done with the best so far, unless it is a reference's."""
        if identity not in self._in_grid:
            return
        request = self.grid.request
        value = metric_of(self._in_grid[identity], request.runs, request.study.metric)
        if value is not None and (self.best is None or value > self.best[0]):
            self.best = (value, self._names[identity])


class Display:
    """Shows a tally and the journals of the runs under way."""

    def __init__(self, tally: Tally, console: Console, to_do: Mapping[str, PlannedRun]):
        self._tally = tally
        self._console = console
        self._to_do = to_do
        self._train_count = tally.grid.info.train_count
        self._work = {run.id: work(run.config, self._train_count) for run in to_do.values()}
        self._finished_work = 0.0
        self._first_work: float | None = None
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            console=console,
        )
        self._task = self._bar.add_task(tally.grid.request.study.name, total=tally.total, completed=tally.done)
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def ended(self, run: str, outcome: Outcome) -> None:
        """Take note that a run ended; off a terminal, say so."""
        tally = self._tally
        tally.end(run, outcome)
        self._finished_work += self._work[run]
        value = metric_of(self._to_do[run], tally.grid.request.runs, tally.grid.request.study.metric)
        shown = "done" if value is None else f"{value:.1f}"
        if outcome.outcome == "failed":
            shown = f"failed: {outcome.cause}: {outcome.message}"
        if self._live is None or outcome.outcome == "failed":
            self._console.print(
                f"{tally.done + len(tally.failed)}/{tally.total} {tally.name(run)} [{run}]: {shown}",
                markup=False,
                highlight=False,
            )

    def refresh(self, running: Iterable[PlannedRun]) -> None:
        if self._live:
            try:
                self._live.update(self._render(list(running)), refresh=True)
            except Exception:  # what watches cannot stop the sweep
                traceback.print_exc()

    def _render(self, running: list[PlannedRun]) -> Table:
        tally = self._tally
        steps = [(run, last_step(RunDirectory(tally.grid.request.runs, run.id))) for run in running]
        speed = sum(step.get("images_per_s", 0.0) for _, step in steps)
        table = Table.grid(padding=(0, 2))
        self._bar.update(self._task, completed=tally.done)
        table.add_row(self._bar)
        facts = [f"{tally.done} done", f"{len(running)} running", f"{len(tally.failed)} failed"]
        facts.append(f"{speed:,.0f} images/s")
        facts.append(f"{duration(self._seconds_left(steps))} left")
        if tally.best:
            facts.append(f"best so far: {tally.best[1]} {tally.best[0]:.1f}")
        table.add_row(" · ".join(facts))
        for run, step in steps:
            table.add_row(f"  {tally.name(run.id)}: {step_text(step, run)}")
        return table

    def _seconds_left(self, steps: list[tuple[PlannedRun, dict[str, Any]]]) -> float | None:
        """Work left at the speed of this sweep so far; None before there is any."""
        under_way = sum(self._work[run.id] * fraction(step, run) for run, step in steps if run.id in self._work)
        achieved = self._finished_work + under_way
        if self._first_work is None:
            self._first_work = achieved  # what an earlier sweep had already done of the runs it left
        here = achieved - self._first_work
        if here <= 0:
            return None
        left = sum(self._work.values()) - achieved
        return left * (time.monotonic() - self._started) / here


def fraction(step: Mapping[str, Any], run: PlannedRun) -> float:
    """How much of its training a run has behind it, 0 to 1."""
    return min(1.0, step.get("epoch", 0.0) / max(1, run.config.train.epochs))


def step_text(step: Mapping[str, Any], run: PlannedRun) -> str:
    if not step:
        return "starting"
    return f"epoch {step['epoch']:.1f} of {run.config.train.epochs}, loss {step['loss']:.3f}"


def duration(seconds: float | None) -> str:
    """Seconds as people write them: 45 s, 12 min, 3.5 h."""
    if seconds is None:
        return "? min"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
