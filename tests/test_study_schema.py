# ruff: noqa: E501 -- one case of a wrong file per line
"""What a study file can say: compound axes, cells that do not exist, named evaluations, numbers of the paper."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import UserError
from reports.manifest import parse as parse_manifest
from sweeps import request
from sweeps.grid import Grid, expand
from sweeps.manifest import manifest
from tests.test_grid import INFO

STRENGTH = {
    "1/8": {"augment.color_strength": 0.125},
    "1": {"augment.color_strength": 1.0},
    "1 (+blur)": {"augment.color_strength": 1.0, "augment.transforms": ["crop", "color", "blur"]},
}
STUDY: dict[str, Any] = {
    "name": "own",
    "title": "t",
    "summary": "s",
    "axes": {"train.objective": ["contrastive", "supervised"], "strength": STRENGTH},
    "base": {"augment.transforms": ["crop", "color"], "train.epochs": 100},
    "report": {"kind": "table", "rows": "train.objective", "columns": "strength"},
    "paper": {
        "source": "table1",
        "where": "Table 1",
        "numbers": [
            {
                "path": [
                    {"axis": "train.objective", "names": {"contrastive": "SimCLR", "supervised": "Supervised"}},
                    {
                        "axis": "strength",
                        "position_in": "cols",
                        "names": {"1/8": "1/8", "1": "1", "1 (+blur)": "1 (+Blur)"},
                    },
                ]
            }
        ],
    },
}
EVALUATIONS = {
    "linear": {},
    "finetune_1": {"kind": "finetune", "labels": 0.01},
    "finetune_10": {"kind": "finetune", "labels": 0.1, "epochs": 30},
}


def write(folder: Path, changes: dict[str, Any]) -> None:
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "own.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))


def grid(folder: Path, changes: dict[str, Any] | None = None, *arguments: str) -> Grid:
    write(folder, changes or {})
    (asked,) = request.read(["study=own", *arguments], [folder])
    return expand(asked, INFO)


def names(made: Grid) -> list[tuple]:
    return [tuple(cell.values.values()) for cell in made.cells]


def test_a_value_of_a_compound_axis_sets_several_keys(tmp_path):
    made = grid(tmp_path)
    assert len(made.cells) == 6
    configs = {tuple(cell.values.values()): cell.runs[0].config.augment for cell in made.cells}
    assert configs["contrastive", "1/8"].color_strength == 0.125
    assert configs["contrastive", "1/8"].transforms == ("crop", "color")
    assert configs["supervised", "1 (+blur)"].transforms == ("crop", "color", "blur")


def test_cells_can_be_left_out(tmp_path):
    made = grid(tmp_path, {"exclude": [{"train.objective": "supervised", "not": {"strength": "1"}}]})
    assert names(made) == [
        ("contrastive", "1/8"),
        ("contrastive", "1"),
        ("contrastive", "1 (+blur)"),
        ("supervised", "1"),
    ]


def test_a_compound_axis_can_be_narrowed(tmp_path):
    made = grid(tmp_path, {}, "train.objective=supervised", 'strength=1/8,"1 (+blur)"')
    assert names(made) == [("supervised", "1/8"), ("supervised", "1 (+blur)")]
    assert names(grid(tmp_path, {}, "train.objective=supervised", "strength=1")) == [("supervised", "1")]


def test_cells_have_the_papers_numbers(tmp_path):
    numbers = {tuple(cell.values.values()): cell.paper for cell in grid(tmp_path).cells}
    assert numbers["contrastive", "1/8"] == {"linear.top1": 59.6}
    assert numbers["supervised", "1 (+blur)"] == {"linear.top1": 75.4}
    typed = parse_manifest(manifest(grid(tmp_path)), tmp_path)
    assert [cell.paper for cell in typed.cells] == [59.6, 63.2, 64.5, 77.0, 75.7, 75.4]


def test_a_value_of_the_users_own_has_no_number_of_the_paper(tmp_path):
    made = grid(tmp_path, {"axes": {"augment.color_strength": [0.125]}, "report": {}, "paper": {
        "source": "table1", "where": "Table 1",
        "numbers": [{"path": ["SimCLR", {"axis": "augment.color_strength", "position_in": "cols", "names": {0.125: "1/8"}}]}],
    }}, "augment.color_strength=0.125,0.3")  # fmt: skip
    assert [cell.paper for cell in made.cells] == [{"linear.top1": 59.6}, {}]


def test_evaluations_have_names_and_settings(tmp_path):
    run = grid(tmp_path, {"evaluations": EVALUATIONS}).cells[0].runs[0]
    assert list(run.evaluations) == ["linear", "finetune_1", "finetune_10"]
    assert [run.evaluations[name]["kind"] for name in run.evaluations] == ["linear", "finetune", "finetune"]
    assert [run.evaluations[name]["labels"] for name in ("finetune_1", "finetune_10")] == [0.01, 0.1]
    assert len(set(run.evaluation_ids.values())) == 3


def test_the_name_of_an_evaluation_is_not_part_of_its_id(tmp_path):
    one = grid(tmp_path, {"evaluations": {"linear": {}, "few": {"kind": "finetune", "labels": 0.1}}}).cells[0].runs[0]
    two = grid(tmp_path, {"evaluations": {"linear": {}, "some": {"kind": "finetune", "labels": 0.1}}}).cells[0].runs[0]
    assert one.evaluation_ids["few"] == two.evaluation_ids["some"]


def own_scale(folder: Path, base: dict, mapping: dict) -> str:
    (folder / "scale").mkdir(exist_ok=True)
    mini = yaml.safe_load((request.ABLATIONS / "scale" / "mini.yaml").read_text())
    kept = {key: value for key, value in mini["base"].items() if not key.startswith("evaluate.")}
    scale = {"summary": "s", "is_paper": False, "base": {**kept, **base}, "map": mapping}
    (folder / "scale" / "tiny.yaml").write_text(yaml.safe_dump(scale))
    return "scale=tiny"


def test_who_decides_a_setting_of_an_evaluation(tmp_path):
    """A scale shrinks amounts, a study says what is asked, the user has the last word."""
    scale = own_scale(
        tmp_path,
        {"evaluate.finetune.batch_size": 32, "evaluate.finetune.labels": 0.5},
        {"evaluate.finetune.epochs": {"factor": 0.1}},
    )
    study = {
        "evaluations": EVALUATIONS,
        "base": {**STUDY["base"], "evaluate.finetune.base_lr": 0.2, "evaluate.finetune.batch_size": 64},
    }

    def settings(*arguments: str) -> list[tuple]:
        run = grid(tmp_path, study, scale, *arguments).cells[0].runs[0]
        few, more = (run.evaluations[name] for name in ("finetune_1", "finetune_10"))
        return [(one["labels"], one["epochs"], one["batch_size"], one["base_lr"]) for one in (few, more)]

    assert settings() == [(0.01, 6, 32, 0.2), (0.1, 3, 32, 0.2)]
    assert settings("evaluate.finetune.epochs=7") == [(0.01, 7, 32, 0.2), (0.1, 7, 32, 0.2)]
    both = ("evaluate.finetune.epochs=7", "evaluate.finetune_10.epochs=9")
    assert settings(*both) == [(0.01, 7, 32, 0.2), (0.1, 9, 32, 0.2)]
    mapped = grid(tmp_path, study, scale).mapped
    assert {"key": "evaluate.finetune.epochs", "paper": 30, "own": 3} in mapped


def test_cells_that_differ_in_their_evaluations_share_one_run(tmp_path):
    axes = {"evaluate.linear.features": ["h", "z"]}
    made = grid(tmp_path, {"axes": axes, "report": {}, "paper": None, "base": {"evaluate.linear.l2": 0.1}})
    assert len(made.cells) == 2
    (run,) = made.runs().values()
    assert len(run.evaluation_ids) == 2
    assert sorted(tree["features"] for tree in run.evaluations.values()) == ["h", "z"]
    assert {tree["l2"] for tree in run.evaluations.values()} == {0.1}


def test_the_same_run_with_the_same_evaluations_is_a_duplicate(tmp_path):
    same = {"a": {"evaluate.linear.l2": 0.1}, "b": {"evaluate.linear.l2": 0.1}}
    with pytest.raises(UserError, match="duplicate cells"):
        grid(tmp_path, {"axes": {"same": same}, "report": {}, "paper": None})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["strength=1/7"], "unknown value of strength '1/7': did you mean '1/8'?"),
        (["strenght=1"], "unknown key 'strenght': did you mean 'strength'?"),
        (["augment.color_strength=0.5"], "own sets augment.color_strength by its axis strength; narrow that"),
        (["evaluate.finetune.labels=0.5"], "study own does not ask for this evaluation, but for linear"),
        (["evaluate.linear_z.l2=0.5"], "unknown key 'evaluate.linear_z.l2': did you mean 'evaluate.linear.l2'?"),
        (["evaluate.linear.epochs=3"], "evaluate.linear.epochs=3: has no effect on any cell of this study"),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path, arguments: list[str], line: str):
    with pytest.raises(UserError) as caught:
        grid(tmp_path, {}, *arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def paper(**changes: Any) -> dict[str, Any]:
    return {"paper": {**STUDY["paper"], **changes}}


def path(*steps: Any) -> dict[str, Any]:
    return paper(numbers=[{"path": list(steps)}])


def claim(check: dict[str, Any]) -> dict[str, Any]:
    return {"claims": [{"id": "a", "sentence": "s", "section": "1", "check": check}]}


OBJECTIVE, STRENGTHS = STUDY["paper"]["numbers"][0]["path"]
ONE_CELL = {"axes": {}, "paper": None}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"axis": {}}, "unknown key 'axis': did you mean 'axes'?"),
        ({"axes": {"augment.x": STRENGTH}}, "axes=augment.x: an axis whose values set several keys has a name without dots"),
        ({"axes": {"strength": {"1": {"augment.colour": 1}}}}, "unknown key in axes.strength 'augment.colour'"),
        ({"axes": {"strength": {"1": {"seed": 1}}}}, "axes.strength.seed=1: no seed: each cell is run under all of seeds=N"),
        ({"references": {"other": {"label": "other", "set": {"seed": 1}}}}, "references.other.set.seed=1: no seed: each"),
        ({"exclude": [{"strengt": "1"}]}, "unknown axis in exclude.0 'strengt': did you mean 'strength'?"),
        ({"exclude": [{"strength": "2"}]}, "unknown exclude.0.strength '2'"),
        ({"exclude": [{"strength": "*"}]}, "exclude leaves no cell"),
        ({"evaluations": {"few": {"kind": "finetun"}}}, "unknown kind of evaluation in evaluations.few 'finetun': did you mean 'finetune'?"),
        ({"evaluations": {"linear": {"kind": "knn"}}}, "evaluations.linear.kind=knn: linear, which this evaluation is called after"),
        ({"evaluations": {"linear": {"feature": "z"}}}, "unknown key 'evaluations.linear.feature': did you mean"),
        ({"evaluations": {"train": {"kind": "linear"}}}, "evaluations=train: a name without dots, other than train"),
        ({"metric": "linear_z.top1"}, "metric=linear_z.top1: one of linear.top1"),
        ({"metric": "linear.validation_top1"}, "metric=linear.validation_top1: with these settings one of top1, top5"),
        ({"report": {"kind": "xyz"}}, "unknown report.kind 'xyz': allowed: bars, heatmap"),
        ({"report": {"kind": "bars", "x": "strength"}}, "report.kind=bars does not show the axis train.objective: name it in one of x, hue"),
        ({"report": {"kind": "lines", "x": "size"}}, "unknown axis in report.x 'size': allowed: metric, strength, train.objective"),
        ({"report": {"kind": "table", "metrics": ["linear.top2"]}}, "unknown metric in report 'linear.top2': did you mean"),
        ({"report": {"kind": "table", "best": {"axis": "strength", "by": "linear.val"}}}, "unknown metric in report 'linear.val'"),
        ({"report": {"kind": "table", "best": {"axis": "strength", "by": "linear.top1"}}}, "report.best.by=linear.top1: one of linear.validation_top1, train.accuracy: test pictures are not for choosing"),
        ({"report": {"kind": "table", "best": {"axis": "strength", "by": "linear.validation_top1"}}}, "report.best.by=linear.validation_top1: with these settings one of top1, top5"),
        ({"report": {"kind": "table", "rows": "strength", "bold": "strength"}}, "report.bold=strength: metrics of transfer; linear.top1 has no test"),
        ({"evaluations": ["linear", "histograms"], "report": {"kind": "panel", "figure": "histograms", "evaluation": "histograms"}}, "report.kind=panel draws one cell; the axis train.objective has 2 values: keep one"),
        (paper(source=""), "paper.source: missing"),
        ({**ONE_CELL, "report": {"kind": "panel", "figure": "histograms", "evaluation": "linear"}}, "report.evaluation=linear: an evaluation of the kind histograms"),
        ({"scales": {"minni": {"narrow": {"strength": ["1"]}}}}, "unknown scale in scales 'minni': did you mean 'mini'?"),
        (claim({"form": "all", "checks": []}), "claims.0.check.checks=[]: at least one check"),
        (claim({"form": "monotone", "along": "strength", "cells": {"strength": "1"}}), "cells at two values of strength at least"),
        (claim({"form": "range", "cells": {}, "within": 1, "metric": "linear.validation_top1"}), "claims.0.check=linear.validation_top1: with these settings one of top1, top5"),
        ({"paper": None, **claim({"form": "correlation", "above": 0.5})}, "claims.0.check.form=correlation: a study with numbers of the paper"),
        (paper(source="table99"), "unknown paper.source 'table99': did you mean 'table"),
        (paper(wher="x"), "unknown key 'paper.wher'"),
        (path("Simclr", STRENGTHS), "unknown paper.numbers.0.path.0 'Simclr': did you mean 'SimCLR'?"),
        (path({"axis": "train.objectiv"}), "unknown axis in paper.numbers.0.path.0 'train.objectiv': did you mean 'train.objective'?"),
        (path({"axes": "train.objective"}), "unknown key 'paper.numbers.0.path.0.axes': did you mean"),
        (path(OBJECTIVE, {"axis": "strength", "position_in": "columns"}), "unknown paper.numbers.0.path.1.position_in 'columns'"),
        (path(OBJECTIVE, {"axis": "strength", "position_in": "cols"}), "unknown paper.numbers.0.path.1 '1 (+blur)': did you mean '1 (+Blur)'?"),
        (path({"axis": "strength", "names": {"1": "SimCLR"}}), "unknown value in paper.numbers.0.path.0.names '1/8'"),
        (path("SimCLR"), 'paper.numbers.0.path=["SimCLR"]: a path to a number'),
        (path("SimCLR", 9), "paper.numbers.0.path.1=9: a list of 6 stands here: a position from 0"),
        (paper(numbers=[{"path": ["SimCLR", 0]}, {"path": ["SimCLR", 1]}]), "have no number of linear.top1 yet"),
        (paper(numbers=[{"path": ["SimCLR", 0], "when": {"strength": "7"}}]), "unknown paper.numbers.0.when.strength '7'"),
        (paper(numbers=[{"path": ["SimCLR", 0], "metric": "top1"}]), "unknown paper.numbers.0.metric 'top1'"),
        (paper(source="table5", numbers=[{"path": [{"row": {"tau": 0.2}, "column": "top1"}]}]), "unknown paper.numbers.0.path.0.row.tau '0.2'"),
        (paper(source="table5", numbers=[{"path": [{"row": {"l2_norm": True}, "column": "top1"}]}]), "columns that tell 4 rows apart"),
        (paper(source="table5", numbers=[{"path": [{"row": {"tau": 10}, "column": "top"}]}]), "unknown column in paper.numbers.0.path.0.column 'top': did you mean 'top1'?"),
        ({"axes": {"kind": {"a": {"train.epochs": 1}}}}, "axes=kind: an axis called otherwise than action, cause"),
        (paper(others=[{"metrics": {"linear.top1": "top1"}}]), "unknown paper.others.0 'rows'"),
        (paper(others=[{"block": "table6", "metrics": {"linear.top1": "top_1"}}]), "unknown column in paper.others.0 'top_1': did you mean 'top1'?"),
        (paper(others=[{"block": "table6", "metrics": {"linear.top1": "top1"}, "label": "{who}"}]), "paper.others.0.label={who}: allowed in braces: method"),
        ({"claims": [{"id": "a", "sentence": "s", "section": "1", "check": {"form": "largest", "cells": {"strength": "3"}}}]}, "unknown claims.0.check.strength '3'"),
        (
            {
                "exclude": [{"train.objective": "supervised", "strength": "1"}],
                "claims": [{"id": "a", "sentence": "s", "section": "1", "check": {"form": "range", "within": 1, "cells": {"train.objective": "supervised", "strength": "1"}}}],
            },
            "the study has no such cell",
        ),
    ],
)  # fmt: skip
def test_a_wrong_study_file_is_one_line_with_its_name(tmp_path, changes: dict, line: str):
    with pytest.raises(UserError) as caught:
        grid(tmp_path, changes)
    assert line in str(caught.value)
    assert re.match(
        rf"{re.escape(str(tmp_path))}/study/own.yaml: |metric=|report.best.by=|claims.0.check=", str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_of_a_key_given_twice_the_last_counts():
    words = ["study=augment_pairs", "train.epochs=1", "augment.transforms.0=crop,blur"]
    (asked,) = request.read([*words, "augment.transforms.0=color", "train.epochs=2"])
    assert asked.axes["augment.transforms.0"] == ["color"]
    assert asked.overrides["train.epochs"] == 2
    assert set(asked.changes) == {"augment.transforms.0=color", "train.epochs=2"}
