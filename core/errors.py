"""Errors that a user can act on, and the causes that a failed run can have."""

import difflib
import errno
from collections.abc import Iterable
from enum import StrEnum


class UserError(Exception):
    """A request that is wrong. Its text is the one line that the user sees (exit code 2)."""


class InvalidValue(UserError):
    """A key whose value is not allowed; the message names key, value and what is allowed."""

    def __init__(self, key: str, value: object, allowed: str):
        super().__init__(f"{key}={value}: {allowed}")
        self.key = key


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a misspelt `name`, offering the nearest of the `known` names."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "allowed: " + ", ".join(known)
    return UserError(f"unknown {kind} '{name}': {hint}")


class Cause(StrEnum):
    """Why a run did not finish (design invariant 5)."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE_FAILURE = "node failure"
    KILLED = "killed"
    CANCELLED = "cancelled"
    BAD_DATA = "bad data"
    DISK_FULL = "disk full"
    CODE_ERROR = "code error"

    @property
    def can_pass(self) -> bool:
        """Whether starting the run again, with nothing changed, can succeed."""
        return self in {Cause.TIMEOUT, Cause.PREEMPTED, Cause.NODE_FAILURE, Cause.KILLED, Cause.CANCELLED}


def cause_of(error: BaseException) -> Cause:
    """The cause that an exception stands for."""
    if isinstance(error, RunFailed):
        return error.cause
    # torch.OutOfMemoryError by its name: planning must not import torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Cause.OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Cause.DISK_FULL
    return Cause.BAD_DATA if isinstance(error, UserError) else Cause.CODE_ERROR


class RunFailed(Exception):
    """Training or evaluation ended without a result, for a known cause."""

    def __init__(self, cause: Cause, message: str):
        super().__init__(message)
        self.cause = cause
