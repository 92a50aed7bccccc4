"""The actions of the command line: run, plan, status, cancel, report, track, logs, and the lists."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from core import data
from core.config import EVALUATIONS, RunConfig, evaluation_config, known_keys
from core.errors import InvalidValue, UserError
from core.feasible import check_data
from core.rundir import RunDirectory, write_json
from sweeps import cluster, costs, output, status, submit, sweep, whole
from sweeps.devices import gpus, torch_has_gpu
from sweeps.grid import Grid
from sweeps.manifest import manifest
from sweeps.plan import plan
from sweeps.request import Request, load_study, study_names
from sweeps.submission import job_logs, submissions_folder

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of a process ended by SIGINT."""


def list_studies(folders: list[Path]) -> int:
    """Print every study with one line."""
    for name in study_names(folders):
        try:
            print(f"{name:20} {load_study(name, folders).summary}")
        except UserError as error:
            print(f"{name:20} cannot be used: {error}")
    print("\nrun one with: python sweeps/run.py study=NAME")
    return 0


def list_keys() -> int:
    """Print every key of a run and of its evaluations, with its default (the paper's) and help."""
    for kind, prefix in [
        (RunConfig, ""),
        *((config, f"evaluate.{name}.") for name, config in EVALUATIONS.items()),
    ]:
        schema = TypeAdapter(kind).json_schema()
        for key, default in known_keys(kind).items():
            print(f"{prefix + key:32} {default!s:24} {_help_of(schema, key)}")
    return 0


def perform(requests: list[Request]) -> int:
    """Do what the requests ask for, study by study; the exit code.

    Raises: UserError for what is wrong with any of them, before anything is done.
    """
    console = Console(soft_wrap=True)
    for request in requests:
        output.check(request)
    grids = whole.expand_all(requests, data.inspect)
    for grid in grids:
        if grid.request.settings.action == "run":
            check_device(grid)
            check_data_of_evaluations(grid)
    match requests[0].settings.action:
        case "plan" if len(grids) > 1:
            _plan_all(grids, console)
            return 0
        case "logs":
            _logs(grids, console)
            return 0
        case "status":
            _status(grids, console)
            return 0
        case "report":
            _report(grids, console)
            return 0
    codes = [0]
    for grid in grids:
        codes.append(_perform(grid, console))
        if codes[-1] == INTERRUPTED:
            break
    is_run_here = requests[0].settings.action == "run" and requests[0].launcher.name != "slurm"
    if len(grids) > 1 and is_run_here and codes[-1] != INTERRUPTED:
        _show_all(grids, console)
    return max(codes)


def check_device(grid: Grid) -> None:
    """Raises: UserError if runs are to train here on a GPU and there is none, or none that torch can use."""
    device, listed = grid.machine()["machine.device"], gpus()
    if grid.request.launcher.name == "slurm" or device == "cpu" or (device == "auto" and not listed):
        return
    if not torch_has_gpu():
        if listed:  # else runs would train on the CPU, one at a time, without a word
            why = "cpu, as torch can use none of the GPUs that nvidia-smi or CUDA_VISIBLE_DEVICES list"
            raise InvalidValue("machine.device", device, f"{why} (the driver may be older than torch's CUDA)")
        raise InvalidValue("machine.device", "cuda", "cpu or auto, as this machine has no GPU")


def check_data_of_evaluations(grid: Grid) -> None:
    """Raises: UserError if an evaluation that is still to be made needs a data set that is not on this machine."""
    for run in grid.runs().values():
        directory = RunDirectory(grid.request.runs, run.id)
        for name, tree in run.evaluations.items():
            if not directory.evaluation_file(run.evaluation_ids[name]).exists():
                check_data(name, evaluation_config(tree)[1], run.config.data)


def _perform(grid: Grid, console: Console) -> int:
    settings = grid.request.settings
    match settings.action:
        case "plan":
            _plan(grid, console)
        case "cancel":
            sweep.cancel(grid, console)
            cluster.cancel(grid, console)
        case "track":
            return _track(grid, console)
        case _:
            return _run(grid, console)
    return 0


def _status(grids: list[Grid], console: Console) -> None:
    try:
        if grids[0].request.settings.watch:
            status.watch(grids, cluster.look_closely, console)
        else:
            for grid, view in zip(grids, cluster.look_closely(grids), strict=True):
                status.show(grid, view, console)
    finally:  # a watch is mostly ended by Ctrl-C
        _track_in_background(grids)


def _plan(grid: Grid, console: Console) -> None:
    (view,) = cluster.look_anyway([grid])
    plan_ = plan(grid.runs().values(), view.states)
    done = (*plan_.done, *plan_.evaluate)
    speed = costs.Speed.of(grid.request.runs, done, grid.info, sweep.is_on_gpu(grid), grid.config)
    costs.show(grid, plan_, speed, sweep.worker_count(grid, plan_), console)
    if grid.request.launcher.name == "slurm":
        for note in view.notes:
            console.print(f"what is queued is not known: {note}", markup=False)
        submit.check(grid.request)
        submit.show(grid, plan_, speed, console)


