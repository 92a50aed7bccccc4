"""From a request to cells and runs: precedence, mapping by the scale, identity, and what is refused."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core.errors import UserError
from core.states import RunState, State
from sweeps import request
from sweeps.grid import Grid, expand
from sweeps.keys import assign
from sweeps.manifest import manifest
from sweeps.paper import load_paper
from sweeps.plan import plan
from tests.pictures import pictures

INFO = pictures(classes=2)


def grid_of(*arguments: str, folders: tuple[Path, ...] = ()) -> Grid:
    (asked,) = request.read(["study=augment_pairs", *arguments], folders)
    return expand(asked, INFO)


@pytest.fixture(scope="module")
def pairs() -> Grid:
    return grid_of()


def test_figure_5_has_49_cells_and_the_untrained_encoder(pairs: Grid):
    assert len(pairs.cells) == 49
    assert len(pairs.runs()) == 50
    assert [cell.reference for cell in pairs.references] == ["untrained"]
    assert pairs.references[0].runs[0].config.train.epochs == 0


def test_figure_5_protocol(pairs: Grid):
    configs = {tuple(cell.values.values()): cell.runs[0].config for cell in pairs.cells}
    assert configs["crop", "color"].augment.transforms == ("crop", "color")
    assert configs["color", "crop"].augment.transforms == ("color", "crop")
    assert configs["blur", "blur"].augment.transforms == ("blur",)
    assert all(config.augment.branches == "one" for config in configs.values())


def test_what_is_chosen_where_nothing_is_said_is_what_hydra_composes():
    defaults = yaml.safe_load((request.ABLATIONS / "config.yaml").read_text())["defaults"]
    composed = {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}
    assert composed.items() >= request.DEFAULTS.items()


def test_an_evaluation_beside_those_of_the_study_changes_no_run(pairs: Grid):
    more = grid_of("evaluations=[knn,linear]", "evaluate.knn.k=7")
    assert list(more.runs()) == list(pairs.runs())
    for own, planned in zip(pairs.runs().values(), more.runs().values(), strict=True):
        assert list(planned.evaluations) == ["linear", "knn"]
        assert planned.evaluation_ids["linear"] == own.evaluation_ids["linear"]
        assert planned.evaluations["knn"]["k"] == 7
    assert more.request.study.metric == "linear.top1"


def test_at_paper_scale_a_crop_is_shared_by_both_branches():
    paper = grid_of("scale=imagenet")
    assert all(cell.runs[0].config.augment.shared == ("crop",) for cell in paper.cells)
    config = paper.cells[0].runs[0].config
    assert (config.train.batch_size, config.train.epochs, config.optimizer.name) == (4096, 100, "lars")


def test_every_cell_has_the_papers_number(pairs: Grid):
    numbers = {tuple(cell.values.values()): cell.paper["linear.top1"] for cell in pairs.cells}
    fig5 = load_paper()["fig5"]
    assert numbers["crop", "color"] == 56.3
    assert numbers["color", "crop"] == 55.8
    assert numbers["rotate", "rotate"] == fig5["Rotate"][6]


def test_the_scale_maps_the_papers_values_and_the_command_line_is_taken_as_it_is(pairs: Grid):
    scale = yaml.safe_load((request.ABLATIONS / "scale" / "mini.yaml").read_text())
    own = round(100 * scale["map"]["train.epochs"]["factor"])
    assert pairs.cells[0].runs[0].config.train.epochs == own
    assert {"key": "train.epochs", "paper": 100, "own": own} in pairs.mapped
    asked = grid_of("train.epochs=200")
    assert asked.cells[0].runs[0].config.train.epochs == 200
    assert all(entry["key"] != "train.epochs" for entry in asked.mapped)


def test_the_untrained_encoder_stays_untrained_whatever_the_user_sets():
    assert grid_of("train.epochs=200").references[0].runs[0].config.train.epochs == 0


def test_an_axis_can_be_narrowed():
    one = grid_of("augment.transforms.0=crop,color", "augment.transforms.1=crop")
    assert [tuple(cell.values.values()) for cell in one.cells] == [("crop", "crop"), ("color", "crop")]
    assert grid_of("augment.transforms.0=[crop,color]", "augment.transforms.1=[crop]").cells == one.cells
    assert manifest(one)["overrides"] == ["augment.transforms.0=crop,color", "augment.transforms.1=crop"]


def test_seeds_multiply_the_runs_not_the_cells():
    three = grid_of("seeds=3", "augment.transforms.0=crop")
    assert len(three.cells) == 7
    assert [run.config.seed for run in three.cells[0].runs] == [0, 1, 2]
    assert [run.config.seed for run in grid_of("seeds=[7]").cells[0].runs] == [7]


def test_where_things_are_kept_does_not_change_the_runs(pairs: Grid):
    moved = grid_of("output_dir=/elsewhere", "machine.device=cpu", "data.cache_gb=1")
    assert list(moved.runs()) == list(pairs.runs())
    assert grid_of("output_dir=1e5").request.output.name == "1e5"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train.epoch=3"], "unknown key 'train.epoch': did you mean 'train.epochs'?"),
        (["train.epochs=ten"], "train.epochs=ten: input should be a valid integer"),
        (["train.epochs=1,2"], "train.epochs=1,2: several values narrow an axis"),
        (["augment.transforms.0=crop,colr"], "augment.transforms.0=colr: input should be 'crop'"),
        (["augment.transforms.0=crop,crop"], "study augment_pairs: duplicate cells"),
        (
            ["augment.transforms.5=crop"],
            "augment.transforms.5=crop: command line: augment.transforms has 2 items",
        ),
        (["loss.margin=0.1"], "loss.margin=0.1: has no effect"),
        (["train.batch_size=9000"], "train.batch_size=9000: at most the 8192 training pictures"),
        (["seeds=0,1"], "seeds=0,1: one value; several seeds are seeds=[0,1]"),
        (["run=3fa"], "run=3fa: only with action=logs"),
        (["run=1e5"], "run=1e5: only with action=logs"),
        (["watch=true"], "watch=True: only with action=status"),
        (["scale=tiny"], "unknown scale 'tiny': did you mean 'mini'?"),
        (["launcher=locl"], "unknown launcher 'locl': did you mean 'local'?"),
        (["launcher.wrkers=2"], "unknown key 'launcher.wrkers'"),
        (["action=go"], "action=go: input should be 'run'"),
        (["seeds=0"], "seeds=0: a number of seeds"),
        (["seeds=[1,1]"], "seeds=[1, 1]: a number of seeds"),
        (["evaluate.linear.protcol=sgd"], "unknown key 'evaluate.linear.protcol': did you mean"),
        (["tracking.url=x"], "unknown key 'tracking.url': did you mean 'tracking.uri'?"),
        (["study"], "study: write key=value"),
        (["+train.epochs=2"], "+train.epochs=2: every key exists already"),
        (["seed=3"], "seed=3: write seeds=3"),
    ],
)
def test_a_wrong_request_is_one_clear_line(arguments: list[str], line: str):
    with pytest.raises(UserError) as caught:
        grid_of(*arguments)
    assert line.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_processes_that_would_share_a_gpu_are_refused_where_they_are_to_train(monkeypatch, device: str):
    two = ["launcher.processes_per_run=2", f"machine.device={device}"]
    monkeypatch.setattr("sweeps.grid.gpus", lambda: ["0"])
    for action in ("run", "plan"):
        with pytest.raises(UserError, match=r"^launcher.processes_per_run=2: at most 1, .* 1 GPU.*machine.device=cpu$"):
            grid_of(*two, f"action={action}")
    for words in (["action=status"], ["machine.device=cpu"]):
        assert grid_of(*two, *words).cells
    monkeypatch.setattr("sweeps.grid.gpus", lambda: ["0", "1"])
    assert grid_of(*two).cells
    monkeypatch.setattr("sweeps.grid.gpus", list)
    assert grid_of(*two).cells


STUDY = {"name": "own", "title": "t", "summary": "s", "axes": {"loss.temperature": [0.1, 0.5]}}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"axes": {"loss.temprature": [1]}}, "did you mean 'loss.temperature'"),
        ({"axes": {"loss.temperature": []}}, "axis loss.temperature has no values"),
        ({"axes": {"loss.temperature": [0.5, 0.5]}}, "each value of an axis once"),
        ({"axes": {"loss.temperature": [0.5, "0.5"]}}, "duplicate cells"),
        ({"axes": {"loss.temperature": ["warm"]}}, "loss.temperature=warm: input should be a valid number"),
        ({"base": {"train.epoch": 1}}, "did you mean 'train.epochs'"),
        ({"metrik": "linear.top1"}, "unknown key 'metrik'"),
        ({"metric": "knn.top1"}, "metric=knn.top1"),
        ({"metric": "linear.topp1"}, "metric=linear.topp1"),
        ({"metric": "linear.top5"}, "top-5 needs more than 2 classes"),
        ({"axes": {"data.train_size": [100, 200]}}, "the cells of a study share one data set"),
        ({"evaluations": ["lineer"]}, "did you mean 'linear'"),
        ({"report": {"kind": "piechart"}}, "unknown report.kind 'piechart'"),
        (
            {"report": {"kind": "heatmap", "rows": "loss.temperature", "columns": "x"}},
            "unknown axis in report.columns 'x'",
        ),
        ({"name": "other"}, "name=other"),
        ({"claims": [{"id": "a", "sentence": "s", "section": "1", "check": {"form": "bigest"}}]}, "claims.0.check"),
        (
            {
                "claims": [
                    {
                        "id": "a",
                        "sentence": "s",
                        "section": "1",
                        "check": {"form": "largest", "cells": {"loss.temperature": 7}, "among": {}},
                    }
                ]
            },
            "unknown claims.0.check.loss.temperature '7': allowed: 0.1, 0.5",
        ),
    ],
)
def test_a_wrong_study_file_is_one_clear_line(tmp_path: Path, changes: dict, line: str):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))
    with pytest.raises(UserError) as caught:
        expand(*request.read(["study=own"], [tmp_path]), INFO)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_of_ones_own_needs_one_file(tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own.yaml").write_text(yaml.safe_dump(STUDY))
    assert "own" in request.study_names([tmp_path])
    (asked,) = request.read(["study=own"], [tmp_path])
    assert [cell.values for cell in expand(asked, INFO).cells] == [
        {"loss.temperature": 0.1},
        {"loss.temperature": 0.5},
    ]


def test_an_axis_may_have_lists_as_values(tmp_path: Path):
    (tmp_path / "study").mkdir()
    axes = {"augment.transforms": [["crop"], ["crop", "color"]]}
    (tmp_path / "study" / "own.yaml").write_text(yaml.safe_dump({**STUDY, "axes": axes}))
    (asked,) = request.read(["study=own"], [tmp_path])
    assert [cell.runs[0].config.augment.transforms for cell in expand(asked, INFO).cells] == [
        ("crop",),
        ("crop", "color"),
    ]
    (asked,) = request.read(["study=own", "augment.transforms=[crop]"], [tmp_path])
    assert [cell.runs[0].config.augment.transforms for cell in expand(asked, INFO).cells] == [("crop",)]


def test_a_study_may_configure_its_evaluations(tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own.yaml").write_text(yaml.safe_dump({**STUDY, "base": {"evaluate.linear.l2": 0.5}}))
    (asked,) = request.read(["study=own"], [tmp_path])
    assert expand(asked, INFO).cells[0].runs[0].evaluations["linear"]["l2"] == 0.5


def test_yaml_that_is_none_is_one_line(tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own.yaml").write_text("name: [own\ntitle: x")
    with pytest.raises(UserError) as caught:
        request.read(["study=own"], [tmp_path])
    assert "own.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_assign_reaches_items_of_lists():
    flat = {"augment.transforms": ["crop", "color"]}
    assign(flat, "augment.transforms.1", "blur", "here")
    assert flat == {"augment.transforms": ["crop", "blur"]}


@given(st.lists(st.sampled_from(list(State)), min_size=50, max_size=50))
def test_a_plan_does_everything_that_is_missing_and_nothing_twice(pairs: Grid, states: list[State]):
    runs = pairs.runs()
    observed = {identity: RunState(state) for identity, state in zip(runs, states, strict=True)}
    planned = plan(runs.values(), observed)
    groups = [planned.train, planned.evaluate, planned.done, planned.running, planned.queued, planned.hopeless]
    assert sorted(run.id for group in groups for run in group) == sorted(runs)
    assert {run.id for run in planned.done} == {run for run, state in observed.items() if state.state == State.DONE}
    assert {run.id for run in planned.evaluate} == {
        run for run, state in observed.items() if state.state == State.TRAINED
    }


def test_a_diverged_run_is_not_tried_again_and_a_killed_one_is(pairs: Grid):
    first, second, *others = pairs.runs().values()
    states = {run.id: RunState(State.DONE) for run in others}
    states[first.id] = RunState(State.FAILED, "diverged")
    states[second.id] = RunState(State.FAILED, "killed")
    planned = plan(pairs.runs().values(), states)
    assert planned.hopeless == (first,)
    assert planned.to_do == (second,)


def test_a_trained_run_whose_evaluation_diverged_can_still_be_evaluated(pairs: Grid):
    first, *others = pairs.runs().values()
    states = {run.id: RunState(State.DONE) for run in others}
    planned = plan(pairs.runs().values(), {**states, first.id: RunState(State.FAILED, "diverged", trained=True)})
    assert planned.evaluate == (first,)


def test_a_job_finds_pictures_wherever_it_runs(tmp_path: Path, monkeypatch):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / split / name / "1.png")
    monkeypatch.chdir(tmp_path)
    words = ["data=image_folder", "data.root=pictures", "train.batch_size=2", f"output_dir={tmp_path}"]
    assert grid_of(*words).machine()["data.root"] == str(tmp_path / "pictures")
