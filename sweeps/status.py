"""What became of a study's runs: counts per state, failures with their cause, progress and time left."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from core.rundir import RunDirectory
from core.states import State
from sweeps.cluster import View
from sweeps.grid import Grid
from sweeps.plan import work
from sweeps.progress import Tally, duration, fraction, step_text
from sweeps.submission import job_logs
from sweeps.tail import last_lines, last_step

LOG_LINES = 5
LISTED = 20
"""Runs of a kind that are named; of more, the number is given."""
WATCH_SECONDS = 5.0
WATCH_CLUSTER_SECONDS = 30.0
"""Each look asks the scheduler, which serves others too."""


def show(grid: Grid, view: View, console: Console) -> None:
    """Print the status of a study."""
    console.print(_page(grid, view), soft_wrap=True)


def watch(grids: Sequence[Grid], look: Callable[[Sequence[Grid]], list[View]], console: Console) -> None:
    """Show the status of studies again and again until no run is running or queued, or until Ctrl-C."""
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            views = look(grids)
            live.update(_pages(grids, views), refresh=True)
            if not any(map(_may_change, views)):
                return
            asks_cluster = any(view.tasks or not view.queue_known for view in views)
            time.sleep(WATCH_CLUSTER_SECONDS if asks_cluster else WATCH_SECONDS)


def _pages(grids: Sequence[Grid], views: Sequence[View]) -> RenderableType:
    """One study in full; of several, which a terminal has no room for, the counts and what failed."""
    if len(grids) == 1:
        return _page(grids[0], views[0])
    lines = []
    for grid, view in zip(grids, views, strict=True):
        lines += [_counts(grid, view), *_failures(grid, view, Tally(grid, []))]
    return Group(*map(Text, lines))


def _may_change(view: View) -> bool:
    """Whether a run runs or waits. Where SLURM does not say, any may that is not done and has not failed."""
    waiting = {State.RUNNING, State.QUEUED} if view.queue_known else {*State} - {State.DONE, State.FAILED}
    return any(state.state in waiting for state in view.states.values())


def _page(grid: Grid, view: View) -> RenderableType:
    tally = Tally(grid, [run for run, state in view.states.items() if state.state == State.DONE])
    lines: list[RenderableType] = [Text(_counts(grid, view))]
    if tally.best:
        lines.append(Text(f"best so far: {tally.best[1]} {tally.best[0]:.1f}"))
    lines += _queued(view)
    lines += _interrupted(view)
    lines += _running(grid, view, tally)
    lines += [Text(line) for line in _failures(grid, view, tally)]
    lines += [Text(line) for line in _first(view.notes, "more disagreements")]
    return Group(*lines)


def _counts(grid: Grid, view: View) -> str:
    counts = Counter(state.state for state in view.states.values())
    return f"{grid.request.study.name}: " + ", ".join(f"{counts[state]} {state}" for state in State)


def _queued(view: View) -> list[RenderableType]:
    """Why runs wait, in SLURM's words."""
    tasks = [view.tasks[run] for run, state in view.states.items() if state.state == State.QUEUED and run in view.tasks]
    reasons = Counter((task.note or task.state) if task.waits else "in a job that runs" for task in tasks)
    if not reasons:
        return []
    return [Text("queued: " + ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common()))]


def _interrupted(view: View) -> list[RenderableType]:
    """Why the last attempts at runs ended that go on when their turn comes."""
    waiting = (State.PENDING, State.TRAINED, State.QUEUED)
    causes = Counter(state.cause for state in view.states.values() if state.state in waiting and state.cause)
    if not causes:
        return []
    return [Text("interrupted before: " + ", ".join(f"{count} ({cause})" for cause, count in causes.most_common()))]


def _running(grid: Grid, view: View, tally: Tally) -> list[RenderableType]:
    """The runs under way, and when all will be done at their speed."""
    runs = grid.runs()
    table = Table(box=None, padding=(0, 2))
    for column in ("running", "progress", "images/s", "left", "where"):
        table.add_column(column)
    speed = left = 0.0
    for identity, state in view.states.items():
        run = runs[identity]
        amount = 0.0
        if state.state in (State.RUNNING, State.PENDING, State.QUEUED):
            amount = work(run.config, grid.info.train_count)
        if state.state == State.RUNNING and state.owner:
            step = last_step(RunDirectory(grid.request.runs, identity))
            images = step.get("images_per_s", 0.0)
            done = fraction(step, run)
            samples = run.config.train.epochs * grid.info.train_count
            speed += images * amount / max(1, samples)
            amount *= 1 - done
            if table.row_count < LISTED:
                run_left = duration((1 - done) * samples / images) if images else ""
                where = f"{state.owner['host']} process {state.owner['pid']}"
                if state.owner.get("job"):
                    where += f" job {state.owner['job']}"
                table.add_row(tally.name(identity), step_text(step, run), f"{images:,.0f}", run_left, where)
        left += amount
    if not table.row_count:
        return []
    shown: list[RenderableType] = [table]
    running = sum(state.state == State.RUNNING for state in view.states.values())
    if running > LISTED:
        shown.append(Text(f"and {running - LISTED} more"))
    if speed:
        shown.append(Text(f"{duration(left / speed)} left at this speed"))
    return shown


def _failures(grid: Grid, view: View, tally: Tally) -> list[str]:
    failed = [(run, state) for run, state in view.states.items() if state.state == State.FAILED]
    runs = grid.request.runs
    printed = {run: last_lines(RunDirectory(runs, run).log_file, LOG_LINES) for run, _ in failed[:LISTED]}
    silent = [run for run, own in printed.items() if not own]
    for run, log in job_logs(grid.request.output, silent).items() if silent else ():
        printed[run] = last_lines(log, LOG_LINES)
    lines = []
    for run, state in failed[:LISTED]:
        lines.append(f"failed: {tally.name(run)} [{run}]: {state.cause}: {state.message}")
        lines += [f"    {line}" for line in printed[run]]
    if len(failed) > LISTED:
        causes = Counter(state.cause for _, state in failed)
        lines.append(f"{len(failed)} failed in all: " + ", ".join(f"{n} {cause}" for cause, n in causes.most_common()))
    return lines


def _first(lines: Sequence[str], more: str) -> list[str]:
    rest = len(lines) - LISTED
    return [*lines[:LISTED], *([f"and {rest} {more}"] if rest > 0 else [])]
