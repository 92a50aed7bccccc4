"""What the mirror reads from a run directory, without MLflow."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rundir import RunDirectory
from core.states import observe
from reports.manifest import Manifest, read
from sweeps import record
from sweeps.record import DamagedRun, Record
from tests.track_fixture import BEGIN, FIRST, SECOND, InventedStudy, append, end, log_steps


@pytest.fixture
def study(tmp_path: Path) -> InventedStudy:
    return InventedStudy(tmp_path)


def record_of(study: InventedStudy, directory: RunDirectory) -> Record:
    manifest = read(study.manifest.parent)
    entry = record.entries(manifest)[directory.id]
    state = observe(manifest.runs_folder, directory.id, entry.evaluations)
    return record.read(manifest, entry, directory, state)


def test_a_finished_run_shows_its_axes_config_and_results(study: InventedStudy) -> None:
    shown = record_of(study, study.finish("crop", "color", top1=61.5))
    assert shown.name == "crop + color · seed 0"
    assert (shown.status, shown.start, shown.end) == ("FINISHED", BEGIN * 1000, (BEGIN + 31) * 1000)
    assert (shown.params[FIRST], shown.params[SECOND], shown.params["seed"]) == ("crop", "color", "0")
    assert shown.params["loss.temperature"] == "0.1"
    assert shown.params["augment.transforms"] == '["crop", "color"]'
    values = {name: value for name, (value, _) in shown.finals.items()}
    assert values == {
        "linear.top1": 61.5,
        "linear.top5": 90.0,
        "knn.top1": 56.5,
        "train.loss": 3.0,
        "train.accuracy": 70.0,
        "train.seconds": 28.5,
    }
    assert (shown.tags["state"], shown.tags["commit"]) == ("done", "0123456789abcdef")
    assert set(shown.artifacts) == {"config.yaml", "result.json"}


def test_states_in_the_words_of_mlflow(study: InventedStudy) -> None:
    running = study.start("crop", "crop")
    failed = study.start("crop", "color")
    end(failed, "failed", "diverged", "loss is NaN")
    stopped = study.start("color", "crop")
    end(stopped, "stopped")
    killed = study.start("color", "color", alive=False)
    shown = {run.id: record_of(study, run) for run in (running, failed, stopped, killed)}
    assert (shown[running.id].status, shown[running.id].end) == ("RUNNING", None)
    assert shown[failed.id].status == "FAILED"
    assert (shown[failed.id].tags["cause"], shown[failed.id].tags["message"]) == ("diverged", "loss is NaN")
    assert (shown[stopped.id].status, shown[stopped.id].end) == ("KILLED", (BEGIN + 60) * 1000)
    assert (shown[killed.id].status, shown[killed.id].tags["cause"]) == ("KILLED", "killed")
    for tags in (one.tags for one in shown.values()):  # without a result too
        assert (tags["commit"], tags["uncommitted changes"], tags["host"]) == ("0123456789abcdef", "yes", "node1")


def test_a_finished_run_that_lacks_a_new_evaluation_waits(study: InventedStudy) -> None:
    directory = study.finish("crop", "color")
    next(directory.evaluations.glob("*.json")).unlink()
    shown = record_of(study, directory)
    assert (shown.status, shown.tags["state"], shown.end) == ("SCHEDULED", "trained", None)


def test_an_axis_keeps_the_studys_value_beside_the_runs_own(tmp_path: Path) -> None:
    study = InventedStudy(tmp_path, axes={"train.batch_size": 1024, "loss.temperature": 0.1})
    shown = record_of(study, study.start("crop", "color"))
    assert shown.params["train.batch_size"] == "1024"
    assert shown.params["train.batch_size.own"] == "4096"
    assert "loss.temperature.own" not in shown.params


def test_cells_of_numbers_are_named_with_their_keys(tmp_path: Path) -> None:
    study = InventedStudy(tmp_path, axes={"loss.temperature": 0.5})
    name = record_of(study, study.start("crop", "color")).name
    assert name == f"{FIRST} crop, {SECOND} color, loss.temperature 0.5 · seed 0"


def test_the_label_of_a_value_stands_in_the_name(tmp_path: Path) -> None:
    study = InventedStudy(tmp_path, names=("noise", "crop"))
    shown = record_of(study, study.start("noise", "crop"))
    assert shown.name == "Gaussian noise + crop · seed 0"
    assert shown.params[FIRST] == "noise"


def test_a_curve_goes_on_after_the_samples_logged_last(study: InventedStudy) -> None:
    directory = study.start("crop", "color")
    log_steps(directory, [10, 20, 30])
    assert [line[0][3] for line in record.curves(directory, 0)] == [10, 20, 30]
    assert [line[0][3] for line in record.curves(directory, 20 * 256)] == [30]
    names = {name for name, *_ in next(record.curves(directory, 0))}
    assert names == {f"training/{name}" for name in record.CURVES}


def test_half_a_line_at_the_end_of_a_journal_is_left_for_later(study: InventedStudy) -> None:
    directory = study.start("crop", "color")
    log_steps(directory, [10])
    with open(directory.journal_file, "a") as file:
        file.write('{"event": "step", "step": 20, "los')
    assert [line[0][3] for line in record.curves(directory, 0)] == [10]


def test_a_damaged_run_directory_is_named(study: InventedStudy) -> None:
    directory = study.finish("crop", "color")
    directory.result_file.write_text("{")
    with pytest.raises(DamagedRun, match=directory.id):
        record_of(study, directory)
    append(directory.journal_file, {"event": "step", "step": 1000})
    with pytest.raises(DamagedRun, match=r"samples"):
        list(record.curves(directory, 0))


def test_the_report_tells_setting_and_counts(study: InventedStudy) -> None:
    manifest: Manifest = read(study.manifest.parent)
    (study.manifest.parent / "figure.png").write_bytes(b"png")
    study.finish("crop", "color")
    states = {observe(manifest.runs_folder, run, e.evaluations).state: 1 for run, e in record.entries(manifest).items()}
    shown = record.report_record(manifest, states)
    assert set(shown.artifacts) == {"figure.png"}
    assert shown.tags["state"] == "1 done, 1 pending"
    note = shown.tags["mlflow.note.content"]
    assert note.startswith("Pairs of augmentations\n")
    assert "synthetic data, scale mini: not the paper's setting" in note


@given(st.text(min_size=1, max_size=300))
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_length_limit, path_not_unique, validate_param_and_metric_name

    safe = record.safe_name(name)
    assert validate_param_and_metric_name(safe)
    assert not path_not_unique(safe)
    _validate_length_limit("name", 250, safe)


@given(st.lists(st.text("abcxyz019_", min_size=1, max_size=20), min_size=1, max_size=6).map(".".join))
def test_the_names_of_keys_and_metrics_stay_as_they_are(name: str) -> None:
    assert record.safe_name(name) == name


def test_names_that_differ_only_in_refused_characters_stay_apart() -> None:
    assert record.safe_name("top1@1%") != record.safe_name("top1@1$")
    assert re.fullmatch(r"top1_1_-[0-9a-f]{4}", record.safe_name("top1@1%"))
