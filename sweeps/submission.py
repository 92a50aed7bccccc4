"""A submission: which runs were handed to SLURM together, and as which jobs.

`outputs/submissions/<name>/submission.json` is written before SLURM is asked, and its jobs carry its name: so
they are found again even if the submitter died before it could note their numbers. Beside it are `runs.jsonl`
with the config of every run, from which a job makes the run's directory when it begins, and its evaluations; and the
jobs' logs. A submission of many runs has several arrays where the cluster limits their size.
"""

import getpass
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import as_dict, run_config
from core.errors import UserError
from core.rundir import read_json, write_atomically, write_json
from sweeps.local import Work
from sweeps.slurm import Task
from sweeps.tail import end_of

if TYPE_CHECKING:
    from sweeps.planned import PlannedRun  # brings Hydra, which jobs do without

RECORD_FILE = "submission.json"
RUNS_FILE = "runs.jsonl"
SCHEMA = 4
ENDED_FILE = "ended"
CANCELLED_FILE = "cancelled"
LOG_FOLDER = "logs"
MEMORY_WORDS = ("oom-kill", "oom_kill", "exceeded memory limit")
"""In SLURM's line in a job's log when the job was killed for its memory."""
_LINE_START = b'{"id": "'
"""Of every line of runs.jsonl: most need not be read further."""
REQUEUE_CODE = 75
"""Exit code of a job that was told to end and wants to be queued again (EX_TEMPFAIL)."""
TOO_SHORT_CODE = 76
"""Exit code of a job that used up its time limit without finishing or saving anything."""


@dataclass(frozen=True)
class Submission:
    """What its jobs need to know, and what it takes to find them."""

    folder: Path
    study: str
    runs: tuple[str, ...]
    """Their ids, in the order in which they should start."""
    machine: dict[str, Any]
    """Dotted machine-only keys."""
    code: str
    """The copy of the program that the jobs run."""
    runs_per_job: int
    jobs: int
    """Jobs that share all runs; 0 where every job has runs of its own."""
    retries: int
    tracking_uri: str
    """MLflow server that jobs write to; empty where the mirror reads run directories only."""
    arrays: tuple[int, ...]
    """Number of tasks of each array."""
    signal_seconds: int = 90
    """How long before its time is over a job is told to end."""
    kill_seconds: int = 30
    """How long after that, or without a warning, SLURM kills what has not ended (its KillWait)."""
    array_jobs: tuple[str, ...] = ()
    """SLURM's number of each array, as far as they were submitted and noted."""
    user: str = field(default_factory=getpass.getuser)
    host: str = field(default_factory=socket.gethostname)
    time: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        return self.folder.name

    def job_name(self, array: int) -> str:
        return f"{self.name}.{array}"

    @property
    def ended_file(self) -> Path:
        return self.folder / ENDED_FILE

    @property
    def cancelled_file(self) -> Path:
        """The tasks that action=cancel has ended, a line each: none of them comes back to the queue."""
        return self.folder / CANCELLED_FILE

    def note_cancelled(self, tasks: Iterable[str]) -> None:
        with open(self.cancelled_file, "a") as file:
            file.writelines(f"{task}\n" for task in tasks)

    def withdraw_cancelled(self) -> None:
        """SLURM did not end them."""
        self.cancelled_file.unlink(missing_ok=True)

    def is_cancelled(self, task: str) -> bool:
        """False where the file cannot be read just now: the batch script looks there too."""
        try:
            return task in self.cancelled_file.read_text().split()
        except OSError:
            return False

    @property
    def job_names(self) -> list[str]:
        return [self.job_name(array) for array in range(len(self.arrays))]

    def runs_of(self, array: int, index: int) -> list[str]:
        """The ids of the runs of one task, in the order in which it should take them."""
        task = sum(self.arrays[:array]) + index
        if self.jobs:
            # Each begins at another place, so that they do not all ask for the same lease.
            begin = task * len(self.runs) // self.jobs
            return [*self.runs[begin:], *self.runs[:begin]]
        return list(self.runs[task * self.runs_per_job : (task + 1) * self.runs_per_job])

    def write_runs(self, runs: Iterable["PlannedRun"]) -> None:
        """A line per run; one file, because making ten thousand directories would keep the submitter waiting."""
        lines = (
            json.dumps(
                {
                    "id": run.id,
                    "evaluations": run.evaluations,
                    "evaluation_ids": run.evaluation_ids,
                    "config": as_dict(run.config),
                }
            )
            for run in runs
        )
        write_atomically(self.folder / RUNS_FILE, "\n".join(lines) + "\n")

    def work(self, runs: Sequence[str]) -> list[Work]:
        """Some of its runs with all that it takes to execute them, in the order given."""
        wanted, found = set(runs), {}
        with open(self.folder / RUNS_FILE, "rb") as file:
            for line in file:
                identity = line[len(_LINE_START) : line.index(b'"', len(_LINE_START))].decode()
                if identity in wanted:
                    record = json.loads(line)
                    found[identity] = Work(**{**record, "config": run_config(record["config"])})
                    if len(found) == len(wanted):  # of ten thousand lines most lie behind
                        break
        return [found[run] for run in runs]

    def evaluation_ids(self, runs: Set[str]) -> dict[str, set[str]]:
        """The ids of the evaluations that its jobs will make of some of its runs; none where they are not recorded."""
        if not (self.folder / RUNS_FILE).exists():  # of the first schema
            return {}
        with open(self.folder / RUNS_FILE, "rb") as file:
            records = [json.loads(line) for line in file]
        return {record["id"]: set(record["evaluation_ids"].values()) for record in records if record["id"] in runs}

    def write(self) -> None:
        record = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json(self.folder / RECORD_FILE, {"schema": SCHEMA, **record})

    def with_array_job(self, job: str) -> "Submission":
        """This submission with the number of its next array noted, on disk too."""
        noted = replace(self, array_jobs=(*self.array_jobs, job))
        noted.write()
        return noted

    def log(self, task: str) -> Path:
        """What a task printed; `task` is SLURM's number `<array job>_<index>`."""
        return self.folder / LOG_FOLDER / f"{task}_0_log.out"

    def tells_of_memory(self, task: str) -> bool:
        """Whether SLURM wrote to a task's log that it needed too much memory."""
        tail = self._tail(task)
        return any(words in tail for words in MEMORY_WORDS)

    def last_words(self, task: str) -> str:
        """The last line that the program of a task printed, before what SLURM adds."""
        lines = [line.strip() for line in self._tail(task).splitlines() if line.strip()]
        own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
        return (own or ["it printed nothing"])[-1]

    def _tail(self, task: str) -> str:
        return end_of(self.log(task)).decode(errors="replace")

    def end(self, told: Iterable[Task]) -> None:
        """Mark that no job of this submission is in the queue any more, nor will be; with how its tasks ended."""
        write_json(self.ended_file, [asdict(task) for task in told])

    def told(self) -> list[Task]:
        """What SLURM told when the submission had ended; nothing where that file is damaged."""
        try:
            return [Task(**task) for task in read_json(self.ended_file) or []]
        except ValueError:
            return []


