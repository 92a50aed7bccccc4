"""What SLURM knows: its queue, its accounting and its limits, each asked with one call for all jobs.

Legend: a task is one element of a job array, `<array job>_<index>`; a submission's arrays have its name.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.errors import Cause, InvalidValue, UserError
from sweeps.launcher import SlurmSettings, minutes

CALL_SECONDS = 60.0


class SlurmUnavailable(UserError):
    """SLURM does not answer, or refuses; its text is one line."""


@dataclass(frozen=True)
class Task:
    """One task as SLURM sees it."""

    name: str
    """Job name."""
    id: str
    """`<array job>_<index>`."""
    index: int
    state: str
    """In SLURM's words: PENDING, RUNNING, COMPLETED, TIMEOUT, ..."""
    node: str
    note: str
    """Why it waits, or the exit code with which it ended."""

    @property
    def waits(self) -> bool:
        """In the queue, and not yet (or not any more) on a node."""
        return self.state in WAITING

    @property
    def is_ending(self) -> bool:
        """On its way out of the queue: it begins no run any more, unless it comes back to the queue."""
        return self.state == "COMPLETING"

    @property
    def is_killed(self) -> bool:
        """Whether it ended by a signal, in SLURM's notation `<exit code>:<signal>`, and not by itself."""
        code, _, number = self.note.partition(":")
        return number not in ("", "0") or (code.isdigit() and int(code) >= 128)

    @property
    def job(self) -> str:
        return self.id.partition("_")[0]


WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "PREEMPTED")
"""States of a task that is in the queue without running."""

CAUSES = {
    "TIMEOUT": Cause.TIMEOUT,
    "DEADLINE": Cause.TIMEOUT,
    "PREEMPTED": Cause.PREEMPTED,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "BOOT_FAIL": Cause.NODE_FAILURE,
    "OUT_OF_MEMORY": Cause.OUT_OF_MEMORY,
    "CANCELLED": Cause.CANCELLED,
    "FAILED": Cause.KILLED,
}
"""What the end of a task says of the run that it executed, where the run itself could not say it."""


def require() -> None:
    """Raises: SlurmUnavailable where jobs cannot be submitted."""
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            instead = "use launcher=local, or a machine of the cluster"
            raise SlurmUnavailable(f"launcher=slurm: no {program} on the path: {instead}")


def queue(names: Sequence[str]) -> list[Task]:
    """The tasks in the queue, waiting or running, of the jobs with these names.

    Raises: SlurmUnavailable.
    """
    if not names:
        return []
    lines = _ask("squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%j|%F|%K|%T|%N|%r")
    return [
        Task(name, f"{job}_{index}", int(index), state, node, reason)
        for name, job, index, state, node, reason in _fields(lines, 6)
        if index.isdigit() and state not in ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT")
    ]


def accounting(names: Sequence[str], since: float) -> list[Task]:
    """How the tasks of the jobs with these names ended, or how they are; the newest attempt of each.

    since: seconds since 1970 of the first of their submissions.
    Raises: SlurmUnavailable.
    """
    if not names:
        return []
    lines = _ask(
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        "--allusers",
        f"--name={','.join(names)}",
        f"--starttime=now-{_minutes_since(since)}minutes",
        "--format=JobName,JobID,State,NodeList,ExitCode",
    )
    tasks = []
    for name, identity, state, node, code in _fields(lines, 5):
        index = identity.partition("_")[2]
        if index.isdigit() and state:
            # "CANCELLED by 0" says who did it.
            tasks.append(Task(name, identity, int(index), state.split()[0], node, code))
    return tasks


@dataclass(frozen=True)
class Limits:
    """What the cluster allows; SLURM's own defaults where it does not say."""

    largest_array: int = 1001
    """Tasks that one array may have."""
    kill_seconds: int = 30
    """From a job's SIGTERM to its SIGKILL."""


def limits() -> Limits:
    """Raises: SlurmUnavailable, also where a cluster takes no arrays."""
    told = dict(re.findall(r"^(MaxArraySize|KillWait) *= *(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE))
    found = {"largest_array": told.get("MaxArraySize"), "kill_seconds": told.get("KillWait")}
    allowed = Limits(**{name: int(value) for name, value in found.items() if value is not None})
    if allowed.largest_array < 2:
        said = f"this cluster takes no job arrays (MaxArraySize={allowed.largest_array})"
        raise SlurmUnavailable(f"launcher=slurm: {said}")
    return allowed


def check_time(settings: SlurmSettings) -> None:
    """Raises: UserError if the time limit is above that of the partition, where a job would wait for ever."""
    asked = minutes(settings.time)
    for line in _ask("scontrol", "show", "partition", "--oneliner").splitlines():
        facts = dict(re.findall(r"(\w+)=(\S+)", line))
        name = facts.get("PartitionName", "")
        chosen = name in settings.partition.split(",") if settings.partition else facts.get("Default") == "YES"
        limit = minutes(facts.get("MaxTime", "UNLIMITED"))
        if chosen and limit is not None and asked is not None and asked > limit:
            allowed = f"at most {facts['MaxTime']}, the limit of partition {name}"
            raise InvalidValue("launcher.time", settings.time, allowed)


def cancel(jobs: Sequence[str]) -> None:
    """Raises: SlurmUnavailable, with SLURM's own words."""
    if jobs:
        _ask("scancel", *jobs)


def why_told_to_end(job: str, restarts: int, seconds: float) -> Cause | None:
    """Why a job that has begun `restarts` times before got SIGTERM; None where SLURM does not answer within `seconds`.

    Preempted where SLURM has already counted another restart: it queues the job again, to make room or for an operator.
    None also where SLURM lets the job run: srun ends the other processes of one that lost one.
    """
    try:
        facts = dict(re.findall(r"(\w+)=(\S+)", _ask("scontrol", "show", "job", "--oneliner", job, seconds=seconds)))
    except SlurmUnavailable:
        return None
    if facts.get("PreemptTime", "None") not in ("None", "N/A") or int(facts.get("Restarts", 0)) > restarts:
        return Cause.PREEMPTED
    if facts.get("Reason") == "TimeLimit":
        return Cause.TIMEOUT
    return None if facts.get("JobState") == "RUNNING" else Cause.CANCELLED


def _minutes_since(moment: float) -> int:
    """Whole minutes from then to now, with some to spare for clocks that differ."""
    return int((time.time() - moment) / 60) + 10


def _fields(lines: str, count: int) -> Iterator[list[str]]:
    for line in lines.splitlines():
        fields = line.split("|")
        if len(fields) == count:
            yield fields


def _ask(*command: str, seconds: float = CALL_SECONDS) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
    except FileNotFoundError:
        raise SlurmUnavailable(f"no {command[0]} on the path: this is no machine of the cluster") from None
    except OSError as error:
        raise SlurmUnavailable(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SlurmUnavailable(f"{command[0]} did not answer within {seconds:.0f} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SlurmUnavailable(f"{command[0]}: {said}")
    return done.stdout
