"""A whole report as a user meets it: files, texts, pictures, notebook and page."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest

from reports import figures, show, tables, tracking
from reports.build import build, load
from reports.notebook import execute, source
from tests.reports_fixture import (
    CLAIMS,
    FIRST,
    ROOT,
    SECOND,
    Outputs,
    assert_golden,
    run_name,
    write_evaluation,
    write_failure,
)

NAMES = ["crop", "color", "blur"]
FILES = {
    "table.csv", "table.md", "table.tex", "figure.png", "figure.svg", "claims.json", "report.ipynb", "report.html",
}  # fmt: skip
EVIL = '<script>alert("x")</script>'


def value(first: str, second: str, seed: int) -> float:
    """Two decimals, different in every cell and seed."""
    return round(30 + 7 * NAMES.index(first) + 3.1 * NAMES.index(second) + 0.7 * seed + 0.2 * seed * len(first), 2)


def outputs(tmp_path, value=value, **fields) -> Outputs:
    return Outputs(tmp_path, value, **{"names": NAMES, "claims": CLAIMS, "journal": True, **fields})


def with_gaps(tmp_path, **fields) -> Outputs:
    """A cell that diverged, one that is missing, and one with a seed less."""

    def gaps(first, second, seed):
        gap = (first, second) in {("crop", "blur"), ("blur", "blur")}
        gap |= (first, second, seed) == ("color", "crop", 1)
        return None if gap else value(first, second, seed)

    made = outputs(tmp_path, gaps, seeds=[0, 1], **fields)
    made.write()
    for seed in (0, 1):
        write_failure(made.run_folder("crop", "blur", seed), "diverged", "loss is nan at step 40")
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A full report of a study with gaps and evil names, built once."""
    labels = {FIRST: "1st & <b>", SECOND: "2nd", "crop": EVIL, "color": "C|o_l*or $x$", "blur": "50% {blur}"}
    made = with_gaps(
        tmp_path_factory.mktemp("a folder"),
        study={"title": f"Title {EVIL}", "labels": labels},
        extra={"tracking_uri": "http://server:5000", "overrides": [f"data.root={EVIL}"]},
    )
    write_failure(made.run_folder("crop", "blur", 0), "code error", f"ValueError: {EVIL}")
    ids = {run_name("color", "color", 0): "abc123"}
    (made.folder / "mlflow.json").write_text(json.dumps({"experiment": "7", "runs": ids}))
    build(made.folder)
    return made.folder


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title]] + [
        text.get_text() for text in figure.texts
    ]


def test_all_files_are_there_and_nothing_is_left_over(built):
    assert {path.name for path in built.iterdir()} == FILES | {"study.json", "mlflow.json"}


def test_partial_writes_only_table_and_picture(tmp_path):
    folder = outputs(tmp_path).write()
    build(folder, partial=True)
    assert {path.name for path in folder.iterdir()} == {"study.json", "table.csv", "figure.png"}


def test_table_csv_can_be_read_back(tmp_path):
    folder = with_gaps(tmp_path).folder
    build(folder, partial=True)
    table = pd.read_csv(folder / "table.csv", keep_default_na=False, na_values={"mean": [""], "paper": [""]})
    pd.testing.assert_frame_equal(
        table[["n", "mean", "state", "runs"]], load(folder).table[["n", "mean", "state", "runs"]], check_dtype=False
    )


def test_table_csv_has_what_was_measured_beside_what_the_report_shows(tmp_path):
    made = outputs(tmp_path)
    folder = made.write()
    manifest = json.loads((folder / "study.json").read_text())
    first = manifest["cells"][0]["runs"][0]
    first["evaluations"]["knn"] = "0123456789abcdef"
    (folder / "study.json").write_text(json.dumps(manifest))
    write_evaluation(made.root / "runs" / first["run"], first["run"], "0123456789abcdef", 34.5, 1000)
    build(folder, partial=True)
    table = pd.read_csv(folder / "table.csv")
    assert table["knn.top1"].dropna().tolist() == [34.5]
    assert table["knn.top5"].dropna().tolist() == [54.5]
    assert table["knn.top1.low"][0] < 34.5 < table["knn.top1.high"][0]


def test_texts_are_as_stored(tmp_path):
    report = load(with_gaps(tmp_path).folder)
    frame = tables.printed(report.shown)
    assert_golden("table.md", tables.markdown(frame, ["A caption."]))
    assert_golden("table.tex", tables.latex(frame, ["A caption."]))
    claims = [verdict.as_dict() for verdict in report.verdicts]
    assert_golden("claims.json", json.dumps(claims, indent=1) + "\n")
    cells = source(json.loads((report.folder / "study.json").read_text())).cells
    assert_golden("notebook.md", "\n\n".join(f"[{cell.cell_type}]\n{cell.source}" for cell in cells) + "\n")


def test_names_are_escaped_in_markdown_and_latex(built):
    markdown = (built / "table.md").read_text()
    assert "<script>" not in markdown
    assert r"C\|o\_l\*or $x$" in markdown
    latex = (built / "table.tex").read_text()
    assert r"C\textbar{}o\_l*or \$x\$" in latex
    assert r"50\% \{blur\}" in latex


def test_no_finished_run_is_a_report_of_missing_cells(tmp_path):
    folder = outputs(tmp_path, lambda *_: None).write()
    for run in (tmp_path / "runs").glob("*/result.json"):
        run.unlink()
    report = build(folder)
    assert {path.name for path in folder.iterdir()} == FILES | {"study.json"}
    assert texts(report.figure()).count("missing") == 9
    assert "0 of 9 cells are finished; 9 missing" in (folder / "table.md").read_text()
    assert {claim["verdict"] for claim in json.loads((folder / "claims.json").read_text())} == {"inconclusive"}


