"""What the command line does without a sweep: it looks without importing torch, and refuses in one line."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commandline import QUICK, RUN, call

WATCHED = """
import runpy, sys
sys.argv = {argv!r}
try:
    runpy.run_path({script!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code
print(sorted({{"torch", "mlflow"}} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["study=list"], ["study=augment_pairs", "action=plan"], ["study=augment_pairs", "action=status"]],
)
def test_looking_imports_neither_torch_nor_mlflow(folder: Path, arguments: list[str]):
    code = WATCHED.format(argv=["run.py", *arguments], script=RUN[1])
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study=augment_pair"], ["unknown study 'augment_pair'", "augment_pairs"]),
        (["study=augment_pairs", "train.epoch=1"], ["train.epoch", "train.epochs"]),
        (["study=augment_pairs", "data=image_folder"], ["data.root"]),
        (["study=augment_pairs", "data=image_folder", "data.root=/nowhere/at all"], ["data.root=/nowhere/at all"]),
        (["study=augment_pairs", "output_dir=/proc/outputs"], ["output_dir=/proc/outputs"]),
        (["study=augment_pairs", "augment.transforms.0=[crop,"], ["augment.transforms.0"]),
        (["--studdy"], ["--studdy", "--help"]),
        (["sudy=augment_pairs"], ["sudy", "study"]),
        (["action=plan"], ["study is missing"]),
        (["study=losses,head"], ["study=losses,head", "study=all"]),
        (["study=augment_pairs", "loss.temperature=inf"], ["loss.temperature=inf"]),
        (["study=augment_pairs", "augment.transforms.0=[]"], ["augment.transforms.0=[]"]),
        (["study=augment_pairs", "data.root=/pictures"], ["data.root=/pictures", "no effect"]),
        (["study=augment_pairs", "evaluate.linear.epochs=5"], ["evaluate.linear.epochs=5", "no effect"]),
        (
            ["study=augment_pairs", "data=image_folder", "data.root=/ö/a (b),c's #1"],
            ["data.root=/ö/a (b),c's #1: there"],
        ),
        (["study=augment_pairs", "output_dir=/dev/null/x"], ["output_dir=/dev/null/x", "must be a folder"]),
        (["study=augment_pairs", "output_dir="], ["output_dir=", "at least 1 character"]),
        (["study=augment_pairs", "train.epochs=true"], ["train.epochs=True", "a number"]),
        (["study=augment_pairs", "seeds=1000000000"], ["seeds=1000000000", "1 to 1000"]),
        (["study=augment_pairs", "seeds=[true]"], ["seeds", "a valid integer"]),
        (["study=augment_pairs", "evaluations=knn"], ["evaluations=knn", "[knn]"]),
        (["study=augment_pairs", "evaluations=linear,knn"], ["evaluations=linear,knn", "[knn]"]),
        (["study=augment_pairs", "evaluations=[[kn]]"], ["unknown evaluation", "knn"]),
        (["study=augment_pairs", f"seeds=[{2**63}]"], [f"seeds=[{2**63}]", "2^63"]),
        (["study=augment_pairs", "launcher.partition=gpu"], ["launcher.partition=gpu", "launcher=slurm"]),
        (["study=augment_pairs", "encoder.width=0.001"], ["encoder.width=0.001", "at least 8"]),
        (["study=augment_pairs", "augment.crop_area=[0,1]"], ["augment.crop_area=[0.0, 1.0]", "above 0"]),
        (["study=augment_pairs", "augment.noise_std=[0,99]"], ["augment.noise_std=[0.0, 99.0]", "at most 10"]),
        (["study=augment_pairs", "augment.crop_aspect=1"], ["augment.crop_aspect=1", "list"]),
        (["study=augment_pairs", "augment.crop_area=[true,true]"], ["augment.crop_area=[True, True]", "a number"]),
        (["study=augment_pairs", "output_dir=null"], ["output_dir=None", "valid string"]),
        (["train.epochs"], ["train.epochs: write key=value"]),
        (["--config-dir"], ["--config-dir=", "must be a folder"]),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], words: list[str]):
    done = call(folder, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in words), line
    assert not (folder / "outputs" / "runs").exists()


