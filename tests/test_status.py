"""Looking at studies: watching one, and the log of one run among several studies."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from core import data
from core.errors import UserError
from core.rundir import RunDirectory, write_json
from core.states import RunState, State
from sweeps import status
from sweeps.actions import perform, subprocess
from sweeps.cluster import View
from sweeps.grid import Grid, data_config, expand
from sweeps.request import Request, read
from sweeps.slurm import Task
from tests.test_launcher import submission


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    two = ["augment.transforms.0=crop", "augment.transforms.1=crop,color"]
    (request,) = read(["study=augment_pairs", "scale=smoke", f"output_dir={tmp_path}", *two])
    return expand(request, data.inspect(data_config(request)))


def test_watching_ends_when_nothing_runs_or_waits_any_more_but_not_because_slurm_is_silent(grid, monkeypatch):
    run = next(iter(grid.runs()))
    task = Task("one", "7_0", 0, "PENDING", "", "")
    pending, done = {run: RunState(State.PENDING)}, {run: RunState(State.DONE)}
    views = [
        View({run: RunState(State.RUNNING)}, {}),
        View({run: RunState(State.QUEUED)}, {run: task}),
        View(pending, {}, notes=("squeue: no answer",), queue_known=False),
        View(done, {}),
        View(done, {}),
    ]
    waited: list[float] = []
    monkeypatch.setattr(status.time, "sleep", waited.append)
    output = io.StringIO()
    status.watch([grid], lambda _: [views.pop(0)], Console(file=output, width=200))
    assert len(views) == 1
    here, cluster = status.WATCH_SECONDS, status.WATCH_CLUSTER_SECONDS
    assert waited == [here, cluster, cluster]
    assert "1 done" in output.getvalue()
    # Looked at where there is no SLURM: nothing is left to wait for.
    status.watch([grid], lambda _: [View(done, {}, queue_known=False)], Console(file=io.StringIO()))


def test_several_studies_are_watched_together_until_all_have_ended(grid, monkeypatch):
    run = next(iter(grid.runs()))
    running, done = View({run: RunState(State.RUNNING)}, {}), View({run: RunState(State.DONE)}, {})
    views = [[running, done], [done, running], [done, done]]
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    output = io.StringIO()
    status.watch([grid, grid], lambda _: views.pop(0), Console(file=output, width=200))
    assert views == []
    assert output.getvalue().count("augment_pairs: 1 done") == 2


@pytest.mark.parametrize("words", [[], ["watch=true"]])
def test_one_process_brings_all_studies_into_mlflow_after_ctrl_c_too(tmp_path, monkeypatch, words):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    started: list[list[str]] = []
    monkeypatch.setattr(status, "watch", interrupt)
    monkeypatch.setattr(status, "show", interrupt)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    requests = read(["study=all", "scale=smoke", f"output_dir={tmp_path}", "action=status", *words])
    begun = [str(request.manifest) for request in requests[:3]]
    for manifest in begun:
        write_json(Path(manifest), {})
    with pytest.raises(KeyboardInterrupt):
        perform(requests)
    assert started == []  # nothing was submitted, and a sweep on this machine has a mirror of its own
    (tmp_path / "submissions").mkdir()
    with pytest.raises(KeyboardInterrupt):
        perform(requests)
    assert [[word for word in command if word.endswith(".json")] for command in started] == [begun]


def test_of_a_run_whose_job_died_before_it_the_log_of_the_job_is_shown(tmp_path, grid, capsys):
    run = next(iter(grid.runs()))
    words = ["study=augment_pairs", "scale=smoke", f"output_dir={tmp_path}", "action=logs", f"run={run}"]
    two = ["augment.transforms.0=crop", "augment.transforms.1=crop,color"]
    with pytest.raises(UserError, match="this run has not begun"):
        perform(read([*words, *two]))
    one = replace(
        submission(tmp_path / "submissions" / "one", 2, 1, 0, 1), runs=("another", run), array_jobs=("7", "8")
    )
    one.write()
    one.log("8_0").parent.mkdir()
    one.log("8_0").write_text("".join(f"line {number}\n" for number in range(9)))
    assert perform(read([*words, *two])) == 0
    shown = capsys.readouterr().out
    assert str(one.log("8_0")) in shown
    assert shown.endswith("\nline 7\nline 8\n")
    output = io.StringIO()
    state = RunState(State.FAILED, "killed", "job 8_0 FAILED")
    status.show(grid, View({run: state}, {}), Console(file=output, width=200))
    said = output.getvalue().splitlines()
    assert said[-6].endswith("killed: job 8_0 FAILED")
    assert said[-5:] == [f"    line {number}" for number in range(4, 9)]


def test_the_log_of_a_run_is_found_whichever_study_it_belongs_to(tmp_path, capsys):
    def asked(*run: str) -> list[Request]:
        return read(["study=all", "scale=smoke", f"output_dir={tmp_path}", "action=logs", *run])

    requests = {request.study.name: request for request in asked("run=0")}
    temperature = expand(requests["temperature"], data.inspect(data_config(requests["temperature"])))
    run = list(temperature.runs().values())[-1]
    directory = RunDirectory.create(temperature.request.runs, run.config)
    directory.log_file.write_text("what it said\n")
    assert perform(asked(f"run={run.id}")) == 0
    assert capsys.readouterr().out == "what it said\n"
    with pytest.raises(UserError, match="0 runs of the studies begin so"):
        perform(asked("run=nothing"))
