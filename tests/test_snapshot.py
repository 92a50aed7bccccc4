"""The copy of the program that queued jobs run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import environment
from core.rundir import write_atomically
from sweeps import snapshot


def test_the_copy_runs_alone_and_knows_its_commit(tmp_path):
    copy = snapshot.freeze(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import core, json; from core.environment import source_version;"
         "print(core.__file__); print(json.dumps(source_version()))"],
        cwd=copy, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    file, version = done.stdout.splitlines()
    assert Path(file).is_relative_to(copy)
    record = json.loads((copy / "SOURCE.json").read_text())
    assert json.loads(version) == [record["commit"], record["dirty"]]


def invented_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of a few lines in place of this one."""
    source = folder / "source"
    for package in snapshot.PACKAGES:
        (source / package).mkdir(parents=True)
        (source / package / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(snapshot, "ROOT", source)
    return source


def test_the_same_code_is_copied_once_and_other_code_elsewhere(tmp_path, monkeypatch):
    source = invented_source(tmp_path, monkeypatch)
    first = snapshot.freeze(tmp_path / "code")
    assert snapshot.freeze(tmp_path / "code") == first
    (source / "core" / "module.py").write_text("x = 2\n")
    second = snapshot.freeze(tmp_path / "code")
    assert second != first
    assert (first / "core" / "module.py").read_text() == "x = 1\n"
    assert (second / "core" / "module.py").read_text() == "x = 2\n"
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == sorted([first.name, second.name])


def test_a_damaged_copy_is_repaired_while_jobs_run_from_it(tmp_path):
    copy = snapshot.freeze(tmp_path)
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    folder = copy.stat().st_ino
    (copy / "core" / "config.py").unlink()
    (copy / "sweeps" / "job.py").write_text("half a fi")
    (copy / "SOURCE.json").write_text("")
    shutil.rmtree(copy / "ablations")
    (copy / "core" / "of_a_job.nbi").write_text("compiled on a node")
    whole = (copy / "core" / "train.py").stat()
    assert snapshot.freeze(tmp_path) == copy
    assert {file: file.read_bytes() for file in before} == before
    assert copy.stat().st_ino == folder
    assert (copy / "core" / "of_a_job.nbi").exists()
    assert (copy / "core" / "train.py").stat() == whole


def test_an_edit_while_the_code_is_copied_is_not_in_the_copy(tmp_path, monkeypatch):
    source = invented_source(tmp_path, monkeypatch)

    def edit_and_write(path: Path, content: bytes) -> None:
        (source / "core" / "module.py").write_text("x = 2\n")
        write_atomically(path, content)

    monkeypatch.setattr(snapshot, "write_atomically", edit_and_write)
    first = snapshot.freeze(tmp_path / "code")
    assert (first / "core" / "module.py").read_text() == "x = 1\n"
    second = snapshot.freeze(tmp_path / "code")
    assert second != first
    assert (second / "core" / "module.py").read_text() == "x = 2\n"


def test_what_numba_has_compiled_goes_with_the_copy(tmp_path):
    call = (
        "import torch; from core.augment import compiled;"
        "compiled.blur(torch.rand(2, 3, 8, 8), torch.tensor([0]), torch.ones(1, 3))"
    )

    def compiled_files(folder: Path) -> dict[str, int]:
        environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        run = [sys.executable, "-c", call]
        subprocess.run(run, cwd=folder, check=True, env={**environment, "PYTHONPATH": str(folder)})
        return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*.nb[ic]")}

    compiled_files(snapshot.ROOT)
    copy = snapshot.freeze(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in copy.rglob("*.nb[ic]")}
    assert any("_blur" in name for name in before)
    assert compiled_files(copy) == before


@pytest.mark.parametrize("text", ['{"commit": "abc", "dirty": true}', '{"commit": "ab'])
def test_a_copy_says_what_it_was_copied_from_unless_that_is_damaged(text, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / environment.SOURCE_FILE).write_text(text)
    assert environment.source_version.__wrapped__() == (("abc", True) if text.endswith("}") else ("", False))
