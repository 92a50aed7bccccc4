"""The lease: the right of one worker to execute a run, as a file `lease.json` in its run directory.

The file names host, boot, process and SLURM job of its owner. It is looked at and replaced only under a
short file lock, so of many workers that want a run exactly one gets it; a lease whose owner is dead is
taken over. An owner on this host is dead when its process is gone (whatever the file's age); an owner on
another host is dead when it has not renewed its lease for `STALE_SECONDS`, or for `OWN_STALE_SECONDS` if it
was an earlier attempt of the SLURM job that asks: SLURM has given that one up, but a node that is only cut off
may still execute it. For the latter reason a run is submitted again after `OWN_STALE_SECONDS` if its job has left
the queue (sweeps/cluster.py), and a job waits for one whose owner seems to have died (sweeps/job.py).
"""

import contextlib
import os
import socket
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from core.rundir import GROUP_MODE, read_json, write_json

RENEW_SECONDS = 15.0
STALE_SECONDS = 300.0
OWN_STALE_SECONDS = 3 * RENEW_SECONDS


class Lease:
    """A held lease; renewed by a thread until `release`."""

    def __init__(self, path: Path, owner: dict[str, Any]):
        self._path = path
        self._owner = owner
        self._released = threading.Event()
        self.lost = False
        """Whether another worker took the lease over, believing this one dead."""
        threading.Thread(target=self._renew, daemon=True).start()

    @classmethod
    def acquire(cls, path: Path) -> "Lease | None":
        """The lease at `path`, or None while another living worker holds it."""
        with _lock(path):
            if holder(path) is not None:
                return None
            owner = this_process()
            write_json(path, owner)
        return cls(path, owner)

    def release(self) -> None:
        self._released.set()
        with contextlib.suppress(OSError), _lock(self._path):
            if read_owner(self._path) == self._owner:
                self._path.unlink()

    def _renew(self) -> None:
        while not self._released.wait(RENEW_SECONDS):
            try:
                self.lost = read_owner(self._path) != self._owner
                if not self.lost:
                    os.utime(self._path)
            except OSError:
                continue  # A full or unreachable disk ends the run where it writes, not here.


def holder(path: Path) -> dict[str, Any] | None:
    """The owner named in the lease file if it is alive, else None. Needs no lock."""
    owner = read_owner(path)
    if owner is None or not is_alive(owner, path):
        return None
    return owner


def read_owner(path: Path) -> dict[str, Any] | None:
    """The owner that the file names, dead or alive; None where the file is absent or unreadable."""
    try:
        return read_json(path)
    except ValueError:  # no JSON, or not even text
        return None


def is_alive(owner: dict[str, Any], path: Path) -> bool:
    if owner["host"] != socket.gethostname():
        job, restart = slurm_job()
        is_own_past = job and owner["job"] == job and owner["restart"] < restart
        return not is_overdue(path, OWN_STALE_SECONDS if is_own_past else STALE_SECONDS)
    return owner["boot"] == boot_id() and process_started(owner["pid"]) == owner["started"]


def is_overdue(path: Path, seconds: float) -> bool:
    """Whether the lease has not been renewed for `seconds`; True where there is none."""
    try:
        return time.time() - path.stat().st_mtime >= seconds
    except FileNotFoundError:
        return True


def this_process() -> dict[str, Any]:
    """What identifies this process, also after its number is given to another one."""
    job, restart = slurm_job()
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "started": process_started(os.getpid()),
        "job": job,
        "restart": restart,
        "time": round(time.time(), 3),
    }


def slurm_job() -> tuple[str, int]:
    """The SLURM job of this process, `<array job>_<index>` in an array, and how often it was queued again."""
    job, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{index}" if job else os.environ.get("SLURM_JOB_ID", "")
    return name, int(os.environ.get("SLURM_RESTART_COUNT", 0))


def process_started(pid: int) -> float | None:
    """When a living process started; None if it is gone or a zombie.

    On Linux in ticks since the boot, which a corrected clock does not change; elsewhere in seconds.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if sys.platform == "linux":
            # After the command name, which may hold anything, come the fields from the third on.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[19])
        return round(process.create_time(), 1)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


@cache
def boot_id() -> str:
    """What tells this boot of the machine from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round(psutil.boot_time()))


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(".lease.lock"), timeout=60, mode=GROUP_MODE)