@pytest.mark.parametrize(
    ("launcher", "place"),
    [
        ("local", "runs/"),
        ("local", "reports/augment_pairs/"),
        ("slurm", "submissions/"),
        ("slurm", "submissions/.lock"),
        ("slurm", "reports/"),
    ],
)
def test_what_others_made_without_group_rights_is_one_line(folder: Path, launcher: str, place: str, monkeypatch):
    for name in ("sbatch", "srun", "scontrol"):
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text("#!/bin/sh\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    path = folder / "outputs" / place
    if place.endswith("/"):
        path.mkdir(parents=True)
        path.chmod(0o555)
    else:
        path.parent.mkdir(parents=True)
        path.touch(0o444)
    arguments = [*QUICK, f"launcher={launcher}"]
    done = subprocess.run(
        [*RUN, *arguments], cwd=folder, capture_output=True, text=True, timeout=240, preexec_fn=be_bound_by_permissions
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: output_dir={folder / 'outputs'}: {path} belongs to {path.owner()} and cannot be")
    assert "group-writable (umask 002, setgid)" in line


def be_bound_by_permissions() -> None:
    """Root is, without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, in the program that the process then becomes."""
    if os.geteuid() == 0:
        drop_from_bounding_set = 24  # linux/prctl.h
        for capability in (1, 2):
            assert ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0) == 0


def test_a_broken_picture_stops_the_study_before_it_begins(folder: Path):
    for split in ("train", "test"):
        for label in ("a", "b"):
            (folder / "pictures" / split / label).mkdir(parents=True)
            for number in range(8):
                picture = Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8))
                picture.save(folder / "pictures" / split / label / f"{number}.png")
    (folder / "pictures" / "train" / "a" / "3.png").write_bytes(b"")
    done = call(folder, *QUICK, "data=image_folder", "data.root=pictures", "train.batch_size=4")
    assert done.returncode == 2
    assert done.stdout.strip() == ""
    (line,) = done.stderr.splitlines()
    assert "data.max_bad=0" in line
    assert "3.png" in line
    assert not (folder / "outputs" / "runs").exists()
    assert not (folder / "outputs" / "reports").exists()
    skipping = [*QUICK, "data=image_folder", "data.root=pictures", "train.batch_size=15", "data.max_bad=1"]
    done = call(folder, *skipping)
    assert done.returncode == 0, done.stderr
    assert "1 picture(s) that cannot be decoded are skipped" in done.stdout
    table = (folder / "outputs" / "reports" / "augment_pairs" / "table.md").read_text()
    assert "1 picture(s) that cannot be decoded were left out." in table
    assert "1 picture(s) that cannot be decoded are skipped" in call(folder, *skipping, "action=plan").stdout
    # 16 pictures were too few for a batch only when one of them could not be decoded.
    shutil.rmtree(folder / "outputs")
    done = call(folder, *skipping, "train.batch_size=16")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: train.batch_size=16: at most the 15 training pictures")
    assert not (folder / "outputs" / "runs").exists()


@pytest.mark.parametrize(
    ("content", "words"), [("title: Größe".encode("latin-1"), "codec"), (b"a: &a [*a]\n", "itself"), (b"[1]", "keys")]
)
def test_a_study_file_that_cannot_be_read_is_one_line(folder: Path, content: bytes, words: str):
    (folder / "own" / "study").mkdir(parents=True)
    (folder / "own" / "study" / "odd.yaml").write_bytes(content)
    done = call(folder, "--config-dir", "own", "study=odd")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "odd.yaml" in line
    assert words in line
    listed = call(folder, "--config-dir", "own")
    assert listed.returncode == 0
    assert "odd                  cannot be used: " in listed.stdout
    assert "temperature" in listed.stdout
