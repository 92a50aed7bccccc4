"""Hand what is missing of a study to SLURM, as job arrays, and return.

Only one submitter at a time looks, decides and submits (a lock in the output folder), and what it hands over
is written down first: so submitting again, by anybody and after any crash, submits only what is missing.
submitit writes the sbatch text, calls sbatch and reads the job's number. Its pickles are left out: a job finds
its runs by its submission's folder and its index, which is whole on disk before sbatch is called.
"""

import contextlib
import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from rich.console import Console

from core.errors import InvalidValue, UserError
from core.rundir import GROUP_MODE, write_json
from sweeps import cluster, slurm
from sweeps.costs import Speed, check_disk
from sweeps.grid import Grid
from sweeps.launcher import SlurmSettings
from sweeps.manifest import manifest
from sweeps.plan import Plan, plan
from sweeps.request import Request
from sweeps.snapshot import freeze
from sweeps.submission import (
    LOG_FOLDER,
    MEMORY_WORDS,
    REQUEUE_CODE,
    TOO_SHORT_CODE,
    Submission,
    new_name,
    split,
    submissions_folder,
    tasks_for,
)
from sweeps.sweep import is_on_gpu
from sweeps.uri import without_password

LOCK_SECONDS = 120.0
TRIES, TRY_SECONDS = 20, 5
"""Of a batch script, to reach the controller."""


def submit(grid: Grid, console: Console) -> int:
    """Submit what is missing of the study; the exit code.

    Raises: UserError, with nothing submitted but what its text names.
    """
    request = grid.request
    check(request)
    with _only_submitter(request.output):
        earlier = cluster.close_ended(request.output)
        (view,) = cluster.look([grid], ending=False)
        plan_ = plan(grid.runs().values(), view.states)
        check_disk(grid, plan_)
        write_json(request.manifest, manifest(grid))
        counts = f"{len(plan_.done)} done, {len(plan_.running)} running, {len(plan_.queued)} queued already"
        console.print(f"{request.study.name}: {len(grid.cells)} cells, {len(grid.runs())} runs: {counts}")
        later = cluster.lacking_evaluations(grid, view)
        if later:
            console.print(
                f"{len(later)} of those in the queue were submitted without all of these evaluations: submit again "
                "for the rest when they are done"
            )
        if plan_.hopeless:
            console.print(f"{len(plan_.hopeless)} run(s) diverged before and would again: see action=status")
        if not plan_.to_do:
            console.print("nothing to submit")
            return 1 if plan_.hopeless or later else 0
        submission = prepare(grid, plan_, freeze(request.output / "code"), slurm.limits())
        submission.write_runs(plan_.to_do)
        # A limit of jobs that run at the same time holds within one array, so arrays follow each other.
        after = ":".join(earlier) if request.launcher.max_parallel else ""
        submission = _submit_arrays(submission, request.launcher, after)
    jobs = f"{_jobs_in_arrays(submission)}: {' '.join(submission.array_jobs)}"
    console.print(f"submitted {len(submission.runs)} runs as {jobs}")
    words = [word for word in sys.argv if not word.startswith("action=")]
    for text, action in (("follow", "status"), ("stop", "cancel"), ("report", "report")):
        console.print(f"{text:8} python {shlex.join([*words, f'action={action}'])}", markup=False, highlight=False)
    return 1 if later else 0


def _server(request: Request) -> str:
    """The MLflow server that jobs write to; empty where there is none."""
    tracking = request.settings.tracking
    return tracking.uri if tracking.enabled and tracking.uri.startswith("http") else ""


def check(request: Request) -> None:
    """Raises: UserError for what is wrong with a request whatever its runs are."""
    slurm.require()
    if "%" in str(request.output):
        raise UserError(f"output_dir={request.output}: without %, which SLURM replaces in the names of logs")
    slurm.check_time(request.launcher)
    # A server's password would stand in the submission's file, for all to read.
    uri = _server(request)
    if urlsplit(uri).password:
        allowed = "without a password, which SLURM passes on from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise InvalidValue("tracking.uri", without_password(uri), allowed)


def prepare(grid: Grid, plan_: Plan, code: Path, allowed: slurm.Limits) -> Submission:
    """The submission of what the plan has to do; pure but for its name."""
    request = grid.request
    settings: SlurmSettings = request.launcher
    runs = tuple(run.id for run in plan_.to_do)
    limit = min(settings.array_limit or allowed.largest_array, allowed.largest_array)
    return Submission(
        folder=submissions_folder(request.output) / new_name(request.study.name),
        study=request.study.name,
        runs=runs,
        machine=grid.machine(),
        code=str(code),
        runs_per_job=settings.runs_per_job,
        jobs=min(settings.jobs, len(runs)),
        retries=settings.retries,
        signal_seconds=settings.signal_seconds,
        kill_seconds=allowed.kill_seconds,
        tracking_uri=_server(request),
        arrays=split(tasks_for(len(runs), settings.runs_per_job, settings.jobs), limit),
    )


