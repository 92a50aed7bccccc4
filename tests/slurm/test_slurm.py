"""The command line on a real SLURM cluster: submit, follow, cancel, survive, share one run among processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.journal import read_lines
from core.lease import holder
from core.rundir import RunDirectory
from sweeps.tail import last_step
from tests.kill import outcome_of
from tests.slurm.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent.parent
ASK = [
    "study=augment_pairs",
    "scale=smoke",
    "launcher=slurm",
    "launcher.cpus_per_task=1",
    "launcher.time=10",
    "machine.threads=1",
    "machine.log_steps=1",
    "tracking.enabled=false",
]
FOUR = [*ASK, "augment.transforms.0=crop,color,blur", "augment.transforms.1=crop"]
"""Three cells and the untrained encoder: four runs."""
LONG = [*FOUR, "train.epochs=60", "machine.checkpoint_seconds=0.5"]


class Lab:
    """A user of the cluster, with an output folder."""

    def __init__(self, cluster: Cluster, folder: Path):
        self.cluster = cluster
        self.folder = folder
        self.runs = folder / "outputs" / "runs"

    def call(self, *words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "sweeps" / "run.py"), *words]
        return subprocess.run(
            command, env=self.cluster.env, cwd=self.folder, capture_output=True, text=True, timeout=120
        )

    def wait(self, seconds: float = 180) -> None:
        """Until no job is left in the queue; what SLURM holds back after a requeue may start at once."""

        def is_empty() -> bool:
            self.cluster.hurry()
            return not self.cluster.jobs()

        self.cluster.wait(is_empty, seconds, "an empty queue")

    def begun(self) -> RunDirectory:
        """A run that is being trained."""

        def find() -> RunDirectory | None:
            for path in self.runs.iterdir():
                run = RunDirectory(self.runs, path.name)
                if run.result() is None and holder(run.lease_file) and last_step(run):
                    return run
            return None

        return self.cluster.wait(find, 60, "a run that trains")

    def done(self) -> list[str]:
        return sorted(path.parent.name for path in self.runs.glob("*/result.json"))


@pytest.fixture
def lab(slurm: Cluster, tmp_path: Path) -> Lab:
    folder = tmp_path / "a folder with 'quotes' and spaces"
    folder.mkdir()
    return Lab(slurm, folder)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of LONG, executed on this machine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    words = [word for word in LONG if not word.startswith("launcher")]
    subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "run.py"), *words], cwd=folder, check=True, capture_output=True
    )
    return folder / "outputs" / "runs"


def same_as(undisturbed: Path, lab: Lab) -> bool:
    runs = [path.name for path in undisturbed.iterdir()]
    return all(outcome_of(RunDirectory(undisturbed, run)) == outcome_of(RunDirectory(lab.runs, run)) for run in runs)


def attempts(run: RunDirectory) -> int:
    return sum(line["event"] == "start" for line in read_lines(run.attempts_file))


def test_a_study_is_submitted_once_runs_in_split_arrays_and_is_reported(lab: Lab):
    seven = [*ASK, "augment.transforms.0=crop,color,blur", "augment.transforms.1=crop,noise"]
    first = lab.call(*seven)
    assert first.returncode == 0, first.stderr
    assert "submitted 7 runs as 7 jobs in 2 arrays" in first.stdout  # MaxArraySize is 4
    again = lab.call(*seven)
    assert "nothing to submit" in again.stdout
    lab.wait()
    status = lab.call(*seven, "action=status")
    assert "7 done" in status.stdout
    assert "disagree" not in status.stdout
    assert lab.call(*seven, "action=report").returncode == 0
    assert (lab.folder / "outputs" / "reports" / "augment_pairs" / "figure.png").exists()
    states = lab.cluster.wait(lambda: lab.cluster.states(), 10)
    assert set(states.values()) <= {"COMPLETED"}, states
    environment = RunDirectory(lab.runs, lab.done()[0]).result()["environment"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert environment["commit"] == commit


def test_jobs_that_share_the_runs_execute_each_once(lab: Lab):
    assert lab.call(*FOUR, "launcher.jobs=2").returncode == 0
    lab.wait()
    assert len(lab.done()) == 4
    assert [attempts(RunDirectory(lab.runs, run)) for run in lab.done()] == [1, 1, 1, 1]


def test_the_warning_of_a_time_limit_saves_and_requeues_and_the_result_is_the_same(lab: Lab, undisturbed: Path):
    lab.call(*LONG, "launcher.runs_per_job=4")
    run = lab.begun()
    job = holder(run.lease_file)["job"]
    lab.cluster.call("scancel", "--signal=USR2", job)
    lab.wait()
    assert attempts(run) == 2
    assert same_as(undisturbed, lab)


def test_a_killed_job_is_queued_again_and_the_result_is_the_same(lab: Lab, undisturbed: Path):
    lab.call(*LONG, "launcher.runs_per_job=4")
    run = lab.begun()
    worker = holder(run.lease_file)["pid"]
    parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    lab.wait()
    assert attempts(run) >= 2
    assert same_as(undisturbed, lab)


def test_cancel_leaves_runs_that_the_next_submission_goes_on_with(lab: Lab, undisturbed: Path):
    lab.call(*LONG, "launcher.runs_per_job=4")
    run = lab.begun()
    cancelled = lab.call(*LONG, "action=cancel")
    assert "cancelled the jobs" in cancelled.stdout
    lab.cluster.wait(lambda: not lab.cluster.jobs(), 60, "an empty queue")
    lab.cluster.wait(lambda: holder(run.lease_file) is None, 30, "a released lease")
    step = last_step(run)["step"]
    assert lab.call(*LONG, "launcher.runs_per_job=4").returncode == 0
    lab.wait()
    assert same_as(undisturbed, lab)
    assert step > 1


def test_a_job_that_slurm_ended_is_told_apart_and_what_it_did_is_kept(lab: Lab):
    lab.call(*LONG, "launcher.runs_per_job=4", "train.epochs=2000")
    run = lab.begun()
    job = holder(run.lease_file)["job"]
    lab.cluster.call("scontrol", "update", f"jobid={job}", "timelimit=00:00:01")
    lab.cluster.wait(lambda: not lab.cluster.jobs(), 60, "the end of the job")
    lab.cluster.wait(lambda: "TIMEOUT" in lab.cluster.states().values(), 20, "the accounting")
    status = lab.call(*LONG, "train.epochs=2000", "action=status")
    assert "timeout: job" in status.stdout, status.stdout
    assert run.checkpoint_file.exists()


def test_a_run_over_two_tasks_is_that_of_one_process(lab: Lab, undisturbed: Path):
    one = [*LONG, "augment.transforms.0=color", "launcher.tasks=2"]
    assert lab.call(*one, "train.epochs=1").returncode == 0
    lab.wait()
    (identity,) = [run for run in lab.done() if RunDirectory(lab.runs, run).config().train.epochs == 1]
    run = RunDirectory(lab.runs, identity)
    local = lab.folder / "local"
    words = [word for word in one if not word.startswith("launcher")]
    done = lab.call(*words, "train.epochs=1", f"output_dir={local}")
    assert done.returncode == 0, done.stderr
    expected = RunDirectory(local / "runs", identity)
    first = [line["loss"] for line in read_lines(expected.journal_file) if line["event"] == "step"]
    second = [line["loss"] for line in read_lines(run.journal_file) if line["event"] == "step"]
    assert second[0] == pytest.approx(first[0], rel=1e-5)
    assert second == pytest.approx(first, rel=0.05)
    evaluations = [json.loads(file.read_text()) for file in run.evaluations.glob("*.json")]
    assert len(evaluations) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launcher.partition=nowhere"], "nvalid partition"),
        (["launcher.account=nobody", "launcher.time=2-00:00:00"], "launcher.time=2-00:00:00: at most 1-00:00:00"),
    ],
)
def test_a_refusal_is_one_line_and_submits_nothing(lab: Lab, words, said):
    done = lab.call(*FOUR, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not lab.cluster.jobs()
