"""The command line on real processes: run, repeat, interrupt, kill, share, cancel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.journal import read_lines
from core.lease import read_owner

ROOT = Path(__file__).resolve().parent.parent
RUN = [sys.executable, str(ROOT / "sweeps" / "run.py")]
TWO_CELLS = ["study=augment_pairs", "scale=smoke", "augment.transforms.0=crop,color", "augment.transforms.1=crop"]
QUICK = [*TWO_CELLS, "tracking.enabled=false"]
LONG = [*QUICK, "train.epochs=24", "machine.log_steps=1"]
"""Cells that take seconds, so that something can happen to them."""


def call(where: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*RUN, *arguments], cwd=where, capture_output=True, text=True, timeout=240)


def begin(where: Path, *arguments: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*RUN, *arguments], cwd=where, start_new_session=True, **pipes)


def eventually(look: Callable[[], Any], seconds: float = 120) -> Any:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not seen in {seconds} s")


def runs(where: Path) -> list[Path]:
    folder = where / "outputs" / "runs"
    return sorted(folder.iterdir()) if folder.exists() else []


def training(where: Path) -> Path | None:
    """A run directory in which training has begun and not ended."""
    for run in runs(where):
        journal = run / "journal.jsonl"
        if journal.exists() and journal.stat().st_size and not (run / "result.json").exists():
            return run
    return None


def weights(where: Path) -> dict[str, bytes]:
    return {run.name: (run / "encoder.safetensors").read_bytes() for run in runs(where)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a folder with 'quotes' and spaces"
    path.mkdir()
    return path


def test_a_study_runs_reports_and_is_not_repeated(folder: Path):
    first = call(folder, *TWO_CELLS)
    assert first.returncode == 0, first.stdout + first.stderr
    report = folder / "outputs" / "reports" / "augment_pairs"
    for name in ("table.csv", "table.md", "table.tex", "figure.png", "figure.svg", "claims.json", "report.ipynb"):
        assert (report / name).stat().st_size > 0, name
    assert "<html" in (report / "report.html").read_text().lower()
    assert (folder / "outputs" / "mlflow.db").exists()
    assert "report.html" in first.stdout.splitlines()[-3]
    before = {path: path.stat().st_mtime_ns for run in runs(folder) for path in run.rglob("*") if path.is_file()}
    again = call(folder, *TWO_CELLS)
    assert again.returncode == 0
    assert "3 done already, 0 to do" in again.stdout
    after = {path: path.stat().st_mtime_ns for run in runs(folder) for path in run.rglob("*") if path.is_file()}
    assert before == after


def test_ctrl_c_loses_nothing_and_the_same_command_goes_on(folder: Path, tmp_path: Path):
    sweep = begin(folder, *LONG)
    eventually(lambda: training(folder))
    workers = [owner["pid"] for run in runs(folder) if (owner := read_owner(run / "lease.json"))]
    assert workers
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
    output, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 130
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert "python" in output.splitlines()[-1]
    assert "study=augment_pairs" in output.splitlines()[-1]
    outcomes = [
        line["outcome"] for run in runs(folder) for line in read_lines(run / "attempts.jsonl") if "outcome" in line
    ]
    assert "stopped" in outcomes
    assert not any((run / "lease.json").exists() for run in runs(folder))
    assert call(folder, *LONG).returncode == 0
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert call(undisturbed, *LONG).returncode == 0
    assert weights(folder) == weights(undisturbed)


FILL_THE_DISK = """
mount -t tmpfs -o size=64m tmpfs outputs || exit 77
"$@" & sweep=$!
until ls outputs/runs/*/checkpoint.pt >/dev/null 2>&1; do sleep 0.1; done
dd if=/dev/zero of=outputs/filler bs=1M
wait $sweep; echo "exit code $?"
rm outputs/filler
exec "$@"
"""


def test_a_disk_that_fills_up_fails_runs_that_the_same_command_goes_on_with(folder: Path):
    (folder / "outputs").mkdir()
    command = ["unshare", "-rm", "sh", "-c", FILL_THE_DISK, "sh", *RUN, *LONG]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    if done.returncode in (1, 77) and "exit code" not in done.stdout:
        pytest.skip(f"no file system of its own can be mounted here: {done.stderr}")
    first, second = done.stdout.split("exit code 1")
    assert "failed: disk full: " in first
    assert "the report could not be built: " in first
    assert "report.html" not in first
    assert "Traceback" not in first + done.stderr
    assert done.returncode == 0, done.stdout
    assert "3 of 3 runs done" in second


def test_a_killed_worker_is_replaced_and_its_run_taken_up_again(folder: Path):
    sweep = begin(folder, *LONG)
    victim = eventually(lambda: training(folder))
    owner = read_owner(victim / "lease.json")
    assert owner is not None
    os.kill(owner["pid"], signal.SIGKILL)
    output, _ = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, output
    events = [(line["event"], line.get("cause")) for line in read_lines(victim / "attempts.jsonl")]
    assert ("end", "killed") in events
    assert events[-1] == ("end", "")
    assert all((run / "result.json").exists() for run in runs(folder))


def test_a_worker_asked_to_end_is_replaced_and_its_run_goes_on(folder: Path):
    sweep = begin(folder, *LONG)
    victim = eventually(lambda: training(folder))
    os.kill(read_owner(victim / "lease.json")["pid"], signal.SIGTERM)
    output, _ = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, output
    assert [line["outcome"] for line in read_lines(victim / "attempts.jsonl") if "outcome" in line] == [
        "stopped",
        "done",
    ]


def test_a_run_directory_of_a_newer_program_is_refused(folder: Path):
    assert call(folder, *QUICK).returncode == 0
    config = runs(folder)[0] / "config.yaml"
    config.write_text(config.read_text().replace("schema: 1", "schema: 2"))
    done = call(folder, *QUICK)
    assert done.returncode == 2
    assert "schema=2" in done.stderr


def test_two_sweeps_at_once_execute_every_run_once(folder: Path):
    sweeps = [begin(folder, *LONG) for _ in range(2)]
    outputs = [sweep.communicate(timeout=200)[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    for run in runs(folder):
        assert [line["event"] for line in read_lines(run / "attempts.jsonl")] == ["start", "end"]


def test_cancel_stops_a_sweep_and_status_says_so(folder: Path):
    sweep = begin(folder, *LONG)
    eventually(lambda: training(folder))
    assert "running" in call(folder, *LONG, "action=status").stdout
    cancelled = call(folder, *LONG, "action=cancel")
    assert "1 sweep(s) stopped, 0 run(s) still running" in cancelled.stdout
    assert sweep.wait(timeout=30) == 130
    assert "0 running" in call(folder, *LONG, "action=status").stdout


def test_a_sweep_on_another_host_is_left_alone(folder: Path):
    record = folder / "outputs" / "sweeps" / "augment_pairs-1.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"host": "elsewhere", "pid": 1, "study": "augment_pairs", "job": "", "restart": 0}')
    os.utime(record, (0, 0))
    cancelled = call(folder, *TWO_CELLS, "action=cancel")
    assert "a sweep on elsewhere (process 1) can only be cancelled there" in cancelled.stdout
    assert record.exists()


def test_a_diverged_run_fails_the_others_go_on(folder: Path):
    settings = [
        *QUICK,
        "optimizer.name=sgd",
        "optimizer.base_lr=1e30",
        "train.warmup_epochs=0",
        "head.batch_norm=false",
    ]
    first = call(folder, *settings)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "diverged" in first.stdout
    assert "1 of 3 runs done" in first.stdout  # the untrained encoder cannot diverge
    status = call(folder, *settings, "action=status")
    assert "2 failed" in status.stdout
    claims = json.loads((folder / "outputs" / "reports" / "augment_pairs" / "claims.json").read_text())
    assert isinstance(claims, list)
    assert call(folder, *settings).returncode == 1


def test_an_unreachable_mlflow_server_is_a_warning(folder: Path):
    done = call(folder, *TWO_CELLS, "tracking.uri=http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: MLflow at http://127.0.0.1:9 is not up to date" in done.stdout
    assert (folder / "outputs" / "reports" / "augment_pairs" / "report.html").exists()


def test_the_debug_launcher_runs_in_this_process(folder: Path):
    done = call(folder, *QUICK, "launcher=debug")
    assert done.returncode == 0, done.stdout + done.stderr
    pids = {
        line["pid"] for run in runs(folder) for line in read_lines(run / "attempts.jsonl") if line["event"] == "start"
    }
    assert len(pids) == 1


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
    assert "3.png" in done.stderr
    assert (
        "1 picture(s) that cannot be decoded were left out."
        in (folder / "outputs" / "reports" / "augment_pairs" / "table.md").read_text()
    )
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