def show(grid: Grid, plan_: Plan, speed: Speed, console: Console, *, with_text: bool = True) -> None:
    """Print what would be submitted, of a request that is checked: jobs, hours and the sbatch text."""
    settings: SlurmSettings = grid.request.launcher
    if not plan_.to_do:
        console.print("nothing to submit")
        return
    submission = prepare(grid, plan_, grid.request.output / "code" / "...", slurm.limits())
    hours, unit = speed.of_plan(plan_) / 3600, "GPU hours" if is_on_gpu(grid) else "hours of one worker"
    if is_on_gpu(grid) and speed.is_measured:
        hours *= settings.tasks  # which share a run, so that its seconds are those of all their GPUs
    jobs = f"{_jobs_in_arrays(submission)}, about {hours:,.1f} {unit} ({speed.basis})"
    if not with_text:
        console.print(jobs, highlight=False)
        return
    console.print(f"{jobs}; the first:\n", highlight=False)
    console.print(sbatch_text(submission, 0, settings) + "\n", markup=False, highlight=False, soft_wrap=True)


def _jobs_in_arrays(submission: Submission) -> str:
    tasks, arrays = sum(submission.arrays), len(submission.arrays)
    return f"{tasks} job{'s' * (tasks > 1)} in {arrays} array{'s' * (arrays > 1)}"


def sbatch_text(submission: Submission, array: int, settings: SlurmSettings, after: str = "") -> str:
    """The script of one array, as it is handed to sbatch; `after`: arrays whose end it waits for, joined by colons."""
    executor = _executor(submission, array, settings, after)
    return executor._make_submission_file_text(executor._submitit_command_str, "")


def _submit_arrays(submission: Submission, settings: SlurmSettings, after: str) -> Submission:
    """`after`: the arrays that the first one waits for, empty where it waits for none.

    Raises: UserError with SLURM's own words. What was submitted before stays, and is recognised.
    """
    submission.write()
    (submission.folder / LOG_FOLDER).mkdir()
    for array in range(len(submission.arrays)):
        executor = _executor(submission, array, settings, after)
        try:
            job = _call_sbatch(executor, settings)
        except UserError as error:
            if not submission.array_jobs:
                if isinstance(error, LostAnswer):
                    raise UserError(f"{error}; SLURM may have taken the jobs all the same: see action=status") from None
                shutil.rmtree(submission.folder)
                raise
            jobs = " ".join(submission.array_jobs)
            raise UserError(f"{error}; handed over before: jobs {jobs}; submit again for the rest") from None
        submission = submission.with_array_job(job)
        after = job if settings.max_parallel else ""
    return submission


class LostAnswer(UserError):
    """sbatch does not know what became of what it sent."""


_UNANSWERED = ("timed out", "Unable to contact", "Zero Bytes", "send/recv")


def _call_sbatch(executor: Any, settings: SlurmSettings) -> str:
    """SLURM's number of the array. Raises: UserError; LostAnswer where the array may be in the queue all the same."""
    import submitit

    try:
        # submitit prints what it also raises.
        with contextlib.redirect_stderr(io.StringIO()), _without_variables(settings):
            return executor._submit_command(executor._submitit_command_str).job_id.partition("_")[0]
    except submitit.core.utils.FailedSubmissionError as error:
        raise LostAnswer(f"sbatch: {' '.join(str(error).split())}") from None
    except submitit.core.utils.FailedJobError as error:
        said = [line for line in str(error).splitlines() if "sbatch: error" in line] or [f"sbatch: {error}"]
        kind = LostAnswer if any(words in " ".join(said) for words in _UNANSWERED) else UserError
        raise kind(" ".join(" ".join(said).split())) from None


_VARIABLES = ["JOB_NAME", "ARRAY_INX", "OUTPUT", "ERROR", "OPEN_MODE", "REQUEUE", "NO_REQUEUE", "SIGNAL", "TIMELIMIT"]
_VARIABLES += ["WAIT", "CLUSTERS", "DEPENDENCY"]
_MEMORY = ["MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"]
_GPUS = ["GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GRES"]
_VARIABLES_OF_SETTINGS = {
    "partition": ["PARTITION"],
    "account": ["ACCOUNT"],
    "qos": ["QOS"],
    "constraint": ["CONSTRAINT"],
    "mem_gb": _MEMORY,
    "gpus_per_node": _GPUS,
    "gres": _GPUS,
}
_ALWAYS_KEPT = ("SLURM_CONF", "SLURM_JWT")


@contextmanager
def _without_variables(settings: SlurmSettings) -> Iterator[None]:
    """Without the variables that sbatch would prefer to what its script asks for; others are the user's defaults.

    And without those of a job from within which this one is submitted, which say what that one has.
    """
    asked = [variable for key, names in _VARIABLES_OF_SETTINGS.items() if getattr(settings, key) for variable in names]
    asked += [key.upper().replace("-", "_") for key in settings.extra]
    names = {f"SBATCH_{name}" for name in (*_VARIABLES, *asked)}
    if "SLURM_JOB_ID" in os.environ:
        names |= {name for name in os.environ if name.startswith(("SLURM_", "SLURMD_", "SRUN_"))} - {*_ALWAYS_KEPT}
    kept = {name: os.environ.pop(name) for name in names & os.environ.keys()}
    try:
        yield
    finally:
        os.environ.update(kept)


