"""The circumstances of a result: commit, versions and hardware (design invariant 6)."""

import ctypes
import os
import platform
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from core.rundir import read_json

ROOT = Path(__file__).resolve().parent.parent
SOURCE_FILE = "SOURCE.json"
"""Beside the packages in a copy of the program (sweeps/snapshot.py): {"commit", "dirty"}."""
PACKAGES = ("torch", "torchvision", "numba", "numpy", "pillow")
"""The packages that can change a number; the rest is in the environment of whoever runs it."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def describe(device: str) -> dict[str, Any]:
    """What a result is recorded with."""
    import torch

    return {**_of_this_process(device), "threads": torch.get_num_threads()}


@cache
def _of_this_process(device: str) -> dict[str, Any]:
    import torch

    commit, dirty = source_version()
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "cpu": cpu_model(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


@cache
def source_version() -> tuple[str, bool]:
    """Commit of the checkout that runs, and whether it has uncommitted changes; ("", False) without git.

    A copy of the program that waited in a queue says what it was copied from, and nothing where that file is damaged.
    """
    try:
        copied_from = read_json(ROOT / SOURCE_FILE)
    except ValueError:
        return "", False
    if copied_from is not None:
        return copied_from["commit"], copied_from["dirty"]
    commit = _git("rev-parse", "HEAD")
    return commit, bool(commit and _git("status", "--porcelain", "--untracked-files=no"))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, as a training takes the same large blocks again and again.

    Giving them back to the system each time costs page faults: a tenth of a step at `mini`, a twentieth of a linear
    evaluation. glibc only.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        if not mallopt(_M_MMAP_THRESHOLD, 2**30):
            mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that older versions take
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, "--no-optional-locks", *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
