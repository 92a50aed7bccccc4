"""Where runs execute: the settings of the three launchers, as `ablations/launcher/*.yaml` give them."""

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

_typed = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))

SIGNAL_SLACK = 60
"""Seconds by which SLURM may send a signal too early: a job that gets it at its start would never come to work."""


def _help(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


_OPTION = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_OWN_OPTIONS = frozenset(
    [
        "account",
        "array",
        "chdir",
        "clusters",
        "comment",
        "constraint",
        "cpus_per_task",
        "dependency",
        "error",
        "exclude",
        "gpus_per_node",
        "gres",
        "job_name",
        "mem",
        "no_requeue",
        "nodes",
        "ntasks",
        "ntasks_per_node",
        "open_mode",
        "output",
        "parsable",
        "partition",
        "qos",
        "requeue",
        "signal",
        "time",
        "wait",
    ]
)
"""What the program itself asks for: by some of it its jobs are found again."""


@_typed
class LocalSettings:
    """This machine's cores or GPUs."""

    name: Literal["local"] = "local"
    workers: Annotated[int, _help("runs at a time; 0: one per GPU or core", ge=0)] = 0
    processes_per_run: Annotated[int, _help("processes that share one run", ge=1)] = 1
    retries: Annotated[int, _help("times a killed run is taken up again", ge=0)] = 3


@_typed
class DebugSettings:
    """This very process."""

    name: Literal["debug"] = "debug"


@_typed
class SlurmSettings:
    """A SLURM cluster. Empty and 0 leave an option to the cluster's own default."""

    name: Literal["slurm"] = "slurm"
    partition: Annotated[str, _help("sbatch --partition")] = ""
    account: Annotated[str, _help("sbatch --account")] = ""
    qos: Annotated[str, _help("sbatch --qos")] = ""
    constraint: Annotated[str, _help("sbatch --constraint")] = ""
    exclude: Annotated[str, _help("sbatch --exclude: nodes to avoid")] = ""
    comment: Annotated[str, _help("sbatch --comment")] = ""
    time: Annotated[int | str, _help("time limit of a job: minutes, or SLURM's [days-]hours:minutes:seconds")] = 240
    nodes: Annotated[int, _help("nodes of a job", ge=1)] = 1
    tasks: Annotated[int, _help("processes that share one run, over all nodes of the job", ge=1)] = 1
    cpus_per_task: Annotated[int, _help("cores of a process", ge=1)] = 4
    gpus_per_node: Annotated[int, _help("GPUs of a node", ge=0)] = 0
    gres: Annotated[str, _help("sbatch --gres, for clusters that ask for GPUs so")] = ""
    mem_gb: Annotated[float, _help("memory of a node", ge=0, allow_inf_nan=False)] = 0.0
    extra: Annotated[
        dict[str, Literal[True] | int | str],
        _help("further sbatch options by their long name; true for one that takes no value"),
    ] = Field(default_factory=dict)
    setup: Annotated[list[str], _help("shell lines before the job's program, such as module load")] = Field(
        default_factory=list
    )
    python: Annotated[str, _help("Python on the nodes; empty: the path of this one")] = ""
    runs_per_job: Annotated[int, _help("runs that share a job, one after another", ge=1)] = 1
    jobs: Annotated[int, _help("number of jobs that take runs until none is left; 0: as runs_per_job says", ge=0)] = 0
    max_parallel: Annotated[
        int, _help("jobs of yours in this output_dir that run at the same time; 0: any number", ge=0)
    ] = 0
    array_limit: Annotated[int, _help("largest array; 0: the cluster's MaxArraySize", ge=0)] = 0
    retries: Annotated[int, _help("times a killed run is taken up again, and a killed job queued again", ge=0)] = 3
    signal_seconds: Annotated[int, _help("time before its limit at which a job saves and is queued again", ge=1)] = 90

    @field_validator("time")
    @classmethod
    def _check_time(cls, value: int | str) -> int | str:
        if minutes(value) is None:
            allowed = "minutes, or [days-]hours:minutes[:seconds], above 0"
            raise _invalid("launcher.time", value, allowed)
        return value

    @field_validator("extra")
    @classmethod
    def _check_extra(cls, value: dict[str, bool | int | str]) -> dict[str, bool | int | str]:
        for name in value:
            if not _OPTION.fullmatch(name):
                raise _invalid("launcher.extra", name, "long names of sbatch options, without the dashes")
            if name.replace("-", "_") in _OWN_OPTIONS:
                raise _invalid("launcher.extra", name, "only options that the program does not set itself")
        return value

    @model_validator(mode="after")
    def _check(self) -> "SlurmSettings":
        if self.tasks % self.nodes:
            raise _invalid("launcher.tasks", self.tasks, f"a multiple of launcher.nodes ({self.nodes})")
        per_node = self.tasks // self.nodes
        if self.gpus_per_node not in (0, per_node):
            allowed = f"as many as launcher.tasks puts on a node ({per_node}): each process uses one"
            raise _invalid("launcher.gpus_per_node", self.gpus_per_node, allowed)
        limit = minutes(self.time)
        if limit is not None and limit * 60 < self.signal_seconds + SIGNAL_SLACK:
            allowed = f"at most {SIGNAL_SLACK} s less than the time limit (launcher.time={self.time})"
            raise _invalid("launcher.signal_seconds", self.signal_seconds, allowed)
        if self.jobs and self.runs_per_job > 1:
            raise _invalid("launcher.runs_per_job", self.runs_per_job, "1 where launcher.jobs is set")
        return self


LAUNCHERS: dict[str, type] = {"local": LocalSettings, "debug": DebugSettings, "slurm": SlurmSettings}

_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def minutes(limit: int | str) -> float | None:
    """A time limit in SLURM's own notation as minutes; infinite where there is none, None where it is malformed.

    Without days, one number is minutes and two are minutes and seconds; after days, hours come first.
    """
    text = str(limit).strip()
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return float("inf")
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, *parts = (None if group is None else int(group) for group in match.groups())
    first, second, third = parts
    hours: int | None
    mins: int | None
    if days is not None or third is not None:
        hours, mins, seconds = first, second or 0, third or 0
    else:
        hours, mins, seconds = 0, first, second or 0
    return (days or 0) * 1440 + (hours or 0) * 60 + (mins or 0) + seconds / 60 or None


def _invalid(key: str, value: object, allowed: str) -> PydanticCustomError:
    return PydanticCustomError("invalid", "{allowed}", {"key": key, "value": value, "allowed": allowed})
