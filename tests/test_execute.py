import json
from pathlib import Path

import pytest

from core import execute as module
from core.attempts import last_line
from core.config import evaluation_config
from core.environment import source_version
from core.errors import Cause, RunFailed, UserError
from core.execute import execute, is_done
from core.identity import evaluation_id
from core.lease import Lease
from core.rundir import RunDirectory
from tests.conftest import LINEAR


def make(tmp_path: Path, config) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs", config)


def test_a_run_is_trained_evaluated_and_leaves_its_lease(tmp_path: Path, tiny):
    directory = make(tmp_path, tiny())
    assert execute(directory, LINEAR, {}).outcome == "done"
    (record,) = [json.loads(file.read_text()) for file in directory.evaluations.iterdir()]
    assert record["kind"] == "linear"
    assert record["n"] == 40
    assert 0 <= record["metrics"]["top1"] <= record["metrics"]["top5"] <= 100
    assert record["environment"]["packages"]["torch"]
    assert not directory.lease_file.exists()


def test_one_more_evaluation_trains_nothing_again(tmp_path: Path, tiny, monkeypatch):
    directory = make(tmp_path, tiny())
    execute(directory, {}, {})
    weights = directory.encoder_file.stat().st_mtime_ns

    def no_training(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train", no_training)
    assert execute(directory, {"knn": {"k": 5}}, {}).outcome == "done"
    assert directory.encoder_file.stat().st_mtime_ns == weights
    expected = evaluation_id(directory.id, "knn", {"k": 5, "temperature": 0.1})
    assert directory.evaluation(expected)["metrics"]["top1"] >= 0


def test_an_evaluation_that_fails_costs_no_other(tmp_path: Path, tiny, monkeypatch):
    directory = make(tmp_path, tiny())
    run = module.Evaluator.run

    def knn_diverges(self, kind: str, settings):
        if kind == "knn":
            raise RunFailed(Cause.DIVERGED, "invented")
        return run(self, kind, settings)

    monkeypatch.setattr(module.Evaluator, "run", knn_diverges)
    outcome = execute(directory, {"knn": {"k": 5}, **LINEAR}, {})
    assert (outcome.outcome, outcome.cause) == ("failed", "diverged")
    (record,) = [json.loads(file.read_text()) for file in directory.evaluations.iterdir()]
    assert record["kind"] == "linear"


def test_evaluating_now_or_later_gives_the_same_number(tmp_path: Path, tiny):
    metrics = []
    for name, at_once in (("now", True), ("later", False)):
        directory = make(tmp_path / name, tiny())
        if not at_once:
            execute(directory, {}, {})
        execute(directory, LINEAR, {})
        metrics.append([json.loads(file.read_text())["metrics"] for file in directory.evaluations.iterdir()])
    assert metrics[0] == metrics[1]


def test_a_run_held_by_a_living_worker_is_left_alone(tmp_path: Path, tiny):
    directory = make(tmp_path, tiny())
    lease = Lease.acquire(directory.lease_file)
    assert execute(directory, LINEAR, {}).outcome == "held"
    assert not directory.attempts_file.exists()
    lease.release()
    assert execute(directory, {}, {}).outcome == "done"


def test_a_run_that_another_worker_took_over_is_written_to_no_more(tmp_path: Path, tiny, monkeypatch):
    """As after a network failure that lasted longer than a lease does."""
    directory = make(tmp_path, tiny())
    mine: list[Lease] = []
    acquire = Lease.acquire
    monkeypatch.setattr(module.Lease, "acquire", lambda path: mine.append(acquire(path)) or mine[0])
    steps = []

    def take_over_at_the_second_step() -> bool:
        steps.append(1)
        if len(steps) == 2:
            other = {**json.loads(directory.lease_file.read_text()), "pid": 1}
            directory.lease_file.write_text(json.dumps(other))
            mine[0].lost = True
        return False

    assert execute(directory, {}, {}, take_over_at_the_second_step).outcome == "held"
    assert len(steps) == 2
    assert not directory.checkpoint_file.exists()
    line = last_line(directory.attempts_file)
    assert line["event"] == "start"
    assert (line["commit"], line["dirty"]) == source_version()
    assert json.loads(directory.lease_file.read_text())["pid"] == 1


def test_machine_keys_come_from_the_machine_that_executes(tmp_path: Path, tiny, data_cache):
    directory = make(tmp_path, tiny({"data.cache_dir": "/nowhere/at all", "machine.device": "cuda"}))
    machine = {"data.cache_dir": str(data_cache), "machine.device": "cpu"}
    assert execute(directory, {}, machine).outcome == "done"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 1 byte"),
            "out of memory",
        ),
        (OSError(28, "No space left on device"), "disk full"),
        (ZeroDivisionError("division by zero"), "code error"),
    ],
)
def test_a_failure_has_a_cause_and_goes_no_further(tmp_path: Path, tiny, monkeypatch, error, cause):
    def fail(*_):
        raise error

    monkeypatch.setattr(module, "train", fail)
    directory = make(tmp_path, tiny())
    outcome = execute(directory, LINEAR, {})
    assert (outcome.outcome, outcome.cause) == ("failed", cause)
    assert last_line(directory.attempts_file)["cause"] == cause
    assert not directory.lease_file.exists()


def test_pictures_other_than_planned_are_bad_data(tmp_path: Path, tiny):
    directory = make(tmp_path, tiny({"data.fingerprint": "0123456789abcdef"}))
    assert execute(directory, {}, {}).cause == "bad data"


def test_named_evaluations_are_told_apart_by_kind_and_settings_alone(tmp_path: Path, tiny):
    directory = make(tmp_path, tiny({"train.epochs": 1}))
    of_z = {"kind": "linear", "protocol": "lbfgs", "features": "z"}
    named = {"linear": {"kind": "linear", "protocol": "lbfgs"}, "linear_z": of_z}
    assert not is_done(directory, named)
    assert execute(directory, named, {}).outcome == "done"
    assert is_done(directory, named)
    assert is_done(directory, {"another name": of_z})
    assert not is_done(directory, {"linear_z": {**of_z, "l2": 0.5}})
    records = [json.loads(file.read_text()) for file in directory.evaluations.iterdir()]
    assert {(record["kind"], record["config"]["features"]) for record in records} == {("linear", "h"), ("linear", "z")}
    assert len({str(record["metrics"]) for record in records}) == 2


def test_z_of_a_supervised_run_is_bad_data_in_one_line(tmp_path: Path, tiny):
    directory = make(tmp_path, tiny({"train.epochs": 0, "train.objective": "supervised"}))
    outcome = execute(directory, {"linear_z": {"kind": "linear", "features": "z"}}, {})
    assert (outcome.outcome, outcome.message) == (
        "failed",
        "UserError: features=z: a supervised run has no projection head; allowed: h",
    )


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"kind": "liner"}, "unknown evaluate.x.kind 'liner': did you mean 'linear'?"),
        ({}, "evaluate.x.kind is missing: one of linear, knn"),
        ({"kind": "linear", "feature": "z"}, "unknown key 'evaluate.x.feature': did you mean 'evaluate.x.features'?"),
        ({"kind": "linear", "features": "g"}, "evaluate.x.features=g: input should be 'h' or 'z'"),
    ],
)
def test_a_wrong_evaluation_is_one_line(tree, line):
    with pytest.raises(UserError) as caught:
        evaluation_config(tree, prefix="evaluate.x.")
    assert str(caught.value).startswith(line)
