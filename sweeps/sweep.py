"""One sweep from plan to report: start what is missing, show it, mirror it, report it.

A sweep is one process; its record `outputs/sweeps/<study>-<pid>.json` lets `action=cancel` find it. Several
sweeps of the same study may run at once: leases see to it that every run is executed once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from core import data
from core.attempts import Outcome
from core.environment import cores
from core.errors import UserError
from core.lease import holder, read_owner, this_process
from core.rundir import RunDirectory, write_json
from core.states import RunState, State, observe_all
from reports.tracking import IDS_FILE
from sweeps.costs import check_disk, show_left_out
from sweeps.devices import gpus
from sweeps.grid import Grid, expand_leniently
from sweeps.local import LocalLauncher, Work
from sweeps.manifest import manifest
from sweeps.plan import Plan, plan
from sweeps.planned import PlannedRun
from sweeps.progress import Display, Tally
from sweeps.uri import without_password

REFRESH_SECONDS = 0.5
MIRROR_SECONDS = 120.0
"""How long the last synchronisation with MLflow may take before the sweep ends without it."""
LINK_SECONDS = 15.0
"""How long the report may wait for MLflow, to link to its pages."""
CANCEL_SECONDS = 10.0


class Interrupted(BaseException):
    """The user, or the system, asked to stop; not an Exception, so that no run takes it for its own failure."""


def look(grid: Grid) -> dict[str, RunState]:
    """The state of every run of the grid."""
    return observe_all(grid.request.runs, {run.id: run.evaluation_ids for run in grid.runs().values()})


def worker_count(grid: Grid, plan_: Plan) -> int:
    """Worker processes: as asked, or one per GPU or core, and never more than there are runs."""
    asked = getattr(grid.request.launcher, "workers", 1)
    processes = getattr(grid.request.launcher, "processes_per_run", 1)
    possible = max(1, (len(_gpus(grid)) or cores()) // processes)
    return max(1, min(asked or possible, len(plan_.to_do) + len(plan_.running)))


def is_on_gpu(grid: Grid) -> bool:
    """Whether runs will train on GPUs: this machine's, or those that a job asks for."""
    launcher = grid.request.launcher
    if launcher.name == "slurm" and grid.machine()["machine.device"] != "cpu":
        return bool(launcher.gpus_per_node or "gpu" in launcher.gres or any("gpu" in key for key in launcher.extra))
    return bool(_gpus(grid))


def _gpus(grid: Grid) -> list[str]:
    return [] if grid.machine()["machine.device"] == "cpu" else gpus()


def run(grid: Grid, console: Console) -> int:
    """Execute what is missing of the study and build its report; the exit code.

    Raises: UserError before anything is started; Interrupted after Ctrl-C, with everything saved.
    """
    request = grid.request
    plan_ = plan(grid.runs().values(), look(grid))
    check_disk(grid, plan_)
    if plan_.to_do or plan_.running:
        # Pictures that cannot be decoded stop the study here, where nothing has begun.
        with interruptible(), _announced(grid):
            prepare_data(grid, console)
    grid = _as_prepared(grid)
    show_left_out(grid.info, console)
    write_json(request.manifest, manifest(grid))
    to_do = {run.id: run for run in (*plan_.to_do, *plan_.running)}
    tally = Tally(grid, [run.id for run in plan_.done])
    for hopeless in plan_.hopeless:
        tally.failed[hopeless.id] = Outcome("failed", "diverged", "diverged before, and would again")
    console.print(
        f"{request.study.name}: {len(grid.cells)} cells, {len(grid.runs())} runs: "
        f"{len(plan_.done)} done already, {len(to_do)} to do"
    )
    with interruptible(), _announced(grid), _mirror(grid, console) as mirror:
        if to_do:
            with Display(tally, console, to_do) as display:
                _execute(grid, plan_, list(to_do.values()), display)
        mirror.sync()
        is_reported = _report(grid, console)
        mirror.end()
    _last_words(grid, tally, console, is_reported)
    return 1 if tally.failed or tally.done < tally.total or not is_reported else 0


def prepare_data(grid: Grid, console: Console) -> None:
    """Decode the pictures once, before workers would each want to. Raises: UserError if too many cannot be."""
    config = grid.config.data
    if grid.info.cached:
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"preparing {config.name}", total=None)
        data.prepare(config, lambda done, total: bar.update(task, completed=done, total=total))


def _as_prepared(grid: Grid) -> Grid:
    """The grid with the pictures that were found since it was made not to be decodable left out.

    Raises: UserError if too few are left.
    """
    info = grid.info if grid.info.cached else data.inspect(grid.config.data)
    if info.bad == grid.info.bad:
        return grid
    fresh, _ = expand_leniently(grid.request, info)
    return replace(fresh, together=grid.together)


def cancel(grid: Grid, console: Console) -> None:
    """Stop the sweeps of this study on this machine; their runs stay resumable."""
    stopped = 0
    for record in sorted(_sweeps(grid).glob("*.json")):
        owner = read_owner(record)
        if owner is None or owner["study"] != grid.request.study.name:
            continue
        if owner["host"] != this_process()["host"]:
            # Whether it lives cannot be seen from here: nobody renews the record.
            console.print(f"a sweep on {owner['host']} (process {owner['pid']}) can only be cancelled there")
        elif holder(record) is None:
            record.unlink(missing_ok=True)
        else:
            try:
                os.kill(owner["pid"], signal.SIGTERM)
            except (ProcessLookupError, PermissionError) as error:
                console.print(f"process {owner['pid']} cannot be stopped: {error.strerror}")
                continue
            deadline = time.monotonic() + CANCEL_SECONDS
            while holder(record) is not None and time.monotonic() < deadline:
                time.sleep(0.1)
            stopped += holder(record) is None
    left = sum(state.state == State.RUNNING for state in look(grid).values())
    console.print(f"{stopped} sweep(s) stopped, {left} run(s) still running; the same command goes on from here")


