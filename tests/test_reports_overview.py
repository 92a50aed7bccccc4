"""The page of all studies, and what all studies cost together."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.errors import UserError
from core.states import RunState, State
from reports import show
from reports.build import load
from reports.overview import write_index
from sweeps import request, whole
from sweeps.costs import Speed
from sweeps.grid import Grid
from sweeps.plan import plan
from tests.invented import INFO, invent, near_the_paper, study_grid
from tests.reports_fixture import assert_golden
from tests.test_reports_build import EVIL, Links

CHECK = {"form": "monotone", "along": "loss.temperature"}
CLAIMS = [
    {"id": "up", "sentence": f"It goes up {EVIL}.", "section": "1", "check": CHECK},
    {
        "id": "down",
        "sentence": "It goes down.",
        "section": "1",
        "kind": "reading",
        "check": {**CHECK, "direction": "decreasing"},
    },
]
FIRST: dict[str, Any] = {
    "name": "first",
    "title": f"First {EVIL}",
    "summary": "Table 5: temperature",
    "axes": {"loss.temperature": [0.05, 0.1, 0.5, 1]},
    "report": {"kind": "lines", "x": "loss.temperature"},
    "claims": CLAIMS,
    "paper": {
        "source": "table5",
        "where": "Table 5",
        "numbers": [{"path": [{"row": {"l2_norm": True, "tau": {"axis": "loss.temperature"}}, "column": "top1"}]}],
    },
}
SECOND: dict[str, Any] = {
    "name": "second",
    "title": "Second",
    "summary": "own",
    "axes": {"loss.temperature": [0.1, 2]},
    "evaluations": ["linear", "knn"],
    "metric": "knn.top1",
}


def grids(folder: Path, *arguments: str) -> list[Grid]:
    """Both studies, as `study=all` would have them."""
    for study in (FIRST, SECOND):
        study_grid(folder, study)
    requests = []
    for name in ("first", "second"):
        requests += request.read([f"study={name}", f"output_dir={folder / 'outputs'}", *arguments], [folder])
    return whole.expand_all(requests, lambda _: INFO)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("all studies")
    reports = []
    for grid in grids(folder, "seeds=3"):
        near = near_the_paper(grid)
        is_gap = grid.request.study.name == "second"
        rising = {0.05: 0, 0.1: 5, 0.5: 10, 1: 15, 2: 20}

        def value(values, metric, seed, near=near, is_gap=is_gap, rising=rising):
            if is_gap and values.get("loss.temperature") == 2:
                return None
            return 30 + rising[values["loss.temperature"]] + 0.01 * near(values, metric, seed)

        report_dir = invent(grid, value)
        (report_dir / "figure.png").write_bytes(b"")
        (report_dir / "report.html").write_text("")
        reports.append(load(report_dir))
    return write_index(folder / "outputs" / "reports", reports)


def test_index_is_as_stored(index):
    body = index.read_text().partition("</head>")[2]
    assert_golden("index.html", re.sub(r">\s*<", ">\n<", body))


def test_index_links_every_report_and_loads_its_pictures_from_beside_it(index):
    links = Links()
    links.feed(index.read_text())
    assert links.loaded == ["first/figure.png", "second/figure.png"]
    assert set(links.clicked) == {"first/report.html", "second/report.html"}
    assert all((index.parent / target).exists() for target in [*links.loaded, *links.clicked])
    assert links.scripts == 0
    assert links.handlers == []
    assert EVIL not in index.read_text()


def test_index_says_what_came_of_each_study(index):
    page = index.read_text()
    # 5 distinct runs of 3 seeds are finished, though the studies have 4 + 1 cells with a run in common.
    assert "2 studies · 5 of 6 cells finished · 2.5 minutes of compute · claims of the paper: 1 supported" in page
    assert "1 of 2" in page
    assert "It goes down. (a common reading)" in page
    assert "contradicted" in page


def test_a_report_marks_readings_and_does_not_count_them(index):
    report = load(index.parent / "first")
    assert "claims of the paper: 1 supported" in show.heading(report).data
    assert "contradicted" not in show.heading(report).data
    assert "It goes down. (a common reading)" in show.claims(report).data


def test_a_run_of_several_studies_is_one_with_all_their_evaluations(tmp_path):
    first, second = grids(tmp_path)
    (shared,) = first.runs().keys() & second.runs().keys()
    assert first.runs()[shared] == second.runs()[shared]
    assert list(first.runs()[shared].evaluations) == ["linear", "knn"]
    alone = next(run for run in first.runs() if run != shared)
    assert list(first.runs()[alone].evaluations) == ["linear"]


def cost(folder: Path, found: list[Grid]) -> str:
    states = {run: RunState(State.PENDING) for grid in found for run in grid.runs()}
    everything = plan({run.id: run for grid in found for run in grid.runs().values()}.values(), states)
    speed = Speed.of(found[0].request.runs, [], found[0].info, on_gpu=False)
    with (folder / "plan.txt").open("w") as file:
        whole.show(found, everything, speed, workers=2, console=Console(file=file, width=200))
    return (folder / "plan.txt").read_text()


def test_the_cost_of_all_studies_counts_shared_runs_once(tmp_path):
    text = cost(tmp_path, grids(tmp_path))
    assert "6 runs asked for, 5 after sharing: 16.7% of the trainings" in text
    assert "5 to train" in text
    assert re.search(r"second +2 +2 +1 +2 ", text)
    assert "the paper has" not in text


def test_at_the_papers_scale_studies_of_other_pictures_are_named(tmp_path):
    first, second = grids(tmp_path, "data=image_folder", "evaluate.linear.protocol=lbfgs")
    of_paper = replace(first.request.scale, is_paper=True)
    on_cifar = replace(first.request.study, paper=replace(first.request.study.paper, data="cifar10"))
    first = replace(first, request=replace(first.request, scale=of_paper, study=on_cifar))
    said = "the paper has first on cifar10: say study=NAME data=cifar10 for what they cost there"
    assert said in cost(tmp_path, [first, second])


def test_an_override_must_have_an_effect_on_some_study(tmp_path):
    assert grids(tmp_path, "evaluate.linear.l2=0.5")
    with pytest.raises(UserError, match=r"loss\.margin=0\.3: has no effect on any cell of any study"):
        grids(tmp_path, "loss.margin=0.3")


def test_study_all_takes_overrides_where_they_fit():
    asked = {one.study.name: one for one in request.read(["study=all", "strength=1/8", "evaluate.knn.k=5"])}
    assert asked["color_strength"].axes["strength"] == ["1/8"]
    assert asked["recipe"].overrides == {"evaluate.knn.k": 5}
    assert asked["augment_pairs"].overrides == {}
    assert asked["augment_pairs"].changes == ()
    with pytest.raises(UserError, match="unknown key 'strenth': did you mean 'strength'"):
        request.read(["study=all", "strenth=1/8"])
    with pytest.raises(UserError, match=r"train.epochs=3: .* by its axis"):
        request.read(["study=all", "train.epochs=3"])


def test_the_manifest_of_each_study_keeps_its_own_evaluations(index):
    manifest = json.loads((index.parent / "first" / "study.json").read_text())
    assert {name for cell in manifest["cells"] for run in cell["runs"] for name in run["evaluations"]} == {"linear"}
