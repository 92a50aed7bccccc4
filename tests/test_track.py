"""The MLflow mirror on a real sqlite store."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.identity import evaluation_id
from sweeps import store
from sweeps.store import MIRRORED, quiet_mlflow
from sweeps.track import Tracker, TrackingUnavailable, sync
from tests.track_fixture import FIRST, InventedStudy, append, contents, end, log_steps

REPORT = "report: Pairs of augmentations"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite file with MLflow's tables, which take a second to make."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with quiet_mlflow():
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def study(tmp_path: Path) -> InventedStudy:
    return InventedStudy(tmp_path / "out put")


@pytest.fixture
def uri(study: InventedStudy, empty_store: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, study.root / 'mlflow.db')}"


def second_store(study: InventedStudy, empty_store: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, study.root / 'rebuilt.db')}"


def test_a_study_is_one_experiment_with_a_run_per_directory(study: InventedStudy, uri: str) -> None:
    study.finish("crop", "color", top1=61.5)
    log_steps(study.start("crop", "crop"), [10])
    summary = sync(study.manifest, uri)
    assert (summary.added, summary.not_started, summary.problems) == (2, 2, [])
    shown = contents(uri)
    assert set(shown) == {"crop + color · seed 0", "crop + crop · seed 0", REPORT}
    done = shown["crop + color · seed 0"]
    assert done["status"] == "FINISHED"
    assert done["params"][FIRST] == "crop"
    assert [value for _, value, _ in done["curves"]["linear.top1"]] == [61.5]
    assert [step for step, *_ in done["curves"]["training/loss"]] == [10, 20, 30]
    assert done["artifacts"] == ["config.yaml", "result.json"]
    assert done["tags"]["parent"] == REPORT
    assert shown["crop + crop · seed 0"]["status"] == "RUNNING"


def rows(uri: str) -> dict[str, list[str]]:
    """All that the tables of a sqlite store say of runs, with their names instead of MLflow's ids."""
    tables = ("runs", "tags", "params", "metrics", "latest_metrics")
    with create_engine(uri).connect() as connection:
        names = {row.run_uuid: row.name for row in connection.execute(text("SELECT run_uuid, name FROM runs"))}
        found = {}
        for table in tables:
            lines = [repr(dict(row)) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]
            for mlflow_id, name in names.items():
                lines = [line.replace(mlflow_id, name) for line in lines]
            # A fingerprint tells the id of the report's run.
            found[table] = sorted(line for line in lines if MIRRORED not in line)
    return found


