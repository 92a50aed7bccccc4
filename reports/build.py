"""Build a study's report: read, decide, draw, write.

Every file is replaced atomically. Nothing here trains, and nothing that is unfinished is an error: the
report shows what is there and says what is not.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from core.rundir import write_atomically, write_json
from reports import figures, tables
from reports.captions import caption_lines
from reports.claims import Verdict, decide, own_evidence, parse_claims
from reports.collect import read_runs, tabulate
from reports.manifest import Manifest, read
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

    @cached_property
    def agreement(self) -> Agreement | None:
        """Rank agreement with the paper; None where too few cells have both numbers."""
        cells = self.table[self.table["kind"] == "cell"]
        return agreement(cells["mean"].tolist(), cells["paper"].tolist())

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return decide(parse_claims(self.manifest.study.claims), own_evidence(self.manifest, self.runs))

    def figure(self) -> Figure:
        return figures.draw(self.manifest, self.table, self.agreement)


def load(folder: Path) -> Report:
    """The report of a study from its manifest and run directories; writes nothing. Raises: UserError."""
    manifest = read(folder)
    runs = read_runs(manifest)
    return Report(manifest, runs, tabulate(manifest, runs))


def build(report_dir: Path, partial: bool = False) -> Report:
    """Write the report files into `report_dir`, where study.json lies.

    partial: only table.csv and figure.png, for use while the study runs. Raises: UserError.
    """
    report = load(Path(report_dir))
    folder = report.folder
    write_atomically(folder / "table.csv", report.table.to_csv(index=False, lineterminator="\n"))
    figure = report.figure()
    write_atomically(folder / "figure.png", figures.png(figure))
    if partial:
        return report
    write_atomically(folder / "figure.svg", figures.svg(figure))
    caption = caption_lines(report.manifest, report.table, report.agreement)
    frame = tables.printed(report.manifest, report.table)
    write_atomically(folder / "table.md", tables.markdown(frame, caption))
    write_atomically(folder / "table.tex", tables.latex(frame, caption))
    write_json(folder / "claims.json", [verdict.as_dict() for verdict in report.verdicts])
    return report