class Links(HTMLParser):
    """Collects what a browser would load, what it would run, and where a click leads."""

    def __init__(self):
        super().__init__()
        self.loaded: list[str] = []
        self.clicked: list[str] = []
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attributes):
        for name, target in attributes:
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag != "a"):
                self.loaded.append(target)
            elif name == "href":
                self.clicked.append(target)
            if name.startswith("on"):
                self.handlers.append(name)
        self.scripts += tag == "script"


def test_page_loads_nothing_and_runs_nothing(built):
    page = (built / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert len(links.loaded) == 2
    assert all(target.startswith("data:image/png;base64,") for target in links.loaded)
    assert links.scripts == 0
    assert links.handlers == []
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style


def test_page_links_to_mlflow_and_nowhere_else(built):
    links = Links()
    links.feed((built / "report.html").read_text())
    outside = [target for target in links.clicked if not target.startswith("#")]
    assert outside == ["http://server:5000/#/experiments/7/runs/abc123"]


def test_page_shows_what_is_asked_of_it(built):
    page = (built / "report.html").read_text()
    assert "not the paper's setting" in page
    assert "train.batch_size" in page
    assert "0123456789abcdef0123456789abcdef01234567" in page
    assert "torch 2.6.0" in page
    assert "Example CPU" in page
    assert run_name("color", "color", 0) in page
    assert "code error" in page
    assert "Traceback" not in page


def test_notebook_runs_again_from_its_folder_and_the_runs_alone(built):
    notebook = nbformat.read(built / "report.ipynb", as_version=4)
    assert all("error" not in {output.output_type for output in cell.get("outputs", [])} for cell in notebook.cells)
    manifest = built / "study.json"
    hidden = manifest.rename(built / "elsewhere.json")
    try:
        with ThreadPoolExecutor(1) as thread:
            again = thread.submit(execute, nbformat.read(built / "report.ipynb", as_version=4), built).result()
    finally:
        hidden.rename(manifest)
    assert [cell.get("outputs") for cell in again.cells] == [cell.get("outputs") for cell in notebook.cells]


def test_nothing_imports_torch_or_mlflow():
    code = (
        "import sys, reports.build, reports.notebook, reports.page, reports.show, reports.__main__;"
        "print([name for name in ('torch', 'mlflow', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line(tmp_path):
    folder = outputs(tmp_path).write()

    def run(*arguments):
        command = [sys.executable, "-m", "reports", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = run(folder / "study.json", "--partial")
    assert done.returncode == 0
    assert (folder / "figure.png").exists()
    wrong = run(tmp_path / "nowhere")
    assert wrong.returncode == 2
    assert "no study.json" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_heatmap_shows_numbers_gaps_and_the_paper(tmp_path):
    shown = texts(load(with_gaps(tmp_path).folder).figure())
    assert shown.count("diverged") == 1
    assert shown.count("missing") == 1
    assert "1 of 2" in shown
    assert "56.3" in shown
    assert "33.1" in shown
    assert "synthetic data, scale mini: not the paper's setting" in shown
    assert any("2 seeds; 95% intervals are Student's t over the seeds" in text for text in shown)
    assert any("untrained encoder 21.5" in text for text in shown)
    # Two rows have gaps, so their average is not shown; the middle one has all its cells.
    assert shown.count("row not\ncomplete") == 2


def test_colour_scales_are_stated_and_include_the_reference(tmp_path):
    shown = texts(load(outputs(tmp_path).write()).figure())
    assert "colour scale 21.5 to 50.2" in shown
    assert "colour scale 2.6 to 56.3" in shown


def test_one_seed_says_that_its_interval_is_the_test_samples(tmp_path):
    shown = texts(load(outputs(tmp_path).write()).figure())
    assert any("1 seed; 95% intervals are of the test sample alone" in text for text in shown)


@pytest.mark.parametrize("kind", ["heatmap", "table"])
def test_pictures_have_the_same_bytes_every_time(tmp_path, kind):
    study = {"report": {"kind": kind, "rows": FIRST, "columns": SECOND}}
    folder = outputs(tmp_path, study=study).write()
    first, second = (load(folder).figure() for _ in range(2))
    assert figures.svg(first) == figures.svg(second)
    assert figures.png(first) == figures.png(second)
    assert b"<dc:date>" not in figures.svg(first)


def test_a_large_grid_stays_a_picture_that_can_be_opened(tmp_path):
    names = [f"value {number}" for number in range(40)]
    folder = outputs(tmp_path, lambda first, *_: None, names=names, claims=[]).write()
    width, height = load(folder).figure().get_size_inches()
    assert max(width, height) < 30


def test_links_need_the_ids_of_the_mirror(tmp_path):
    made = outputs(tmp_path)
    manifest = load(made.write()).manifest
    assert tracking.links(manifest) == {}
    assert "mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db" in tracking.instruction(manifest)
    (made.folder / "mlflow.json").write_text('{"experiment": "1", "runs": {"r": "m"}}')
    assert tracking.links(manifest) == {"r": "http://127.0.0.1:5000/#/experiments/1/runs/m"}
    (made.folder / "mlflow.json").write_text("{")
    assert tracking.links(manifest) == {}


def test_two_cells_compared_are_paired_by_seed(tmp_path):
    report = load(outputs(tmp_path, seeds=[0, 1, 2]).write())
    best, second = report.best(2)
    assert (report.label_of(best), report.label_of(second)) == ("Blur, Blur", "Blur, Color")
    assert "Blur, Blur minus Blur, Color: 3.1 [3.1, 3.1] (3 seeds" in show.difference(report, best, second).data
