"""The code that queued jobs run: a copy of the program as it was at submission.

`outputs/code/<hash>/` is named by the code in it, so submissions of the same code share one. `SOURCE.json` in it
says which commit it is and how it differs from it; results of the jobs are recorded with that.
"""

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from core.environment import SOURCE_FILE, source_version
from core.rundir import write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ablations", "core", "reports", "sweeps")
CHANGES_FILE = "changes.patch"


def freeze(folder: Path) -> Path:
    """The copy of the running program below `folder`, made if it is not there."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*") if _is_code(file))
    commit, dirty = source_version()
    changes = _changes() if dirty else b""
    content = hashlib.blake2b(f"{commit} {dirty}".encode() + changes, digest_size=8)
    for file in files:
        content.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    target = folder / content.hexdigest()
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            for file in files:
                copy = temporary / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            _copy_compiled(temporary)
            write_json(temporary / SOURCE_FILE, {"commit": commit, "dirty": dirty})
            (temporary / CHANGES_FILE).write_bytes(changes)
            temporary.chmod(0o755)
            try:
                temporary.rename(target)
            except OSError:
                if not target.exists():  # else another submitter was faster
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _copy_compiled(target: Path) -> None:
    """What numba has compiled here, so that jobs on such processors need not compile again; they can where it fails."""
    for file in (ROOT / "core").rglob("__pycache__/*.nb[ic]"):
        copy = target / file.relative_to(ROOT)
        with contextlib.suppress(OSError):
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)


def _is_code(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _changes() -> bytes:
    """What the checkout has on top of its commit; new files are in the copy itself."""
    return subprocess.run(["git", "-C", ROOT, "diff", "HEAD", "--binary"], capture_output=True, timeout=60).stdout
