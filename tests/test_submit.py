"""Submitting to a stand-in for SLURM."""

import json
import os
import time
from pathlib import Path

import pytest

from core.lease import OWN_STALE_SECONDS, this_process
from sweeps.submission import open_submissions
from tests.commandline import ROOT, assert_refused, call
from tests.slurm_standin import ASK, THREE, end_jobs, queued

GOLDEN = Path(__file__).parent / "golden" / "sbatch.txt"


def test_what_is_queued_is_not_submitted_again(cluster):
    first = call(cluster, *THREE)
    assert first.returncode == 0, first.stderr
    assert "submitted 3 runs as 3 jobs in 1 array: 100" in first.stdout
    again = call(cluster, *THREE)
    assert again.returncode == 0
    assert "3 queued already" in again.stdout
    assert "nothing to submit" in again.stdout
    more = call(cluster, *ASK, "augment.transforms.0=crop,color,blur", "augment.transforms.1=crop")
    assert "submitted 1 runs as 1 job in 1 array: 101" in more.stdout
    assert queued(cluster) == ["100", "101"]


def test_a_submitter_that_died_after_sbatch_left_jobs_that_are_recognised(cluster, monkeypatch):
    monkeypatch.setenv("DIE_AFTER_SBATCH", "1")
    assert call(cluster, *THREE).returncode == -9
    monkeypatch.delenv("DIE_AFTER_SBATCH")
    (left,) = open_submissions(cluster / "outputs")
    assert left.array_jobs == ()
    again = call(cluster, *THREE)
    assert "3 queued already" in again.stdout
    assert queued(cluster) == ["100"]


def test_an_evaluation_that_queued_jobs_do_not_know_of_is_not_passed_over(cluster):
    call(cluster, *THREE)
    again = call(cluster, *THREE, "evaluate.linear.l2=0.01")
    assert again.returncode == 1
    assert "3 of those in the queue were submitted without all of these evaluations" in again.stdout
    assert "nothing to submit" in again.stdout


def test_an_sbatch_whose_answer_is_lost_may_have_submitted(cluster, monkeypatch):
    monkeypatch.setenv("LOSE_ANSWER", "1")
    lost = call(cluster, *THREE)
    assert lost.returncode == 2
    assert "Socket timed out; SLURM may have taken the jobs all the same: see action=status" in lost.stderr
    monkeypatch.delenv("LOSE_ANSWER")
    assert "3 queued already" in call(cluster, *THREE).stdout
    assert queued(cluster) == ["100"]


def test_runs_of_jobs_that_are_ending_are_submitted_again(cluster, monkeypatch):
    call(cluster, *THREE)
    monkeypatch.setenv("STATE", "COMPLETING")
    assert "submitted 3 runs" in call(cluster, *THREE).stdout
    # They may come back to the queue: the first submission stays open.
    assert len(open_submissions(cluster / "outputs")) == 2


def test_a_run_whose_job_vanished_with_its_node_is_submitted_again(cluster, monkeypatch):
    call(cluster, *THREE)
    run = next(iter(json.loads(next(cluster.glob("outputs/submissions/*/submission.json")).read_text())["runs"]))
    lease = cluster / "outputs" / "runs" / run / "lease.json"
    lease.parent.mkdir(parents=True, exist_ok=True)
    lease.write_text(json.dumps({**this_process(), "host": "elsewhere", "job": "99_0"}))
    (cluster / "queue" / "100").unlink()
    assert "submitted 2 runs" in call(cluster, *THREE).stdout  # its lease was renewed just now
    ago = time.time() - OWN_STALE_SECONDS - 1
    os.utime(lease, (ago, ago))
    assert "submitted 1 runs as 1 job in 1 array: 101" in call(cluster, *THREE).stdout
    assert "nothing to submit" in call(cluster, *THREE).stdout
    for job in ("101_0", ""):  # a job that is in the queue may be cut off; a local sweep has none
        lease.write_text(json.dumps({**this_process(), "host": "elsewhere", "job": job}))
        os.utime(lease, (ago, ago))
        assert "1 running" in call(cluster, *THREE).stdout


def test_variables_that_sbatch_prefers_to_the_script_are_kept_from_it(cluster, monkeypatch):
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    assert call(cluster, *THREE).returncode == 0


def test_jobs_that_left_the_queue_without_doing_their_runs_are_submitted_again(cluster, monkeypatch):
    call(cluster, *THREE)
    end_jobs(cluster, monkeypatch, "COMPLETED CANCELLED TIMEOUT")
    again = call(cluster, *THREE)
    assert "submitted 3 runs" in again.stdout
    # the first submission is closed: only the second is asked for from now on
    assert len(open_submissions(cluster / "outputs")) == 1


