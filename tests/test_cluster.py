"""What the run directories and a stand-in for SLURM say together: states, causes, and whose jobs are cancelled."""

import json
import time

from core.attempts import Attempt, Outcome
from core.errors import Cause
from core.rundir import RunDirectory
from sweeps.submission import open_submissions
from tests.commandline import call
from tests.slurm_standin import ASK, THREE, end_jobs, queued


def test_cancel_takes_the_jobs_of_the_study_out_of_the_queue(cluster):
    call(cluster, *THREE)
    done = call(cluster, *THREE, "action=cancel")
    assert done.returncode == 0
    assert "cancelled the jobs 100" in done.stdout
    assert queued(cluster) == []
    (one,) = open_submissions(cluster / "outputs")
    assert [one.is_cancelled(f"100_{index}") for index in (0, 1, 2, 3)] == [True, True, True, False]


def test_status_counts_what_waits(cluster):
    call(cluster, *THREE)
    shown = call(cluster, *THREE, "action=status").stdout
    assert "3 queued" in shown
    assert "queued: 3 (Priority)" in shown


def test_how_jobs_ended_is_told_apart_with_one_question_to_the_queue_and_one_to_the_accounting(cluster, monkeypatch):
    five = [*ASK, "augment.transforms.0=crop,color", "augment.transforms.1=crop,blur"]
    call(cluster, *five)
    end_jobs(cluster, monkeypatch, "TIMEOUT PREEMPTED NODE_FAIL OUT_OF_MEMORY CANCELLED")
    (cluster / "calls").unlink(missing_ok=True)
    shown = call(cluster, *five, "action=status").stdout
    for cause in ("timeout", "preempted", "node failure", "out of memory", "cancelled"):
        assert f"{cause}: job 100_" in shown
    assert shown.count("submit again to go on from its last checkpoint") == 4
    assert "ask for more with launcher.mem_gb" in shown
    assert "0 done" in shown
    assert "5 failed" in shown
    assert (cluster / "calls").read_text().split() == ["squeue", "sacct"]


def test_what_slurm_does_not_cancel_is_not_noted_as_cancelled(cluster):
    call(cluster, *THREE)
    (cluster / "bin" / "scancel").write_text("#!/bin/sh\necho 'scancel: error: Access denied' >&2; exit 1\n")
    done = call(cluster, *THREE, "action=cancel")
    assert done.returncode == 2
    assert "Access denied" in done.stderr
    (one,) = open_submissions(cluster / "outputs")
    assert not one.is_cancelled("100_0")


def test_cancel_leaves_other_requests_jobs_alone_and_names_those_that_it_shares(cluster):
    other = ["study=temperature", *ASK[1:]]
    call(cluster, *THREE)
    call(cluster, *other, "launcher.jobs=2")
    shared = call(cluster, *other, "loss.temperature=0.1", "action=cancel").stdout
    assert "not cancelled, as they have runs of other requests too: 101_0 101_1" in " ".join(shared.split())
    assert queued(cluster) == ["100", "101"]
    assert "cancelled the jobs 101" in call(cluster, *other, "action=cancel").stdout
    assert queued(cluster) == ["100"]