def _plan_all(grids: list[Grid], console: Console) -> None:
    """What all studies would cost together; and, on a cluster, what each would submit when its turn comes."""
    views = cluster.look_anyway(grids)
    states = {run: state for view in views for run, state in view.states.items()}
    everything = {run.id: run for grid in grids for run in grid.runs().values()}
    first, together = grids[0], plan(everything.values(), states)
    done = (*together.done, *together.evaluate)
    speed = costs.Speed.of(first.request.runs, done, first.info, sweep.is_on_gpu(first), first.config)
    if first.request.launcher.name == "slurm":
        submit.check(first.request)
    whole.show(grids, together, speed, sweep.worker_count(first, together), console)
    if first.request.launcher.name != "slurm":
        return
    for note in views[0].notes:
        console.print(f"what is queued is not known: {note}", markup=False)
    is_text_shown = False
    for grid in grids:
        own = [everything.pop(run) for run in grid.runs() if run in everything]  # not what an earlier study submits
        plan_ = plan(own, states)
        console.print(f"{grid.request.study.name}: ", end="")
        submit.show(grid, plan_, speed, console, with_text=not is_text_shown)
        is_text_shown |= bool(plan_.to_do)


def _show_all(grids: list[Grid], console: Console) -> None:
    """The page of all studies, once their reports are there."""
    from reports.build import load
    from reports.overview import write_index

    file = write_index(grids[0].request.report_dir.parent, [load(grid.request.report_dir) for grid in grids])
    console.print(f"all studies {os.path.relpath(file)}", highlight=False)


def _logs(grids: list[Grid], console: Console) -> None:
    """Raises: UserError unless the beginning of an id names exactly one run of the studies."""
    prefix = grids[0].request.settings.run
    found = {run for grid in grids for run in grid.runs() if prefix and run.startswith(prefix)}
    if len(found) != 1:
        studies = grids[0].request.study.name if len(grids) == 1 else "the studies"
        allowed = f"the beginning of one run's id; {len(found)} runs of {studies} begin so"
        raise InvalidValue("run", prefix, allowed)
    request, run = grids[0].request, found.pop()
    log = RunDirectory(request.runs, run).log_file
    if not log.exists():
        jobs_log = job_logs(request.output, [run]).get(run)
        if jobs_log is None:
            raise InvalidValue("run", prefix, "this run has not begun")
        console.print(f"this run has not begun; its job printed ({jobs_log}):", markup=False, soft_wrap=True)
        log = jobs_log
    try:
        console.file.write(log.read_text(errors="replace"))
    except PermissionError:
        raise UserError(f"run={prefix}: {log} cannot be read; it is another user's") from None


def _run(grid: Grid, console: Console) -> int:
    if grid.request.launcher.name == "slurm":
        return submit.submit(grid, console)
    try:
        return sweep.run(grid, console)
    except (sweep.Interrupted, KeyboardInterrupt):
        console.print("stopped; nothing that was finished is lost. The same command goes on from here:")
        console.print(f"  python {shlex.join(sys.argv)}", markup=False, highlight=False)
        return INTERRUPTED


def _report(grids: list[Grid], console: Console) -> None:
    from reports.build import build

    try:
        for grid in grids:
            write_json(grid.request.manifest, manifest(grid))
            build(grid.request.report_dir)
            console.print(f"report   {os.path.relpath(grid.request.report_dir)}/report.html", highlight=False)
    finally:
        _track_in_background(grids)
    if len(grids) > 1:
        _show_all(grids, console)


def _track_in_background(grids: list[Grid]) -> None:
    """Bring what the jobs of a cluster have done into MLflow, without waiting for it."""
    request = grids[0].request
    manifests = [str(grid.request.manifest) for grid in grids if grid.request.manifest.exists()]
    if request.settings.tracking.enabled and manifests and submissions_folder(request.output).exists():
        subprocess.Popen(
            [sys.executable, "-m", "sweeps.mirror", *manifests, "--uri", request.tracking_uri],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _track(grid: Grid, console: Console) -> int:
    from sweeps.track import sync

    write_json(grid.request.manifest, manifest(grid))
    summary = sync(grid.request.manifest, grid.request.tracking_uri)
    console.print(str(summary), markup=False, highlight=False)
    return 1 if summary.problems else 0


def _help_of(schema: dict, key: str) -> str:
    """The help text of a dotted key in a JSON schema."""
    node = schema
    for part in key.split("."):
        node = node["properties"][part]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node.get("description", "")
