"""Whether output_dir can be used for what is asked, told before anything is done."""

import os
import tempfile
from pathlib import Path

from core.errors import UserError
from sweeps.request import Request


def check(request: Request) -> None:
    """Raises: UserError if output_dir is no folder, cannot be read or, where the action writes, written, or is full."""
    output = request.output
    try:
        there = next(folder for folder in (output, *output.parents) if folder.exists())
    except OSError as error:
        raise UserError(f"output_dir={output}: must be a folder that can be read ({error.strerror})") from None
    if not there.is_dir():
        raise UserError(f"output_dir={output}: must be a folder, and {there} is none")
    if not os.access(there, os.R_OK | os.X_OK):
        raise UserError(f"output_dir={output}: must be a folder that can be read")
    if request.settings.action in ("run", "report", "track"):
        _check_writable(output)
    said = why_unwritable(request.runs, output) if request.settings.action == "run" else ""
    if said:  # else every run would fail by itself, in its worker or its job
        raise UserError(said)


def why_unwritable(path: object, output: Path) -> str:
    """What to tell who may not write to a path in output_dir, where that is why; empty where it is not."""
    if not isinstance(path, str | Path) or not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(output)):
        return ""
    there = next(place for place in (Path(path), *Path(path).parents) if os.path.exists(place))
    if os.access(there, os.W_OK):
        return ""
    try:
        owner = there.owner()
    except KeyError:  # an account that this machine does not know
        owner = f"user {there.stat().st_uid}"
    return (
        f"output_dir={output}: {there} belongs to {owner} and cannot be written; a folder that several people use must "
        "be group-writable (umask 002, setgid)"
    )


def _check_writable(output: Path) -> None:
    """Raises: UserError if the folder cannot be written to."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(bytes(2**16))  # a full disk takes empty files
    except OSError as error:
        raise UserError(f"output_dir={output}: must be a folder that can be written to ({error.strerror})") from None
