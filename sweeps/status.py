"""What became of a study's runs: counts per state, failures with their cause, progress and time left."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from core.rundir import RunDirectory
from core.states import RunState, State
from sweeps.grid import Grid
from sweeps.plan import work
from sweeps.progress import Tally, duration, fraction, step_text
from sweeps.tail import last_lines, last_step

LOG_LINES = 5


def show(grid: Grid, states: dict[str, RunState], console: Console) -> None:
    """Print the status of a study."""
    runs = grid.runs()
    counts = Counter(state.state for state in states.values())
    tally = Tally(grid, len(runs), counts[State.DONE])
    console.print(f"{grid.request.study.name}: " + ", ".join(f"{counts[state]} {state}" for state in State))
    if tally.best:
        console.print(f"best so far: {tally.best[1]} {tally.best[0]:.1f}")
    _show_running(grid, states, tally, console)
    for run, state in states.items():
        if state.state == State.FAILED:
            console.print(f"failed: {tally.name(run)} [{run}]: {state.cause}: {state.message}", markup=False)
            for line in last_lines(RunDirectory(grid.request.runs, run), LOG_LINES):
                console.print(f"    {line}", markup=False, highlight=False)


def _show_running(grid: Grid, states: dict[str, RunState], tally: Tally, console: Console) -> None:
    runs = grid.runs()
    table = Table(box=None, padding=(0, 2))
    for column in ("running", "progress", "images/s", "where"):
        table.add_column(column)
    speed = left = 0.0
    for identity, run in runs.items():
        state = states[identity]
        amount = work(run.config, grid.info.train_count)
        if state.state == State.RUNNING and state.owner:
            step = last_step(RunDirectory(grid.request.runs, identity))
            images = step.get("images_per_s", 0.0)
            amount *= 1 - fraction(step, run)
            trained = run.config.train.epochs * grid.info.train_count
            speed += images * work(run.config, grid.info.train_count) / max(1, trained)
            where = f"{state.owner['host']} process {state.owner['pid']}"
            table.add_row(tally.name(identity), step_text(step, run), f"{images:,.0f}", where)
        if state.state in (State.RUNNING, State.PENDING):
            left += amount
    if table.row_count:
        console.print(table)
        if speed:
            console.print(f"{duration(left / speed)} left at this speed")
