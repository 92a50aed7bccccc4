"""The local launcher with stand-in workers: what becomes of a run when its worker or the disk fails."""

import errno
import subprocess
import time
from pathlib import Path

import pytest

from core.attempts import Outcome
from core.rundir import RunDirectory
from sweeps.local import LocalLauncher
from sweeps.planned import PlannedRun


class Ended(dict):
    """Collects the outcomes that the launcher reports."""

    def __call__(self, run: str, outcome: Outcome) -> None:
        self[run] = outcome


@pytest.fixture
def launch(tmp_path: Path, tiny, monkeypatch):
    """Runs the launcher over tiny runs with an `_ask` that the test gives; returns the reported outcomes."""

    def go(ask, count: int = 3, pass_over=lambda _: None) -> Ended:
        ended = Ended()
        machine = {"machine.threads": 1}
        settings = {"workers": 2, "threads": 1, "gpus": [], "retries": 2, "report": ended.__call__}
        launcher = LocalLauncher(tmp_path, machine, pass_over=pass_over, **settings)
        monkeypatch.setattr(launcher, "_ask", ask)
        runs = [
            PlannedRun(directory.id, config, {}, {})
            for config in (tiny({"seed": seed}) for seed in range(count))
            for directory in [RunDirectory.create(tmp_path, config)]
        ]
        launcher.start(runs)
        deadline = time.monotonic() + 20
        while not launcher.finished and time.monotonic() < deadline:
            time.sleep(0.02)
        assert launcher.finished
        return ended

    return go


def test_a_full_disk_costs_the_run_and_the_rest_goes_on(launch):
    asked = []

    def ask(_number: int, run: PlannedRun) -> Outcome:
        asked.append(run.id)
        if len(asked) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Outcome("done")

    ended = launch(ask)
    assert sorted(outcome.cause for outcome in ended.values()) == ["", "", "disk full"]


def test_whatever_goes_wrong_with_a_run_leaves_none_undone_without_a_word(launch):
    seen = []

    def pass_over(run: PlannedRun) -> None:
        seen.append(run.id)
        if len(seen) == 1:
            raise FileNotFoundError(errno.ENOENT, "No such file", "attempts.jsonl")

    ended = launch(lambda _number, _run: Outcome("done"), pass_over=pass_over)
    assert sorted(outcome.outcome for outcome in ended.values()) == ["done", "done", "failed"]


def test_a_killed_run_is_taken_up_again_but_not_for_ever(launch):
    ended = launch(lambda _number, _run: Outcome("failed", "killed", "signal 9"), count=1)
    assert [outcome.cause for outcome in ended.values()] == ["killed"]


def test_how_often_a_killed_run_is_tried(launch):
    tried = []

    def ask(_number: int, run: PlannedRun) -> Outcome:
        tried.append(run.id)
        return Outcome("failed", "killed")

    launch(ask, count=1)
    assert len(tried) == 3  # once, and two retries


def test_a_code_error_is_not_tried_again(launch):
    tried = []

    def ask(_number: int, run: PlannedRun) -> Outcome:
        tried.append(run.id)
        return Outcome("failed", "code error", "ZeroDivisionError")

    assert len(launch(ask, count=2)) == 2
    assert len(tried) == 2


@pytest.mark.parametrize(
    ("gpus", "workers", "processes", "visible"),
    [
        ("01", 4, 1, ["0", "1", "0", "1"]),
        ("0123", 2, 2, ["0,1", "2,3"]),
        ("", 2, 1, [None, None]),
    ],
)
def test_which_worker_gets_which_gpus(tmp_path: Path, monkeypatch, gpus, workers, processes, visible):
    environments = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda _command, env, **_: environments.append(env))
    settings = {"threads": 1, "gpus": list(gpus), "retries": 0, "report": Ended()}
    machine = {"machine.threads": 1}
    launcher = LocalLauncher(tmp_path, machine, workers=workers, processes_per_run=processes, **settings)
    for number in range(workers):
        launcher._spawn(number)
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments] == visible


def test_a_display_that_fails_stops_nothing(launch, monkeypatch, capsys):
    monkeypatch.setattr(Ended, "__call__", lambda *_: 1 / 0)
    launch(lambda _number, _run: Outcome("done"))
    assert "ZeroDivisionError" in capsys.readouterr().err