def test_of_an_array_only_the_jobs_of_the_request_are_cancelled(cluster, monkeypatch):
    log = cluster / "scancelled"
    (cluster / "bin" / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    call(cluster, *THREE)
    call(cluster, *ASK, "augment.transforms.0=crop", "augment.transforms.1=crop", "action=cancel")
    assert log.read_text() == "100_0 100_1\n"


def test_a_cause_that_was_kept_says_nothing_of_what_a_run_went_through_since(cluster, monkeypatch):
    call(cluster, *THREE)
    submission = end_jobs(cluster, monkeypatch, "TIMEOUT TIMEOUT TIMEOUT")
    call(cluster, "study=temperature", *ASK[1:])
    run = submission.runs[0]
    folder = cluster / "outputs" / "runs" / run
    folder.mkdir(parents=True)
    for event in ({"event": "start", "attempt": 1}, {"event": "end", "attempt": 1, "outcome": "stopped"}):
        with open(folder / "attempts.jsonl", "a") as file:
            file.write(json.dumps({**event, "time": time.time()}) + "\n")
    shown = call(cluster, *THREE, "action=status").stdout
    assert "2 failed, 1 pending" in shown
    assert run not in shown


def test_slurm_is_asked_as_often_about_all_studies_as_about_one(cluster, monkeypatch):
    everything = ["study=all", *ASK[1:]]
    call(cluster, *THREE)
    call(cluster, "study=temperature", *ASK[1:])
    ended, waiting = open_submissions(cluster / "outputs")
    (cluster / "queue" / "100").unlink()
    monkeypatch.setenv("JOB", ended.job_names[0])
    monkeypatch.setenv("ENDED", "TIMEOUT")
    (cluster / "calls").unlink()
    shown = call(cluster, *everything, "action=status").stdout
    assert "timeout: job 100_0 TIMEOUT on n1" in shown
    (temperature,) = [line for line in shown.splitlines() if line.startswith("temperature:")]
    assert f"{len(waiting.runs)} queued" in temperature
    assert (cluster / "calls").read_text().split() == ["squeue", "sacct"]


def test_causes_are_known_after_another_submission_too_and_after_the_accounting_is_gone(cluster, monkeypatch):
    call(cluster, *THREE)
    submission = end_jobs(cluster, monkeypatch, "OUT_OF_MEMORY RUNNING NODE_FAIL")
    call(cluster, "study=temperature", *ASK[1:])
    assert submission in open_submissions(cluster / "outputs")  # the accounting is behind
    monkeypatch.setenv("ENDED", "OUT_OF_MEMORY COMPLETED NODE_FAIL")
    call(cluster, "study=temperature", *ASK[1:], "seeds=2")
    assert submission not in open_submissions(cluster / "outputs")
    monkeypatch.setenv("ENDED", "")
    shown = call(cluster, *THREE, "action=status").stdout
    assert "2 failed" in shown
    assert "out of memory: job 100_0" in shown
    assert "node failure: job 100_2" in shown


def test_a_job_that_fails_by_itself_is_shown_with_its_last_words(cluster, monkeypatch):
    call(cluster, *THREE)
    submission = end_jobs(cluster, monkeypatch, "FAILED")
    monkeypatch.setenv("CODE", "1:0")
    log = submission.log("100_0")
    log.write_text("Traceback\nModuleNotFoundError: No module named 'torch'\nsrun: error: n1: task 0: Exited\n")
    shown = call(cluster, *THREE, "action=status").stdout
    failure = "code error: job 100_0 FAILED on n1, exit code 1:0: ModuleNotFoundError: No module named 'torch'"
    assert f"{failure} (log: {log})" in " ".join(shown.split())


def test_plan_says_what_is_queued_or_that_it_does_not_know(cluster, monkeypatch):
    call(cluster, *THREE)
    assert "3 queued" in call(cluster, *THREE, "action=plan").stdout
    monkeypatch.setenv("NO_ANSWER", "1")
    shown = call(cluster, *THREE, "action=plan").stdout
    assert "what is queued is not known: squeue: slurm_load_jobs error" in shown


def test_a_job_whose_time_was_too_short_says_so(cluster, monkeypatch):
    call(cluster, *THREE)
    end_jobs(cluster, monkeypatch, "FAILED")
    monkeypatch.setenv("CODE", "76:0")
    shown = call(cluster, *THREE, "action=status").stdout
    assert "timeout: job 100_0 FAILED on n1, exit code 76:0; nothing was finished or saved in launcher.time" in shown


def test_a_job_that_saved_and_could_not_be_queued_again_keeps_its_cause(cluster, monkeypatch):
    call(cluster, *THREE)
    one = end_jobs(cluster, monkeypatch, "FAILED")
    monkeypatch.setenv("CODE", "75:0")
    monkeypatch.setenv("SLURM_JOB_ID", "100_0")
    (work,) = one.work(one.runs[:1])
    attempt = Attempt.start(RunDirectory.create(cluster / "outputs" / "runs", work.config))
    attempt.end(Outcome("stopped"))
    attempt.stopped_for(Cause.PREEMPTED, "job 100_0 was told to end")
    shown = call(cluster, *THREE, "action=status").stdout
    assert (
        "preempted: job 100_0 FAILED on n1, exit code 75:0; it was told to end and could not be queued again" in shown
    )