def _execute(grid: Grid, plan_: Plan, to_do: list[PlannedRun], display: Display) -> None:
    if grid.request.launcher.name == "debug":
        _execute_here(grid, to_do, display)
        return
    workers = worker_count(grid, plan_)
    launcher = LocalLauncher(
        grid.request.runs,
        grid.machine(),
        workers=workers,
        retries=grid.request.launcher.retries,
        threads=max(1, cores() // (workers * grid.request.launcher.processes_per_run)),
        gpus=_gpus(grid),
        report=display.ended,
        processes_per_run=grid.request.launcher.processes_per_run,
    )
    planned = grid.runs()
    try:
        launcher.start([Work(run.id, run.evaluations, run.evaluation_ids, run.config) for run in to_do])
        while not launcher.finished:
            display.refresh([planned[work.id] for work in launcher.running])
            time.sleep(REFRESH_SECONDS)
    except BaseException:
        launcher.stop()
        raise


def _execute_here(grid: Grid, to_do: list[PlannedRun], display: Display) -> None:
    from core.execute import execute

    for run in to_do:
        directory = RunDirectory.create(grid.request.runs, run.config)
        display.refresh([run])
        display.ended(run.id, execute(directory, run.evaluations, grid.machine()))


def _report(grid: Grid, console: Console) -> bool:
    """Whether the report could be built; the runs are done in any case."""
    from reports.build import build

    try:
        write_json(grid.request.manifest, manifest(grid))  # another sweep of the study may have written its own
        with console.status("building the report"):
            build(grid.request.report_dir)
    except Exception as error:
        if not isinstance(error, UserError | OSError):
            traceback.print_exc()
        text = " ".join(str(error).split())[:200]
        console.print(f"the report could not be built: {text}; try again with action=report", markup=False)
        return False
    return True


def _last_words(grid: Grid, tally: Tally, console: Console, is_reported: bool) -> None:
    request = grid.request
    for run, outcome in tally.failed.items():
        console.print(f"failed: {tally.name(run)} [{run}]: {outcome.cause}: {outcome.message}", markup=False)
    report = os.path.relpath(request.report_dir)
    lines = [f"{tally.done} of {tally.total} runs done"]
    if is_reported:
        lines += [f"report   {report}/report.html", f"figure   {report}/figure.png"]
    if request.settings.tracking.enabled:
        uri = without_password(request.tracking_uri)
        if not request.settings.tracking.uri:
            uri = f"sqlite:///{os.path.relpath(request.output)}/mlflow.db"
        lines.append(f"mlflow   {uri}" if uri.startswith("http") else f"mlflow   mlflow ui --backend-store-uri {uri}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _announced(grid: Grid) -> Iterator[None]:
    """Keep a record of this sweep for as long as it lives."""
    record = _sweeps(grid) / f"{grid.request.study.name}-{os.getpid()}.json"
    write_json(record, {**this_process(), "study": grid.request.study.name})
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def _sweeps(grid: Grid) -> Path:
    return grid.request.output / "sweeps"


class Mirror:
    """The process that keeps MLflow and the partial heatmap up to date; it cannot slow or stop the sweep."""

    def __init__(self, grid: Grid, console: Console):
        request = grid.request
        self._uri = request.tracking_uri if request.settings.tracking.enabled else ""
        self._ids_file = request.report_dir / IDS_FILE
        self._log = request.output / "logs" / "mirror.log"
        self._console = console
        command = [sys.executable, "-m", "sweeps.mirror", str(request.manifest), "--partial-report"]
        if self._uri:
            command += ["--uri", self._uri]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def sync(self) -> None:
        """Wait a little until MLflow has the runs, so that the report can link to them."""
        if not self._uri or self._process.stdin is None:
            return
        asked = time.time()
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"sync\n")
            self._process.stdin.flush()
        with self._console.status("bringing MLflow up to date"):
            while self._process.poll() is None and time.time() - asked < LINK_SECONDS:
                with contextlib.suppress(FileNotFoundError):
                    if self._ids_file.stat().st_mtime > asked:
                        return
                time.sleep(0.1)

    def end(self) -> None:
        """Let it synchronise once more, the report included, and say so if MLflow is not up to date."""
        self.close()
        with self._console.status("bringing MLflow up to date"):
            try:
                code = self._process.wait(MIRROR_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.terminate()
                code = 1
        if code:
            self._console.print(
                f"warning: MLflow at {without_password(self._uri)} is not up to date; bring it there later with "
                f"action=track (details: {os.path.relpath(self._log)})",
                markup=False,
            )

    def close(self) -> None:
        """Tell it to end after one more synchronisation, without waiting."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


@contextmanager
def _mirror(grid: Grid, console: Console) -> Iterator[Mirror]:
    mirror = Mirror(grid, console)
    try:
        yield mirror
    finally:
        mirror.close()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` in the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for kept in previous:
            signal.signal(kept, signal.SIG_IGN)  # once is enough: now everything is being saved
        raise Interrupted

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