def submissions_folder(output: Path) -> Path:
    return output / "submissions"


def new_name(study: str) -> str:
    return f"{study}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def tasks_for(count: int, runs_per_job: int, jobs: int) -> int:
    """How many tasks take `count` runs."""
    return min(jobs, count) if jobs else -(-count // runs_per_job)


def split(tasks: int, limit: int) -> tuple[int, ...]:
    """Sizes of the arrays that hold `tasks` tasks, none larger than `limit`."""
    return tuple(min(limit, tasks - begin) for begin in range(0, tasks, limit))


def read(folder: Path) -> Submission | None:
    """The submission in a folder; None where a crash left none. Raises: UserError if a newer program made it."""
    try:
        record = read_json(folder / RECORD_FILE)
    except ValueError:
        raise UserError(f"{folder / RECORD_FILE}: damaged; remove that folder, none of its jobs can run") from None
    if record is None:
        return None
    schema = record.pop("schema")
    if schema > SCHEMA:
        allowed = f"this program reads submissions of schema 1 to {SCHEMA}"
        raise UserError(f"{folder / RECORD_FILE}: schema={schema}: {allowed}")
    if schema == 1:  # its jobs run the program that made it; here it is only watched
        record["runs"] = [run["id"] for run in record["runs"]]
    for key in ("runs", "arrays", "array_jobs"):
        record[key] = tuple(record[key])
    return Submission(folder=folder, **record)


def open_submissions(output: Path) -> list[Submission]:
    """The submissions that may still have jobs in the queue, the oldest first."""
    return _read_all(output, lambda folder: not (folder / ENDED_FILE).exists())


def ended_submissions(output: Path) -> list[Submission]:
    """Those of whose end SLURM told something, the oldest first. (An empty list takes two bytes.)"""
    return _read_all(output, lambda folder: (folder / ENDED_FILE).exists() and (folder / ENDED_FILE).stat().st_size > 2)


def _read_all(output: Path, is_wanted: Callable[[Path], bool]) -> list[Submission]:
    folders = [file.parent for file in submissions_folder(output).glob(f"*/{RECORD_FILE}")]
    found = [read(folder) for folder in folders if is_wanted(folder)]
    return sorted((submission for submission in found if submission), key=lambda submission: submission.time)


def job_logs(output: Path, runs: Iterable[str]) -> dict[str, Path]:
    """For some runs the log of the newest job that had it on its list: all there is where the job died before the run.

    Jobs that share all their runs are left out: none of their logs is one run's.
    """
    logs, wanted = {}, set(runs)
    submissions = [one for one in (*ended_submissions(output), *open_submissions(output)) if not one.jobs]
    for submission in sorted(submissions, key=lambda one: one.time):
        for array, job in enumerate(submission.array_jobs):
            for index in range(submission.arrays[array]):
                log = submission.log(f"{job}_{index}")
                for run in wanted.intersection(submission.runs_of(array, index)):
                    if log.exists():
                        logs[run] = log
    return logs