def _executor(submission: Submission, array: int, settings: SlurmSettings, after: str) -> Any:
    """submitit's executor, which runs our command instead of its pickles."""
    import submitit

    class ArrayExecutor(submitit.SlurmExecutor):
        @property
        def _submitit_command_str(self) -> str:
            return f"{self.python} -u -m sweeps.job {shlex.quote(str(submission.folder))} {array}"

    executor = ArrayExecutor(
        folder=submission.folder / LOG_FOLDER, python=shlex.quote(settings.python or sys.executable)
    )
    executor.update_parameters(**_parameters(submission, array, settings, after))
    executor.parameters["map_count"] = submission.arrays[array]
    return executor


def _parameters(submission: Submission, array: int, settings: SlurmSettings, after: str) -> dict[str, Any]:
    """What submitit puts into the sbatch text; what is left to the cluster is left out."""
    asked = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "exclude": settings.exclude,
        "comment": settings.comment,
        "gpus_per_node": settings.gpus_per_node,
        "gres": settings.gres,
        "mem": f"{max(1, round(settings.mem_gb * 1024))}M" if settings.mem_gb else "",
        "dependency": f"afterany:{after}" if after else "",
    }
    return {
        **{key: value for key, value in asked.items() if value},
        "job_name": submission.job_name(array),
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.tasks // settings.nodes,
        "cpus_per_task": settings.cpus_per_task,
        "array_parallelism": settings.max_parallel or submission.arrays[array],
        "stderr_to_stdout": True,
        # Python's -m looks for the program in the working directory first: the copy, not the checkout.
        "additional_parameters": {
            "chdir": submission.code,
            "requeue": True,
            # The one that jobs listen to, whatever submitit's own variable says.
            "signal": f"USR2@{settings.signal_seconds}",
            **settings.extra,
        },
        # A shell without a trap would die of the signal that ends its program, and could not queue the job again; nor
        # could one that ends with its program, as `set -e` has it.
        "setup": ["told= again=", "trap 'told=true' TERM", *settings.setup, "set +eu"],
        # What the setup lines export reaches the program, even where sbatch was told to pass nothing on.
        "srun_args": ["--kill-on-bad-exit=1", "--export=ALL", f"--cpus-per-task={settings.cpus_per_task}"],
        "teardown": _teardown(submission),
    }


def _teardown(submission: Submission) -> list[str]:
    """Shell lines after the program: queue the job again where its end can pass, and end as the program did."""
    # Not SLURM_JOB_ID, which is that of the whole array in one of its tasks.
    task = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    log = submission.log(task)
    memory = " ".join(f"-e {shlex.quote(words)}" for words in MEMORY_WORDS)
    return [
        "code=$?",
        f"task={task}",
        f"log={shlex.quote(str(log.parent))}/{log.name}",
        # Not SLURM's count of restarts, which has preemptions too; and not again where it cannot be written.
        f'is_seldom() {{ echo >> "$log.kills" && [ "$(wc -l < "$log.kills")" -le {submission.retries} ]; }}',
        # The controller may be away for a while; what it refuses, it will refuse again.
        f"insist() {{ for try in $(seq {TRIES}); do",
        '  said=$("$@" 2>&1) && echo "$said" && return',
        f"  case $said in *pending*|*disabled*|*nvalid*|*enied*) break ;; *) sleep {TRY_SECONDS} ;; esac",
        'done; echo "$said"; return 1; }',
        "case $code in",
        f"  {REQUEUE_CODE}) again=true ;;  # saved before its time is over, with work left",
        "  140|143) told=true ;;  # told to end before it listened",
        "  134|135|137|139)  # killed; for its memory it would be again",
        f'    [ -n "$told" ] || grep -qs {memory} "$log" || {{ is_seldom && again=true; }} ;;',
        "esac",
        '[ -z "$told" ] || case "$(insist scontrol show job --oneliner "$task")" in  # told to end: why?',
        "  *PreemptTime=[0-9]*) again=true ;;",
        "  *Reason=TimeLimit*) case $code in",
        f"    {REQUEUE_CODE}) ;;",
        f"    {TOO_SHORT_CODE}) again= ;;",
        "    *) is_seldom && again=true ;;",
        "  esac ;;",
        "  *JobId=*) again= ;;  # a scancel; or SLURM itself has queued it again",
        "esac",
        f'grep -qsx "$task" {shlex.quote(str(submission.cancelled_file))} && again=',
        '[ -z "$again" ] || insist scontrol requeue "$task"',
        "exit $code",
    ]


@contextmanager
def _only_submitter(output: Path) -> Iterator[None]:
    lock = submissions_folder(output) / ".lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(lock, timeout=LOCK_SECONDS, mode=GROUP_MODE).acquire()
    except NotImplementedError:
        raise UserError(f"output_dir={output}: must be on a file system that has locks (flock)") from None
    except Timeout:
        raise UserError(f"output_dir={output}: somebody else has been submitting for {LOCK_SECONDS:.0f} s") from None
    with held:
        yield
