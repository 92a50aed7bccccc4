"""Run directories in every state, whole and damaged, become the lines of the table."""

import json

import pandas as pd
import pytest

from core.errors import UserError
from core.lease import this_process
from reports.build import load
from reports.manifest import read
from reports.statistics import OVER_SEEDS, TEST_SAMPLE
from tests.reports_fixture import FIRST, SECOND, Outputs, write_failure

NAMES = ["crop", "color", "blur"]


def outputs(tmp_path, value=lambda first, second, seed: 50.0 + seed, **fields) -> Outputs:
    return Outputs(tmp_path, value, names=NAMES, **fields)


def cell(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    return table[(table[FIRST] == first) & (table[SECOND] == second)].iloc[0]


def test_one_seed_has_the_interval_of_the_test_sample(tmp_path):
    report = load(outputs(tmp_path, lambda *_: 40.0, test_pictures=400).write())
    line = cell(report.table, "crop", "color")
    assert (line["n"], line["mean"], line["interval"], line["paper"]) == (1, 40.0, TEST_SAMPLE, 56.3)
    assert (line["low"], line["high"]) == pytest.approx((35.3, 44.9), abs=0.05)
    assert line["state"] == "done"


def test_several_seeds_have_the_interval_over_seeds(tmp_path):
    line = cell(load(outputs(tmp_path, seeds=[0, 1, 2]).write()).table, "blur", "crop")
    assert (line["n"], line["mean"], line["interval"]) == (3, 51.0, OVER_SEEDS)
    assert (line["low"], line["high"]) == pytest.approx((51 - 2.484, 51 + 2.484), abs=0.001)
    assert line["seeds"] == "0 1 2"
    assert len(line["runs"].split()) == 3


def test_references_stand_below_the_cells(tmp_path):
    table = load(outputs(tmp_path).write()).table
    assert table["kind"].tolist() == ["cell"] * 9 + ["reference"]
    assert (table.iloc[-1]["name"], table.iloc[-1]["mean"]) == ("untrained", 21.5)


def test_every_state_is_told_apart(tmp_path):
    made = outputs(tmp_path, lambda first, second, seed: None if first == "crop" else 50.0)
    folder = made.write()
    write_failure(made.run_folder("crop", "crop"), "diverged", "loss is nan")
    running = made.run_folder("crop", "color")
    running.mkdir(parents=True)
    (running / "lease.json").write_text(json.dumps(this_process()))
    trained = made.run_folder("blur", "color")
    next((trained / "evaluations").iterdir()).unlink()
    table = load(folder).table
    assert cell(table, "crop", "crop")[["state", "cause", "n"]].tolist() == ["failed", "diverged", 0]
    assert cell(table, "crop", "color")["state"] == "running"
    assert cell(table, "crop", "blur")["state"] == "pending"
    assert cell(table, "blur", "color")["state"] == "trained"
    assert cell(table, "color", "crop")["state"] == "done"


def test_a_dead_worker_is_not_running(tmp_path):
    made = outputs(tmp_path, lambda *_: None)
    folder = made.write()
    run = made.run_folder("crop", "color")
    run.mkdir(parents=True)
    (run / "lease.json").write_text(json.dumps({**this_process(), "started": 1.0}))
    assert cell(load(folder).table, "crop", "color")["state"] == "pending"


def test_a_run_that_failed_once_and_is_done_now_is_done(tmp_path):
    made = outputs(tmp_path)
    folder = made.write()
    write_failure(made.run_folder("crop", "color"), "killed", "")
    assert cell(load(folder).table, "crop", "color")["state"] == "done"


def test_some_seeds_missing(tmp_path):
    value = lambda first, second, seed: 50.0 if seed == 0 else None  # noqa: E731
    line = cell(load(outputs(tmp_path, value, seeds=[0, 1]).write()).table, "crop", "color")
    assert line[["n", "mean", "state", "states", "interval"]].tolist() == [
        1,
        50.0,
        "pending",
        "done 1, pending 1",
        TEST_SAMPLE,
    ]


@pytest.mark.parametrize("damage", ["", "{", "null", "[]"])
def test_damaged_files_make_a_run_unfinished_and_stop_nothing(tmp_path, damage):
    made = outputs(tmp_path)
    folder = made.write()
    (made.run_folder("crop", "color") / "result.json").write_text(damage)
    (made.run_folder("crop", "color") / "attempts.jsonl").write_text('{"event": "st')
    next((made.run_folder("crop", "blur") / "evaluations").iterdir()).write_text(damage)
    table = load(folder).table
    assert cell(table, "crop", "color")["state"] == "pending"
    assert cell(table, "crop", "blur")["state"] == "trained"


def test_training_metrics_have_no_test_sample(tmp_path):
    table = load(outputs(tmp_path, study={"metric": "train.loss"}).write()).table
    assert cell(table, "crop", "color")[["mean", "interval"]].tolist() == [4.2, "none"]


def test_values_of_any_type_are_lines(tmp_path):
    """Axis values are what YAML allows; the table shows them as text."""
    folder = outputs(tmp_path).write()
    manifest = json.loads((folder / "study.json").read_text())
    axis = {"key": "value", "values": [0.5, None, [1, 2], True]}
    manifest["axes"] = [axis]
    manifest["cells"] = [{"values": {"value": value}, "runs": []} for value in axis["values"]]
    (folder / "study.json").write_text(json.dumps(manifest))
    assert load(folder).cells["value"].tolist() == ["0.5", "null", "[1, 2]", "true"]


def test_bad_manifests_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no study\.json"):
        read(tmp_path)
    folder = outputs(tmp_path).write()
    whole = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**whole, "schema": 2}))
    with pytest.raises(UserError, match=r"schema=2.*up to schema 1"):
        read(folder)
    (folder / "study.json").write_text(json.dumps({**whole, "seeds": "three"}))
    with pytest.raises(UserError, match=r"study\.json: seeds"):
        read(folder)
    (folder / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json: not JSON"):
        read(folder)


def test_the_setting_says_when_it_is_not_the_papers(tmp_path):
    paper = {"name": "imagenet", "is_paper": True}
    folders = {"name": "image_folder", "image_size": 224}
    for extra, text in [
        ({}, "synthetic data, scale mini: not the paper's setting"),
        ({"scale": paper}, "synthetic data, scale imagenet: not the paper's setting"),
        ({"scale": paper, "data": folders}, "image_folder data, scale imagenet"),
        (
            {"scale": paper, "data": folders, "overrides": ["train.epochs=3"]},
            "image_folder data, scale imagenet: not the paper's setting",
        ),
    ]:
        assert read(outputs(tmp_path, extra=extra).write()).setting == text
