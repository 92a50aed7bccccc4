"""A job on a node: what it takes and passes over, why it is told to end, and what it then does."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.attempts import Attempt, Outcome
from core.errors import Cause
from core.lease import OWN_STALE_SECONDS, this_process
from core.rundir import RunDirectory
from core.states import RunState, State, observe
from sweeps import job, ranks, request, slurm
from sweeps.grid import expand
from sweeps.local import Work
from sweeps.submission import REQUEUE_CODE, TOO_SHORT_CODE
from tests.pictures import pictures
from tests.slurm_standin import submission


def test_a_job_refuses_other_code_than_was_submitted(tmp_path, capsys):
    replace(submission(tmp_path / "one", 1, 1, 0, 10), code=str(tmp_path)).write()
    assert job.main(tmp_path / "one", 0) == 1
    assert f"submitted with the code in {tmp_path}, but this is" in capsys.readouterr().err


def job_of_one(folder: Path) -> tuple[job.Job, Work]:
    """A job and the only run on its list, which has not begun."""
    (asked,) = request.read(["study=augment_pairs", "scale=smoke"])
    planned = next(iter(expand(asked, pictures()).runs().values()))
    one = replace(
        submission(folder / "submissions" / "study-1", 1, 1, 0, 1), runs=(planned.id,), machine={"machine.threads": 1}
    )
    one.folder.mkdir(parents=True)
    one.write_runs([planned])
    (work,) = one.work([planned.id])
    return job.Job(one, [work]), work


def test_a_job_passes_over_what_another_job_executes_but_waits_for_one_that_seems_dead(tmp_path, monkeypatch):
    mine, work = job_of_one(tmp_path)
    assert mine.pass_over(work) is None
    lease = RunDirectory(mine.runs, work.id).lease_file
    lease.parent.mkdir(parents=True)
    lease.write_text(json.dumps({**this_process(), "host": "elsewhere", "job": "7_1"}))
    assert mine.pass_over(work) == Outcome("held")
    ago = time.time() - OWN_STALE_SECONDS - 1
    os.utime(lease, (ago, ago))
    assert mine.pass_over(work) is None
    monkeypatch.setattr(job, "STALE_SECONDS", 0)  # it has waited as long as such a lease lives
    assert mine.pass_over(work) == Outcome("held")
    lease.write_text(json.dumps({**this_process(), "job": "7_1"}))  # alive, here, and maybe suspended
    os.utime(lease, (ago, ago))
    assert mine.pass_over(work) == Outcome("held")


STUCK = """
import sys, threading, time
from pathlib import Path
from types import SimpleNamespace
from sweeps import ranks