def test_arrays_are_split_at_the_limit_of_the_cluster_and_follow_each_other_under_a_limit_of_ours(cluster, monkeypatch):
    monkeypatch.setenv("ARRAY", "2")
    assert "in 2 arrays: 100 101" in call(cluster, *THREE, "launcher.max_parallel=1").stdout
    texts = [(cluster / "queue" / job).read_text() for job in ("100", "101")]
    assert "--array=0-1%1" in texts[0]
    assert "--array=0-0%1" in texts[1]
    assert "--dependency=afterany:100" in texts[1]


def test_a_plan_for_gpus_says_gpu_hours(cluster):
    shown = call(cluster, *THREE, "action=plan", "launcher.gpus_per_node=1").stdout
    assert "3 jobs in 1 array, about 0.0 GPU hours (11,501 GMAC/s per worker assumed); the first:" in shown
    assert "#SBATCH --gpus-per-node=1" in shown


def test_a_limit_of_jobs_at_a_time_holds_for_further_submissions_too(cluster):
    call(cluster, *THREE, "launcher.max_parallel=1")
    call(cluster, "study=temperature", *ASK[1:])
    call(cluster, "study=temperature", *ASK[1:], "seeds=[1]", "launcher.max_parallel=1")
    first, second, third = ((cluster / "queue" / name).read_text() for name in ("100", "101", "102"))
    assert "--dependency" not in first + second
    assert "#SBATCH --dependency=afterany:100:101\n" in third


@pytest.mark.parametrize("group", ["launcher=slurm", "scale=smoke", "data=synthetic"])
def test_a_file_that_the_programs_own_would_hide_is_refused(cluster, group):
    kind, _, name = group.partition("=")
    file = cluster / "own" / kind / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("name: slurm\npartition: mine\n")
    done = call(cluster, *THREE, "--config-dir", str(cluster / "own"))
    assert_refused(done, f"{group}: {file} has the name of the program's own")


def test_what_the_script_asks_for_is_not_overruled_by_the_environment(cluster, monkeypatch):
    seen = cluster / "seen"
    sbatch = (cluster / "bin" / "sbatch").read_text()
    (cluster / "bin" / "sbatch").write_text(sbatch.replace("#!/bin/sh\n", f"#!/bin/sh\nenv > {seen}\n"))
    outer = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "1", "SLURM_CONF": "/etc/slurm.conf"}
    asked = {"SBATCH_GRES": "gpu:8", "SBATCH_MEM_PER_CPU": "1", "SBATCH_NICE": "3", "SUBMITIT_PREEMPT_SIGNAL": "USR1"}
    for name, value in {**outer, **asked, "SBATCH_ACCOUNT": "vision"}.items():
        monkeypatch.setenv(name, value)
    profile = cluster / "own" / "launcher" / "mine.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("{name: slurm, gres: 'gpu:1', mem_gb: 4, extra: {nice: 5}}")
    words = [word for word in THREE if not word.startswith("launcher=")]
    done = call(cluster, *words, "launcher=mine", "--config-dir", str(cluster / "own"))
    assert done.returncode == 0, done.stderr
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert {"SBATCH_ACCOUNT", "SLURM_CONF"} <= names
    assert names.isdisjoint({"SBATCH_GRES", "SBATCH_MEM_PER_CPU", "SBATCH_NICE", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU"})
    assert "#SBATCH --signal=USR2@90\n" in (cluster / "queue" / "100").read_text()


def test_a_profile_names_only_what_it_changes_and_can_be_overridden(cluster):
    folder = cluster / "own" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: slurm\npartition: main\nextra: {exclusive: true, nice: 100}\n")
    words = [word for word in THREE if not word.startswith("launcher=")]
    mine = [*words, "launcher=mine", "--config-dir", str(folder.parent), "action=plan"]
    shown = call(cluster, *mine, "launcher.runs_per_job=2", "launcher.exclude=n[1-3],n7").stdout
    for line in ("--partition=main", "--exclusive", "--nice=100", "--exclude='n[1-3],n7'", "--array=0-1%2"):
        assert f"#SBATCH {line}\n" in shown
    (folder / "mine.yaml").write_text("name: slurm\ntime: 12:00:00  # half a day\n")
    refused = call(cluster, *mine)
    assert refused.returncode == 2
    assert "launcher.time=12:00:00: needs quotes in" in refused.stderr


def test_plan_shows_the_script_and_submits_nothing(cluster):
    done = call(cluster, *THREE, "action=plan", "launcher.runs_per_job=2")
    assert done.returncode == 0, done.stderr
    assert "2 jobs in 1 array, about 0.0 hours of one worker (30 GMAC/s per worker assumed); the first:" in done.stdout
    assert "#SBATCH --array=0-1%2" in done.stdout
    assert queued(cluster) == []
    assert not (cluster / "outputs" / "submissions").exists()


def test_plan_of_all_studies_says_what_each_would_submit_that_no_earlier_one_does(cluster):
    (cluster / "own" / "study").mkdir(parents=True)
    for name in ("a_first", "b_second"):
        text = (ROOT / "ablations" / "study" / "recipe.yaml").read_text().replace("name: recipe", f"name: {name}")
        (cluster / "own" / "study" / f"{name}.yaml").write_text(text)
    words = ["study=all", *ASK[1:], "--config-dir", "own", "action=plan", "launcher.runs_per_job=2"]
    done = call(cluster, *words)
    assert done.returncode == 0, done.stderr
    assert "a_first: 2 jobs in 1 array, about" in done.stdout
    assert "b_second: nothing to submit" in done.stdout
    assert done.stdout.count("#!/bin/bash") == 1
    assert queued(cluster) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["launcher.time=2-00:00:00"], "launcher.time=2-00:00:00: at most 1-00:00:00, the limit of partition main"),
        (["launcher.time=soon"], "launcher.time=soon: minutes, or"),
        (["launcher.tasks=3"], "launcher.tasks=3: must divide train.batch_size (64)"),
        (["launcher.nodes=1,2"], "launcher.nodes=1,2: one value"),
        (
            ["tracking.enabled=true", "tracking.uri=http://me:secret@host:5000"],
            "tracking.uri=http://host:5000: without a password, which",
        ),
        (["launcher.partitoin=gpu"], "did you mean 'launcher.partition'?"),
    ],
)
def test_a_wrong_request_submits_nothing(cluster, arguments, said):
    done = call(cluster, *THREE, *arguments)
    assert_refused(done, said)
    assert queued(cluster) == []


