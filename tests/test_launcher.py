"""Settings of the launchers, and how submissions divide runs among jobs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import parse
from core.errors import UserError
from sweeps import request
from sweeps.grid import expand
from sweeps.launcher import SlurmSettings, minutes
from sweeps.submission import RECORD_FILE, open_submissions, read
from tests.pictures import pictures
from tests.slurm_standin import submission


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (30, 30),
        ("30", 30),
        ("30:30", 30.5),
        ("2:00:00", 120),
        ("1-0", 1440),
        ("1-12:30", 1440 + 12 * 60 + 30),
        ("2-00:00:30", 2880.5),
        ("UNLIMITED", float("inf")),
        ("infinite", float("inf")),
        ("0", None),
        ("-5", None),
        ("1h", None),
        ("1:2:3:4", None),
        ("", None),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"time": "tomorrow"}, "launcher.time=tomorrow: minutes, or"),
        ({"tasks": 3, "nodes": 2}, "launcher.tasks=3: a multiple of launcher.nodes (2)"),
        ({"jobs": 2, "runs_per_job": 3}, "launcher.runs_per_job=3: 1 where launcher.jobs is set"),
        ({"partitoin": "gpu"}, "did you mean 'launcher.partition'?"),
        ({"retries": -1}, "launcher.retries=-1"),
        ({"mem_gb": float("inf")}, "launcher.mem_gb=inf"),
        ({"extra": {"job_name": "mine"}}, "launcher.extra=job_name: only options that the program does not set itself"),
        ({"extra": {"a b": "c"}}, "launcher.extra=a b: long names"),
        ({"extra": {"exclusive": False}}, "launcher.extra.exclusive=False"),
        ({"gpus_per_node": 4}, "launcher.gpus_per_node=4: as many as launcher.tasks puts on a node (1)"),
        (
            {"tasks": 4, "nodes": 2, "gpus_per_node": 1},
            "launcher.gpus_per_node=1: as many as launcher.tasks puts on a node (2)",
        ),
        ({"time": 2}, "launcher.signal_seconds=90: at most 60 s less than the time limit (launcher.time=2)"),
    ],
)
def test_a_wrong_profile_is_one_clear_line(settings, said):
    with pytest.raises(UserError) as error:
        parse(SlurmSettings, settings, prefix="launcher.")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 40))
def test_every_run_is_on_the_list_of_exactly_one_task(count, runs_per_job, limit):
    one = submission(Path("."), count, runs_per_job, 0, limit)
    assert max(one.arrays) <= limit
    lists = [one.runs_of(array, index) for array, size in enumerate(one.arrays) for index in range(size)]
    assert [entry for runs in lists for entry in runs] == list(one.runs)
    assert all(1 <= len(runs) <= runs_per_job for runs in lists)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 40))
def test_jobs_that_share_all_runs_begin_at_different_places(count, jobs, limit):
    one = submission(Path("."), count, 1, jobs, limit)
    lists = [one.runs_of(array, index) for array, size in enumerate(one.arrays) for index in range(size)]
    assert len(lists) == min(jobs, count)
    assert all(set(runs) == set(one.runs) for runs in lists)
    assert len({runs[0] for runs in lists}) == len(lists)


def test_a_submission_is_found_until_it_ended(tmp_path):
    folder = tmp_path / "submissions" / "study-1"
    one = submission(folder, 5, 2, 0, 2)
    one.write()
    noted = one.with_array_job("12")
    assert read(folder) == noted
    assert noted.array_jobs == ("12",)
    assert open_submissions(tmp_path) == [noted]
    noted.end([])
    assert open_submissions(tmp_path) == []


def test_a_job_reads_what_it_takes_to_execute_its_runs_and_only_these(tmp_path):
    (asked,) = request.read(["study=augment_pairs", "scale=smoke", "seeds=2"])
    planned = list(expand(asked, pictures()).runs().values())
    one = submission(tmp_path, 5, 1, 0, 5)
    one.write_runs(planned)
    wanted = [planned[7], planned[2]]
    for work, run in zip(one.work([run.id for run in wanted]), wanted, strict=True):
        assert (work.id, work.config) == (run.id, run.config)
        assert (work.evaluations, work.evaluation_ids) == (run.evaluations, run.evaluation_ids)


def test_a_submission_of_a_newer_program_is_refused_and_one_of_the_first_is_watched(tmp_path):
    folder = tmp_path / "submissions" / "study-1"
    one = submission(folder, 5, 2, 0, 2)
    one.write()
    file = folder / RECORD_FILE
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "schema": 5}))
    with pytest.raises(UserError, match="schema=5: this program reads submissions of schema 1 to 4"):
        open_submissions(tmp_path)
    file.write_text(json.dumps({**record, "schema": 1, "runs": [{"id": run, "evaluations": {}} for run in one.runs]}))
    assert open_submissions(tmp_path) == [one]
