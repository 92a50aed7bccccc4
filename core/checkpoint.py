"""Checkpoints: the newest good state of a training, and the one before it.

A checkpoint is an ordinary torch file (a zip archive), replaced atomically. Its checksums are the
CRC-32 of every record of the archive: a truncated or damaged file is noticed and put aside.
"""

import contextlib
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from core.rundir import write_atomically


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(path: Path, state: dict[str, Any]) -> None:
    """Make `state` (tensors and plain values) the newest checkpoint. Raises: OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if path.exists():
        os.replace(path, previous(path))
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, on the CPU; None where there is none."""
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        if is_whole(candidate):
            return torch.load(candidate, map_location="cpu", weights_only=True)
        print(f"{candidate}: damaged checkpoint, put aside", file=sys.stderr)
        with contextlib.suppress(FileNotFoundError):  # another process of the same run was faster
            # Left in place it would be kept as the one before the next, instead of the good one.
            os.replace(candidate, candidate.with_name(f"{candidate.stem}.damaged{candidate.suffix}"))
    return None


def is_whole(path: Path) -> bool:
    """Whether every record of the archive is there with the right checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False
