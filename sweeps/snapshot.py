"""The code that queued jobs run: a copy of the program as it was at submission.

`outputs/code/<hash>/` is named by the code in it, so submissions of the same code share one; each looks whether it is
still whole. `SOURCE.json` in it says which commit it is and whether it differs from it, `changes.patch` how; results of
the jobs are recorded with the former.
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from core.environment import SOURCE_FILE, source_version
from core.rundir import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ablations", "core", "reports", "sweeps")
CHANGES_FILE = "changes.patch"


def freeze(folder: Path) -> Path:
    """The copy of the running program below `folder`, made if it is not there and repaired where it is damaged."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*") if _is_code(file))
    commit, dirty = source_version()
    # Read once: an edit between the hash and the copy would put other code under its name.
    contents = {str(file.relative_to(ROOT)): file.read_bytes() for file in files}
    contents[SOURCE_FILE] = json.dumps({"commit": commit, "dirty": dirty}).encode()
    contents[CHANGES_FILE] = _changes() if dirty else b""
    content_hash = hashlib.blake2b(digest_size=8)
    for name, content in contents.items():
        content_hash.update(f"\0{name}\0".encode() + content)
    target = folder / content_hash.hexdigest()
    is_new = not target.exists()
    # File by file, each replaced atomically: jobs may be running from it.
    for name, content in contents.items():
        if not _has(target / name, content):
            write_atomically(target / name, content)
    if is_new:
        _copy_compiled(target)
    return target


def _has(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except FileNotFoundError:
        return False


def _copy_compiled(target: Path) -> None:
    """What numba has compiled here, so that jobs on such processors need not compile again; they can where it fails.

    Only into a new copy: in another, jobs on other processors may have given such names to code of theirs.
    """
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
