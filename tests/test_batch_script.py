"""When a batch script has its job queued again, tried in bash with a stand-in for scontrol."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps import submit
from sweeps.launcher import SlurmSettings
from tests.slurm_standin import submission

PREEMPTED = "JobId=8 JobState=COMPLETING Reason=None PreemptTime=2026-01-01T00:00:00"
TIME_LIMIT = "JobId=8 JobState=COMPLETING Reason=TimeLimit PreemptTime=None"
CANCELLED = "JobId=8 JobState=COMPLETING Reason=None PreemptTime=None"
NO_ANSWER = "slurm_load_jobs error: Unable to contact slurm controller"


def end(
    folder: Path,
    code: int,
    facts: str = "",
    *,
    is_told: bool = False,
    log: str | None = "",
    times: int = 1,
    setup: Sequence[str] = (),
    scontrol: str = "",
    cancelled: Sequence[str] = (),
) -> list[int]:
    """Whether a job is queued again after each of several attempts whose program ended with `code`.

    is_told: whether SLURM ends the job, of which it says `facts`. log: what SLURM wrote there; None: it cannot be kept.
    setup: the user's lines. scontrol: another stand-in. cancelled: the tasks that action=cancel ended.
    """
    one = replace(submission(folder / "a folder with 'quotes'", 1, 1, 0, 1), retries=2)
    if log is not None:
        (one.folder / "logs").mkdir(parents=True, exist_ok=True)
        one.log("7_0").write_text(log)
    standin = scontrol or f'scontrol() {{ [ "$1" = requeue ] && echo "$@" >&2 || echo "{facts}"; }}'
    if cancelled:
        one.note_cancelled(cancelled)
    program = f"({'kill -TERM $$; ' * is_told}exit {code})"
    parameters = submit._parameters(one, 0, SlurmSettings(setup=list(setup)), "")
    lines = [standin, *parameters["setup"], program, *submit._teardown(one)]
    # SLURM_JOB_ID is that of the whole array in one of its tasks.
    variables = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "8", "PATH": "/usr/bin:/bin"}
    requeued = []
    for _ in range(times):
        done = subprocess.run(["bash", "-c", "\n".join(lines)], env=variables, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        requeued.append(done.stdout.splitlines().count("requeue 7_0"))
    return requeued


@pytest.mark.parametrize(
    ("code", "log", "requeued"),
    [(0, "", [0, 0, 0]), (75, "", [1, 1, 1]), (137, "", [1, 1, 0]), (137, "oom-kill", [0, 0, 0]), (1, "", [0, 0, 0])],
)
def test_a_job_that_was_killed_or_saved_comes_back(tmp_path, code, log, requeued):
    assert end(tmp_path, code, log=log, times=3) == requeued


@pytest.mark.parametrize(("facts", "again"), [(PREEMPTED, 1), (CANCELLED, 0)])
@pytest.mark.parametrize("code", [140, 143])
def test_a_job_that_ends_before_it_listens_comes_back_if_it_was_preempted(tmp_path, code, facts, again):
    assert end(tmp_path, code, facts) == [again]


@pytest.mark.parametrize(
    ("code", "facts", "requeued"),
    [
        (75, PREEMPTED, [1, 1, 1]),
        (1, PREEMPTED, [1, 1, 1]),
        (0, PREEMPTED, [1, 1, 1]),  # srun was ended before its program
        (75, TIME_LIMIT, [1, 1, 1]),
        (76, TIME_LIMIT, [0, 0, 0]),  # it says that nothing was saved
        (1, TIME_LIMIT, [1, 1, 0]),  # it got no answer when it asked why
        (0, TIME_LIMIT, [1, 1, 0]),
        (137, TIME_LIMIT, [1, 1, 0]),
        (75, CANCELLED, [0, 0, 0]),
        (137, CANCELLED, [0, 0, 0]),
        (75, NO_ANSWER, [1, 1, 1]),
        (1, NO_ANSWER, [0, 0, 0]),
    ],
)
def test_a_job_that_slurm_ends_comes_back_unless_it_was_cancelled(tmp_path, code, facts, requeued):
    assert end(tmp_path, code, facts, is_told=True, times=3) == requeued


def test_a_job_is_not_queued_again_where_its_kills_cannot_be_counted(tmp_path):
    assert end(tmp_path, 137, log=None) == [0]


@pytest.mark.parametrize("line", ["set -e", "set -u", "set -euo pipefail"])
def test_the_shell_options_of_the_setup_lines_do_not_end_the_script(tmp_path, line):
    assert end(tmp_path, 75, setup=[line]) == [1]


def test_a_controller_that_is_away_is_asked_again(tmp_path):
    away = f"""
    sleep() {{ :; }}
    scontrol() {{
      echo >> '{tmp_path}/calls'
      if [ $(wc -l < '{tmp_path}/calls') -lt 3 ]; then echo "Unable to contact" >&2; return 1; fi
      echo "$@" >&2
    }}"""
    assert end(tmp_path, 75, scontrol=away) == [1]


@pytest.mark.parametrize(("cancelled", "again"), [(["7_0"], 0), (["17_0", "7_01", "7_1"], 1)])
def test_what_action_cancel_ended_does_not_come_back(tmp_path, cancelled, again):
    (tmp_path / "a folder with 'quotes'").mkdir()
    assert end(tmp_path, 75, PREEMPTED, is_told=True, cancelled=cancelled) == [again]


def test_what_the_controller_refuses_is_not_asked_again(tmp_path):
    refuses = f"scontrol() {{ echo >> '{tmp_path}/calls'; echo 'Job is pending execution' >&2; return 1; }}"
    assert end(tmp_path, 75, scontrol=refuses) == [0]
    assert (tmp_path / "calls").read_text() == "\n"
