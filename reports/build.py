"""Build a study's report: read, decide, draw, write.

Every file is replaced atomically. Nothing here trains, and nothing that is unfinished is an error: the
report shows what is there and says what is not.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from core.rundir import write_atomically, write_json
from reports import figures, tables
from reports.captions import caption_lines
from reports.claimfile import parse_claims
from reports.claims import Verdict, decide, own_evidence
from reports.collect import read_runs, tabulate
from reports.manifest import NOTEBOOK_FILE, Manifest, read
from reports.shown import Shown, show
from reports.spec import parse_report
from reports.statistics import Agreement, agreement


@dataclass(frozen=True)
class Report:
    """A study with its results; what is derived is computed when it is asked for.

    runs: one line per run. table: one line per cell and reference, as in table.csv.
    """

    manifest: Manifest
    runs: pd.DataFrame
    table: pd.DataFrame

    @property
    def folder(self) -> Path:
        return self.manifest.folder

    @property
    def cells(self) -> pd.DataFrame:
        """The lines of the table that are cells; the index is the row number in the table."""
        return self.table[self.table["kind"] == "cell"]

    @cached_property
    def agreement(self) -> Agreement | None:
        """Rank agreement with the paper; None where too few cells have both numbers."""
        points = self.shown.compared
        return agreement([point.interval.mean for point in points], [point.paper for point in points])

    @cached_property
    def shown(self) -> Shown:
        """The cells as the figure, the printed table and the claims see them."""
        return show(self.manifest, self.runs, self.table)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return decide(parse_claims(self.manifest.study.claims), own_evidence(self.shown))

    def figure(self) -> Figure:
        return figures.draw(self.shown, self.agreement)

    def best(self, n: int) -> list[int]:
        """Rows of the `n` cells with the largest means, the largest first; unfinished cells come last."""
        return self.cells["mean"].sort_values(ascending=False, kind="stable").index[:n].tolist()

    def runs_of(self, row: int) -> list[str]:
        """The run ids of a row of the table."""
        return self.table["runs"][row].split()

    def by_seed(self, row: int) -> dict[int, float]:
        """Seed to value of a row of the table, for the seeds that have one."""
        runs = self.runs[(self.runs["row"] == row) & self.runs["value"].notna()]
        return dict(zip(runs["seed"].tolist(), runs["value"].tolist(), strict=True))

    def label_of(self, row: int) -> str:
        """A row of the table in words, such as "Crop, Color"."""
        line = self.table.iloc[row]
        if line["kind"] == "reference":
            return self.manifest.references[row - len(self.cells)].label
        return ", ".join(self.manifest.label_on(axis.key, line[axis.key]) for axis in self.manifest.axes)

    def name_of(self, run: str) -> str:
        """The row in words to which a run belongs first."""
        return self.label_of(int(self.runs.loc[self.runs["run"] == run, "row"].iloc[0]))


def load(folder: Path) -> Report:
    """The report of a study from its manifest and run directories; writes nothing. Raises: UserError."""
    manifest = read(folder)
    runs = read_runs(manifest)
    shown = list(parse_report(manifest.study.report).metric_axes(manifest.study.metric))
    # What is measured on the runs and not shown can at least be read.
    seen = {"train", *(name.partition(".")[0] for name in shown)}
    others = {name: None for found in runs["metrics"] for name in found if name.partition(".")[0] not in seen}
    return Report(manifest, runs, tabulate(manifest, runs, [*shown, *others]))


def build(report_dir: Path, partial: bool = False) -> Report:
    """Write the report files into `report_dir`, where study.json lies.

    partial: only table.csv and figure.png, for use while the study runs. Raises: UserError.
    """
    report = load(Path(report_dir))
    folder = report.folder
    write_atomically(folder / "table.csv", report.table.to_csv(index=False, lineterminator="\n"))
    if partial:
        write_atomically(folder / "figure.png", figures.png(report.figure()))
        return report

    # Only here, because a partial report is built often while a study runs.
    from reports.notebook import executed, text
    from reports.page import page

    # A kernel takes seconds to start, in a process of its own; it needs no more than what is there by now.
    with ThreadPoolExecutor(1) as thread:
        executing = thread.submit(executed, folder)
        _write_results(report)
        notebook = executing.result()
    write_atomically(folder / NOTEBOOK_FILE, text(notebook))
    write_atomically(folder / "report.html", page(notebook, report.manifest))
    return report


def _write_results(report: Report) -> None:
    """The figure, the printed tables and the claims."""
    folder, figure = report.folder, report.figure()
    write_atomically(folder / "figure.png", figures.png(figure))
    write_atomically(folder / "figure.svg", figures.svg(figure))
    caption = caption_lines(report.shown, report.agreement)
    frame = tables.printed(report.shown)
    write_atomically(folder / "table.md", tables.markdown(frame, caption))
    write_atomically(folder / "table.tex", tables.latex(frame, caption))
    write_json(folder / "claims.json", [verdict.as_dict() for verdict in report.verdicts])