def test_a_new_run_leaves_the_rows_that_mlflows_own_calls_leave(
    study: InventedStudy, uri: str, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = study.finish("crop", "color")
    values = {"top1": float("nan"), "most": float("inf"), "least": float("-inf"), "odd %": 1}
    file = done.evaluation_file(evaluation_id(done.id, "knn", {}))
    file.write_text(json.dumps({"metrics": values}))
    log_steps(study.start("crop", "crop"), [10, 20])
    end(study.start("color", "crop"), "failed", "diverged", "loss is NaN")
    assert sync(study.manifest, uri).added == 3

    def refuse(*arguments: Any) -> str:
        raise SQLAlchemyError

    monkeypatch.setattr(store, "insert", refuse)
    by_calls = second_store(study, empty_store)
    assert sync(study.manifest, by_calls).added == 3
    assert rows(uri) == rows(by_calls)
    assert contents(uri)["crop + color · seed 0"]["artifacts"] == ["config.yaml", "result.json"]


def test_points_that_are_there_twice_are_written_once(study: InventedStudy, uri: str) -> None:
    directory = study.start("crop", "color")
    log_steps(directory, [10])
    line = json.loads(directory.journal_file.read_text().splitlines()[0])
    append(directory.journal_file, {**line, "samples": line["samples"] + 1})
    sync(study.manifest, uri)
    curves = contents(uri)["crop + color · seed 0"]["curves"]
    assert [step for step, *_ in curves["training/loss"]] == [10]
    assert len(curves["training/samples"]) == 2


def test_the_page_of_the_experiment_explains_the_study(study: InventedStudy, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    sync(study.manifest, uri)
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name("pairs")
    assert experiment is not None
    assert experiment.tags["mlflow.note.content"].startswith("Pairs of augmentations\n")
    assert "cells by linear.top1" in experiment.tags["mlflow.sharedViewState.study"]
    artifacts = (study.root / "mlartifacts" / "pairs").resolve()
    assert experiment.artifact_location == artifacts.as_uri()


def test_syncing_twice_changes_nothing(study: InventedStudy, uri: str) -> None:
    study.finish("crop", "color")
    log_steps(study.start("crop", "crop"), [10, 20])
    sync(study.manifest, uri)
    before = contents(uri)
    summary = sync(study.manifest, uri)
    assert (summary.added, summary.updated, summary.unchanged) == (0, 0, 2)
    assert contents(uri) == before


def test_a_mirror_that_grew_equals_one_rebuilt_from_nothing(study: InventedStudy, uri: str, empty_store: Path) -> None:
    tracker = Tracker(study.manifest, uri)
    directory = study.start("crop", "crop")
    tracker.sync()
    log_steps(directory, [10, 20])
    tracker.sync()
    log_steps(directory, [30])
    study.finish("crop", "color")
    end(directory, "failed", "diverged", "loss is NaN")
    tracker.sync()
    (study.manifest.parent / "figure.png").write_bytes(b"png")
    assert tracker.sync().unchanged == 2
    rebuilt = second_store(study, empty_store)
    sync(study.manifest, rebuilt)
    assert contents(uri) == contents(rebuilt)
    assert contents(uri)[REPORT]["artifacts"] == ["figure.png"]


def test_a_journal_that_was_cut_back_gives_no_step_twice(study: InventedStudy, uri: str) -> None:
    directory = study.start("crop", "color")
    log_steps(directory, [10, 20, 30])
    tracker = Tracker(study.manifest, uri)
    tracker.sync()
    directory.journal_file.write_text("")
    log_steps(directory, [10, 20], late=100)
    tracker.sync()
    sync(study.manifest, uri)
    log_steps(directory, [30, 40], late=100)
    tracker.sync()
    for name, points in contents(uri)["crop + color · seed 0"]["curves"].items():
        assert [step for step, *_ in points] == [10, 20, 30, 40], name


def test_a_long_journal_takes_several_calls(study: InventedStudy, uri: str) -> None:
    log_steps(study.start("crop", "color"), range(1, 701))
    sync(study.manifest, uri)
    curves = contents(uri)["crop + color · seed 0"]["curves"]
    assert [step for step, *_ in curves["training/lr"]] == list(range(1, 701))


def test_lost_or_edited_tags_do_no_harm(study: InventedStudy, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    study.finish("crop", "color")
    sync(study.manifest, uri)
    before = contents(uri)
    client = MlflowClient(tracking_uri=uri)
    for run in client.search_runs(["1"]):
        client.set_tag(run.info.run_id, "mlflow.mirrored", "[edited")
        client.set_tag(run.info.run_id, "state", "edited")
    assert sync(study.manifest, uri).updated == 1
    assert contents(uri) == before


def test_a_run_that_succeeds_at_last_loses_its_failure(study: InventedStudy, uri: str) -> None:
    end(study.start("crop", "color"), "failed", "out of memory", "no memory left")
    sync(study.manifest, uri)
    failed = contents(uri)["crop + color · seed 0"]
    assert (failed["status"], failed["tags"]["cause"]) == ("FAILED", "out of memory")
    study.finish("crop", "color")
    sync(study.manifest, uri)
    done = contents(uri)["crop + color · seed 0"]
    assert (done["status"], done["tags"]["state"]) == ("FINISHED", "done")
    assert not {"cause", "message"} & done["tags"].keys()


def test_a_run_that_contradicts_its_directory_is_replaced(study: InventedStudy, uri: str) -> None:
    directory = study.finish("crop", "color", top1=61.5)
    sync(study.manifest, uri)
    study.evaluate(directory, "linear", {"top1": 40.0, "top5": 90.0}, time=1.0)
    sync(study.manifest, uri)
    curves = contents(uri)["crop + color · seed 0"]["curves"]
    assert [value for _, value, _ in curves["linear.top1"]] == [40.0]


def test_runs_and_experiments_deleted_by_hand_come_back(study: InventedStudy, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    study.finish("crop", "color")
    sync(study.manifest, uri)
    before = contents(uri)
    client = MlflowClient(tracking_uri=uri)
    for run in client.search_runs(["1"]):
        client.delete_run(run.info.run_id)
    client.delete_experiment("1")
    sync(study.manifest, uri)
    assert contents(uri) == before


def test_a_run_deleted_by_hand_during_a_sweep_comes_back(study: InventedStudy, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    directory = study.start("crop", "color")
    tracker = Tracker(study.manifest, uri)
    tracker.sync()
    client = MlflowClient(tracking_uri=uri)
    [run] = client.search_runs(["1"], "tags.cell = 'crop + color'")
    client.delete_run(run.info.run_id)
    log_steps(directory, [10, 20])
    assert len(tracker.sync().problems) == 1
    assert tracker.sync().problems == []
    curves = contents(uri)["crop + color · seed 0"]["curves"]
    assert [step for step, *_ in curves["training/loss"]] == [10, 20]


def test_a_run_mirrored_twice_by_a_race_is_reduced_to_one(study: InventedStudy, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    directory = study.finish("crop", "color")
    sync(study.manifest, uri)
    MlflowClient(tracking_uri=uri).create_run("1", tags={"run": directory.id, "study": "pairs"})
    sync(study.manifest, uri)
    assert set(contents(uri)) == {"crop + color · seed 0", REPORT}


def test_a_job_tracks_its_own_runs_alone(study: InventedStudy, uri: str, empty_store: Path) -> None:
    own = study.finish("crop", "color")
    study.finish("crop", "crop")
    assert Tracker(study.manifest, uri, only=[own.id]).sync().added == 1
    shown = contents(uri)
    assert set(shown) == {REPORT, "crop + color · seed 0"}
    assert "4 pending" in str(shown[REPORT])  # all of the study's, of which this job knows nothing
    again = Tracker(study.manifest, uri, only=[own.id]).sync()
    assert (again.added, again.updated, again.unchanged) == (0, 0, 1)
    assert sync(study.manifest, uri).added == 1
    rebuilt = second_store(study, empty_store)
    sync(study.manifest, rebuilt)
    assert contents(uri) == contents(rebuilt)


def test_a_damaged_run_is_named_and_the_others_are_mirrored(study: InventedStudy, uri: str) -> None:
    bad = study.finish("crop", "color")
    study.finish("crop", "crop")
    bad.result_file.write_text("{")
    summary = sync(study.manifest, uri)
    assert summary.added == 1
    assert len(summary.problems) == 1
    assert bad.id in summary.problems[0]
    assert "crop + crop · seed 0" in contents(uri)


def test_a_damaged_journal_leaves_nothing_of_a_new_run(study: InventedStudy, uri: str) -> None:
    directory = study.finish("crop", "color")
    append(directory.journal_file, {"event": "step", "step": 1000})
    for _ in range(2):
        assert len(sync(study.manifest, uri).problems) == 1
    assert set(contents(uri)) == {REPORT}


def test_more_than_a_thousand_runs_are_all_found(tmp_path: Path, empty_store: Path) -> None:
    from mlflow.store.tracking.dbmodels.models import SqlRun

    study = InventedStudy(tmp_path, names=("crop",))
    study.finish("crop", "crop")
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    sync(study.manifest, uri)
    # Later runs of somebody else fill the first page.
    fields = {"experiment_id": 1, "user_id": "", "status": "FINISHED", "start_time": 2_000_000_000_000}
    others = [SqlRun(run_uuid=f"{n:032x}", lifecycle_stage="active", **fields) for n in range(1001)]
    engine = create_engine(uri)
    with Session(engine) as session:
        session.add_all(others)
        session.commit()
    summary = sync(study.manifest, uri)
    assert (summary.added, summary.unchanged) == (0, 1)
    with Session(engine) as session:
        assert session.query(SqlRun).count() == 1001 + 2


def test_pages_of_two_runs_give_the_same(study: InventedStudy, uri: str) -> None:
    for first, second in study.pairs:
        study.finish(first, second)
    assert Tracker(study.manifest, uri, page_size=2).sync().added == 4
    assert Tracker(study.manifest, uri, page_size=2).sync().unchanged == 4


def test_a_second_writer_waits_and_then_says_so(study: InventedStudy, uri: str) -> None:
    with FileLock(f"{study.root / 'mlflow.db'}.lock"), pytest.raises(TrackingUnavailable, match="another process"):
        sync(study.manifest, uri, lock_seconds=0.1)


def test_two_studies_share_a_store(study: InventedStudy, uri: str) -> None:
    other = InventedStudy(study.root, name="others")
    study.finish("crop", "color")
    sync(study.manifest, uri)
    sync(other.manifest, uri)
    assert "crop + color · seed 0" in contents(uri, "pairs")
    assert "crop + color · seed 0" in contents(uri, "others")


def test_a_new_store_leaves_logging_alone_and_prints_nothing(
    study: InventedStudy, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    sync(study.manifest, f"sqlite:///{study.root / 'fresh.db'}")
    assert (root.handlers, root.level) == before
    assert capfd.readouterr() == ("", "")


def test_a_store_that_cannot_be_opened_is_one_line(study: InventedStudy) -> None:
    with pytest.raises(TrackingUnavailable) as caught:
        sync(study.manifest, "nosuch://user:secret@host/db")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
