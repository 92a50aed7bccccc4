"""Sweeps on real processes: run, repeat, interrupt, kill, share, cancel."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from core.journal import read_lines
from core.lease import read_owner
from tests.commandline import LONG, QUICK, RUN, TWO_CELLS, begin, call, eventually, runs, training, weights


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
until ls outputs/runs/*/checkpoint.pt >/dev/null 2>&1; do kill -0 $sweep || exit 78; sleep 0.1; done
dd if=/dev/zero of=outputs/filler bs=1M
wait $sweep; echo "exit code $?"
rm outputs/filler
exec "$@"
"""


def test_a_disk_that_fills_up_fails_runs_that_the_same_command_goes_on_with(folder: Path):
    (folder / "outputs").mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here, which mounts a file system of its own")
    command = ["unshare", "-rm", "sh", "-c", FILL_THE_DISK, "sh", *RUN, *LONG]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    if done.returncode in (1, 77) and not done.stdout:
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