def test_a_cluster_without_arrays_is_one_line(cluster, monkeypatch):
    monkeypatch.setenv("ARRAY", "0")
    done = call(cluster, *THREE)
    assert_refused(done, "takes no job arrays (MaxArraySize=0)")


def test_a_refusal_of_slurm_is_passed_on(cluster, monkeypatch):
    monkeypatch.setenv("REFUSE", "invalid partition specified: nowhere")
    done = call(cluster, *THREE, "launcher.partition=nowhere")
    assert_refused(done, "invalid partition specified: nowhere")
    assert open_submissions(cluster / "outputs") == []
    assert not list((cluster / "outputs").glob("submissions/*/*"))


def test_without_sbatch_there_is_one_line_that_says_what_to_use(cluster, monkeypatch):
    (cluster / "bin" / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(cluster / "bin"))
    done = call(cluster, *THREE)
    assert done.returncode == 2
    assert "no sbatch on the path: use launcher=local" in done.stderr


def test_sbatch_text(cluster, tmp_path):
    """Golden: what a full profile becomes."""
    folder = cluster / "profiles" / "launcher"
    folder.mkdir(parents=True)
    profile = (ROOT / "ablations" / "launcher" / "slurm.yaml").read_text()
    for key, value in {
        'partition: ""': "partition: gpu",
        'account: ""': "account: vision",
        'constraint: ""': "constraint: a100",
        "gpus_per_node: 0": "gpus_per_node: 2",
        "mem_gb: 0": "mem_gb: 64",
        "tasks: 1 ": "tasks: 2 ",
        "setup: []": "setup: [module load cuda]",
        "extra: {}": "extra: {reservation: mine}",
        'python: ""': "python: /opt/python",
    }.items():
        assert key in profile
        profile = profile.replace(key, value)
    (folder / "mycluster.yaml").write_text(profile)
    words = [word for word in THREE if not word.startswith("launcher=")]
    done = call(cluster, *words, "launcher=mycluster", "--config-dir", str(folder.parent))
    assert done.returncode == 0, done.stderr
    (one,) = open_submissions(cluster / "outputs")
    text = (cluster / "queue" / "100").read_text()
    for found, shown in {str(one.folder): "SUBMISSION", one.code: "CODE", one.name: "NAME"}.items():
        text = text.replace(found, shown)
    assert text == GOLDEN.read_text()
    record = json.loads((one.folder / "submission.json").read_text())
    assert record["array_jobs"] == ["100"]
    assert record["kill_seconds"] == 7  # the cluster's KillWait