ranks._execute = lambda *_: time.sleep(60)  # an evaluation looks for a stop only at its end
stop = SimpleNamespace(event=threading.Event())
stop.seconds_left = lambda: -1 if stop.event.is_set() else 60
job = SimpleNamespace(
    submission=SimpleNamespace(folder=Path(sys.argv[1])), work=[SimpleNamespace(id="run")],
    pass_over=lambda work: None, code=lambda stop: print("raise it", file=sys.stderr) or 75,
)
threading.Timer(0.2, stop.event.set).start()
ranks.execute_together(job, SimpleNamespace(global_rank=0, num_tasks=2), stop)
"""


def test_a_job_of_several_processes_ends_in_time_though_it_evaluates(tmp_path):
    done = subprocess.run([sys.executable, "-c", STUCK, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 75, done.stderr
    assert "raise it" in done.stderr


def told(monkeypatch: pytest.MonkeyPatch, facts: str, *, is_warned: bool, folder: Path = Path("nowhere")) -> job.Stop:
    """A stop of job 7_0, of which SLURM says what `facts` says; an empty text: it does not answer.

    folder: of its submission.
    """

    def answer(*command: str, seconds: float) -> str:
        assert command[-1] == "7_0"
        if not facts:
            raise slurm.SlurmUnavailable("no answer")
        return f"JobId=8 ArrayJobId=7 ArrayTaskId=0 {facts}"

    monkeypatch.setattr(slurm, "_ask", answer)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setattr(job.signal, "signal", lambda *_: None)
    stop = job.Stop(submission(folder, 1, 1, 0, 1))
    stop._take(job.signal.SIGUSR2 if is_warned else job.signal.SIGTERM, None)
    return stop


RUNNING = "JobState=RUNNING Reason=None Restarts=2 PreemptTime=None"
ENDING = "JobState=COMPLETING Reason=None Restarts=2 PreemptTime=None"


@pytest.mark.parametrize(
    ("is_warned", "facts", "cause", "code"),
    [
        (True, RUNNING, Cause.TIMEOUT, REQUEUE_CODE),
        (True, "", Cause.TIMEOUT, REQUEUE_CODE),
        (True, RUNNING.replace("PreemptTime=None", "PreemptTime=2026-01-01T00:00:00"), Cause.PREEMPTED, REQUEUE_CODE),
        (False, RUNNING.replace("PreemptTime=None", "PreemptTime=2026-01-01T00:00:00"), Cause.PREEMPTED, REQUEUE_CODE),
        (False, ENDING.replace("Restarts=2", "Restarts=3"), Cause.PREEMPTED, REQUEUE_CODE),
        (False, ENDING.replace("Reason=None", "Reason=TimeLimit"), Cause.TIMEOUT, REQUEUE_CODE),
        (False, ENDING, Cause.CANCELLED, 1),
        (False, RUNNING, None, 1),
        (False, "", None, 1),
    ],
)
def test_why_a_job_is_told_to_end_decides_whether_it_comes_back(monkeypatch, is_warned, facts, cause, code):
    stop = told(monkeypatch, facts, is_warned=is_warned)
    assert stop.cause == cause
    assert stop.code(has_advanced=True) == code
    # What used up its time for nothing would do so again; what was preempted may have had none.
    assert stop.code(has_advanced=False) == (TOO_SHORT_CODE if cause == Cause.TIMEOUT else code)


def test_a_job_that_is_cancelled_while_it_makes_room_does_not_come_back(tmp_path, monkeypatch):
    submission(tmp_path, 1, 1, 0, 1).note_cancelled(["7_0", "7_1"])
    facts = RUNNING.replace("PreemptTime=None", "PreemptTime=2026-01-01T00:00:00")
    stop = told(monkeypatch, facts, is_warned=False, folder=tmp_path)
    assert stop.cause == Cause.CANCELLED
    assert stop.code(has_advanced=True) == 1


def test_a_run_has_the_time_that_slurm_gives(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(job.time, "monotonic", lambda: now)
    stop = told(monkeypatch, RUNNING, is_warned=True)
    assert stop.seconds_left() == pytest.approx(60)  # of 90
    assert stop.patience == 10
    stop._take(job.signal.SIGTERM, None)  # the warning is over: SLURM kills what is there in 30 s
    assert stop.seconds_left() == pytest.approx(20)
    assert stop.patience == pytest.approx(5)


@pytest.mark.parametrize("outcome", [Outcome("stopped"), None])
def test_a_job_that_is_told_to_end_leaves_the_cause_with_its_run(tmp_path, monkeypatch, outcome):
    """None: the worker was killed before it could say that it stopped."""
    stop = told(monkeypatch, ENDING.replace("Reason=None", "Reason=TimeLimit"), is_warned=False)
    mine, work = job_of_one(tmp_path)
    assert mine.pass_over(work) is None
    directory = RunDirectory.create(mine.runs, work.config)
    attempt = Attempt.start(directory)
    if outcome:
        attempt.end(outcome)
    assert mine.code(stop) == TOO_SHORT_CODE  # nothing was saved
    seen = observe(mine.runs, work.id, work.evaluation_ids)
    assert seen == RunState(State.PENDING, Cause.TIMEOUT, "job 7_0 was told to end")


@pytest.mark.parametrize(("other_job", "outcome"), [(True, "stopped"), (False, "failed"), (False, "done")])
def test_a_job_says_nothing_of_attempts_that_it_did_not_stop(tmp_path, monkeypatch, other_job, outcome):
    stop = told(monkeypatch, ENDING, is_warned=False)
    mine, work = job_of_one(tmp_path)
    mine.pass_over(work)
    directory = RunDirectory.create(mine.runs, work.config)
    with monkeypatch.context() as patch:
        if other_job:
            patch.setenv("SLURM_ARRAY_TASK_ID", "1")
        Attempt.start(directory).end(Outcome(outcome, Cause.DIVERGED if outcome == "failed" else ""))
    before = directory.attempts_file.read_bytes()
    mine.code(stop)
    assert directory.attempts_file.read_bytes() == before


def test_a_job_comes_back_where_only_another_of_its_processes_was_told_to_stop(tmp_path, monkeypatch):
    mine, _ = job_of_one(tmp_path)
    announced: list[object] = []
    group = SimpleNamespace(announce=announced.append)
    monkeypatch.setattr(ranks.Group, "lead", lambda *_: (group, 1))
    monkeypatch.setattr(ranks, "_execute", lambda *_: Outcome("stopped"))
    monkeypatch.setattr(ranks, "SIGNAL_SECONDS", 0.1)
    stop = SimpleNamespace(event=threading.Event())
    assert ranks.execute_together(mine, SimpleNamespace(global_rank=0, num_tasks=2), stop) == REQUEUE_CODE
    assert announced == [None]


def test_a_flag_is_waited_for():
    flag = job.Flag()
    assert not flag.wait(0.01)
    threading.Timer(0.05, flag.set).start()
    assert flag.wait(10)
    assert flag.is_set()


@pytest.mark.parametrize(("other", "noted"), [({}, True), ({"SLURM_RESTART_COUNT": "1"}, False)])
def test_an_attempt_before_the_last_restart_is_not_this_jobs(tmp_path, monkeypatch, other, noted):
    monkeypatch.setenv("SLURM_JOB_ID", "7_0")
    mine, work = job_of_one(tmp_path)
    directory = RunDirectory.create(mine.runs, work.config)
    Attempt.start(directory)
    for name, value in other.items():
        monkeypatch.setenv(name, value)
    assert (Attempt.newest_of_this_job(directory) is not None) == noted
