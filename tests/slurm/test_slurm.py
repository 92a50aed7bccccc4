"""The command line on a real SLURM cluster: submit, follow, cancel, survive, share one run among processes."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.journal import read_lines
from core.lease import holder
from core.rundir import RunDirectory
from sweeps.tail import last_step
from tests.commandline import ROOT
from tests.faults import campaign
from tests.slurm.cluster import NODES, Cluster
from tests.slurm.lab import Lab, different, undisturbed

STUDY = [
    "study=augment_pairs",
    "scale=smoke",
    "augment.transforms.0=color",
    "machine.threads=1",
    "machine.log_steps=1",
]
SLURM = ["launcher=slurm", "launcher.cpus_per_task=1", "launcher.time=10", "launcher.signal_seconds=5"]
ASK = [*STUDY, *SLURM, "tracking.enabled=false"]
TWO = [*ASK, "augment.transforms.1=color"]
"""One cell and the untrained encoder: two runs."""
LONG = [*STUDY, "augment.transforms.1=crop,blur", "train.epochs=40", "machine.checkpoint_seconds=1"]
"""Two cells and the untrained encoder, long enough to be disturbed."""
LONG_JOB = [*LONG, *SLURM, "tracking.enabled=false", "launcher.runs_per_job=3"]


@pytest.fixture
def lab(slurm: Cluster, folder: Path) -> Iterator[Lab]:
    yield Lab(slurm, folder)
    slurm.clear()  # what a failed test leaves in the queue would make the next ones fail


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of LONG, executed on this machine."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), LONG)


def test_a_study_is_submitted_once_runs_in_split_arrays_and_is_reported(lab: Lab):
    five = [*ASK, "augment.transforms.1=crop,cutout,blur,noise"]
    first = lab.call(*five)
    assert first.returncode == 0, first.stderr
    assert "submitted 5 runs as 5 jobs in 2 arrays" in first.stdout  # MaxArraySize is 4
    assert "nothing to submit" in lab.call(*five).stdout
    lab.wait()
    status = lab.call(*five, "action=status")
    assert "5 done" in status.stdout
    assert "disagree" not in status.stdout
    assert lab.call(*five, "action=report").returncode == 0
    assert (lab.folder / "outputs" / "reports" / "augment_pairs" / "figure.png").exists()
    states = lab.cluster.wait(lab.cluster.states, 10)
    assert set(states.values()) <= {"COMPLETED"}, states
    environment = RunDirectory(lab.runs, lab.done()[0]).result()["environment"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert environment["commit"] == commit


def test_jobs_that_share_the_runs_execute_each_once_while_somebody_watches(lab: Lab):
    three = [*ASK, "augment.transforms.1=crop,blur", "launcher.jobs=2"]
    assert lab.call(*three).returncode == 0
    watched = lab.call(*three, "action=status", "watch=true")  # returns when nothing runs or waits
    assert "3 done, 0 trained, 0 running, 0 queued" in watched.stdout
    lab.wait()
    attempts = [list(read_lines(RunDirectory(lab.runs, run).attempts_file)) for run in lab.done()]
    events = [[line["event"] for line in lines] for lines in attempts]
    assert events == [["start", "end"]] * 3, (attempts, lab.cluster.states())


def test_a_short_fault_campaign_does_no_harm(lab: Lab, expected: Path):
    kinds = [
        "warning of a time limit",
        "SIGKILL of the job's process",
        "preemption by the urgent partition",
        "node set down",
        "half a line in the journal",
        "two submitters at once",
    ]
    damage = campaign(lab.cluster, lab.folder, expected, [*LONG, *SLURM], kinds, seed=0, seconds=150)
    assert damage.is_harmless, damage
    assert len(damage.times) >= len(kinds) - 1, damage.missed  # on a slow machine the runs may end before the last one


def test_cancel_leaves_runs_that_the_next_submission_goes_on_with(lab: Lab, expected: Path):
    lab.call(*LONG_JOB)
    run = lab.begun()
    cancelled = lab.call(*LONG_JOB, "action=cancel")
    assert "cancelled the jobs" in cancelled.stdout
    lab.cluster.wait(lambda: not lab.cluster.jobs(), 60, "an empty queue")
    lab.cluster.wait(lambda: holder(run.lease_file) is None, 30, "a released lease")
    assert last_step(run)["step"] > 1
    assert lab.call(*LONG_JOB, "action=logs", f"run={run.id[:6]}").stdout == run.log_file.read_text()
    assert lab.call(*LONG_JOB).returncode == 0
    lab.wait()
    assert different(expected, lab.runs) == set()


def test_a_job_at_its_time_limit_saves_its_run_and_goes_on_by_itself(lab: Lab, expected: Path):
    lab.call(*LONG_JOB)
    run = lab.begun()
    held = holder(run.lease_file)
    job = held["job"]
    assert "1 running" in lab.call(*LONG_JOB, "action=status").stdout
    # SLURM looks at time limits every 30 s, by which a fast machine would be through: it finds the run where it is
    # now, and wakes it itself (SIGCONT goes before the SIGTERM of a time limit).
    os.kill(held["pid"], signal.SIGSTOP)
    lab.cluster.call("scontrol", "update", f"jobid={job}", "timelimit=00:00:01")
    lab.cluster.wait(lambda: set(lab.cluster.jobs().values()) == {"PENDING"}, 60, "a job that is queued again")
    status = lab.call(*LONG_JOB, "action=status").stdout
    assert "0 failed" in status
    assert "interrupted before: 1 (timeout)" in status
    lab.cluster.call("scontrol", "update", f"jobid={job}", "timelimit=10")
    lab.wait()
    assert different(expected, lab.runs) == set()


def test_a_job_that_is_cancelled_to_make_room_goes_on_by_itself(lab: Lab, expected: Path):
    """On a partition where SLURM kills what it preempts, and neither warns it nor queues it again."""
    lab.call(*LONG_JOB, "launcher.partition=spot")
    run = lab.begun()
    lab.cluster.preempt(lab.folder / "urgent.sh")
    lab.wait()
    assert different(expected, lab.runs) == set()
    stops = [line for line in read_lines(run.attempts_file) if line["event"] == "stop"]
    assert [line["cause"] for line in stops] == ["preempted"]


def test_a_job_with_too_little_memory_says_what_to_change(lab: Lab):
    small = [*TWO, "launcher.runs_per_job=2", "train.epochs=40", "launcher.mem_gb=0.2"]
    assert lab.call(*small).returncode == 0
    lab.cluster.wait(lambda: not lab.cluster.jobs(), 120, "the end of the job")
    status = lab.cluster.wait(lambda: _failures(lab, small), 20, "the accounting")
    assert "out of memory: job" in status
    assert "ask for more with launcher.mem_gb" in status


def test_a_folder_that_the_nodes_do_not_see_is_named(lab: Lab):
    """A node that does not see the output folder, and then it is there again for whoever asks."""
    output, elsewhere = lab.folder / "outputs", lab.folder / "elsewhere"
    nodes = f"nodename={','.join(NODES)}"
    lab.cluster.call("scontrol", "update", nodes, "state=drain", "reason=test")
    try:
        assert lab.call(*TWO, "launcher.runs_per_job=2").returncode == 0
        output.rename(elsewhere)
    finally:
        lab.cluster.call("scontrol", "update", nodes, "state=resume")
    lab.cluster.wait(lambda: not lab.cluster.jobs(), 60, "the end of the job")
    shutil.rmtree(output, ignore_errors=True)
    elsewhere.rename(output)
    status = lab.cluster.wait(lambda: _failures(lab, TWO), 20, "the accounting")
    assert "output_dir must be a folder that all nodes see" in status


def _failures(lab: Lab, words: list[str]) -> str:
    """The status, once the accounting has told of failures."""
    status = lab.call(*words, "action=status").stdout
    return status if "2 failed" in status else ""


def test_a_run_over_two_tasks_is_that_of_one_process(lab: Lab):
    one = [*TWO, "train.epochs=1", "launcher.tasks=2", "launcher.mem_gb=4"]
    assert lab.call(*one, "launcher.runs_per_job=2").returncode == 0
    lab.wait()
    (identity,) = [run for run in lab.done() if RunDirectory(lab.runs, run).config().train.epochs == 1]
    run = RunDirectory(lab.runs, identity)
    alone = lab.folder / "alone"
    alone.mkdir()
    expected = RunDirectory(undisturbed(alone, one), identity)
    first = [line["loss"] for line in read_lines(expected.journal_file) if line["event"] == "step"]
    second = [line["loss"] for line in read_lines(run.journal_file) if line["event"] == "step"]
    assert second[0] == pytest.approx(first[0], rel=1e-5)
    assert second == pytest.approx(first, rel=0.05)
    evaluations = [json.loads(file.read_text()) for file in run.evaluations.glob("*.json")]
    assert len(evaluations) == 1


def test_a_job_that_loses_a_process_goes_on_by_itself(lab: Lab):
    words = [*TWO, "train.epochs=40", "launcher.tasks=2", "launcher.mem_gb=4"]
    assert lab.call(*words, "launcher.runs_per_job=2").returncode == 0
    run = lab.begun()
    _process_of_rank(1, lab).kill()
    lab.cluster.wait(lambda: set(lab.cluster.jobs().values()) == {"PENDING"}, 60, "a job that is queued again")
    lab.wait()
    lines = list(read_lines(run.attempts_file))
    assert [line["event"] for line in lines] == ["start", "start", "end"]
    assert lines[-1]["outcome"] == "done"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launcher.partition=nowhere"], "nvalid partition"),
        (["launcher.account=nobody"], "Invalid account"),
        (["launcher.time=2-00:00:00"], "launcher.time=2-00:00:00: at most 1-00:00:00, the limit of partition main"),
    ],
)
def test_a_refusal_is_one_line_and_submits_nothing(lab: Lab, words, said):
    done = lab.call(*TWO, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not lab.cluster.jobs()


def _process_of_rank(rank: int, lab: Lab) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        is_of_job = "sweeps.job" in words and "python" in words[0] and any(str(lab.folder) in word for word in words)
        if is_of_job and process.environ().get("SLURM_PROCID") == str(rank):
            return process
    raise AssertionError(f"no process of rank {rank}")
