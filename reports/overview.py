"""The whole paper at a glance: one page, `outputs/reports/index.html`, that shows and links every study's report.

It needs no server and asks the network for nothing: pictures and reports are beside it. What is unfinished is shown
as such; a run that several studies share counts once.
"""

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from core.rundir import write_atomically
from reports.build import Report
from reports.claims import CONTRADICTED, INCONCLUSIVE, SUPPORTED, Verdict
from reports.page import document

INDEX_FILE = "index.html"
_VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE)

_STYLE = """
body { max-width: 1500px; } th, td { padding: 4px 8px 4px 6px; }
.studies { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 18px; margin-top: 14px; }
.studies article { border: 1px solid #d8d8d8; border-radius: 6px; padding: 12px 14px; }
.studies h3 { font-size: 15px; margin: 0 0 4px; } .studies p { font-size: 13px; margin: 3px 0; color: #444; }
.studies img { display: block; width: 100%; height: 190px; object-fit: contain; object-position: left top;
  margin: 6px 0; }
"""


def write_index(folder: Path, reports: Sequence[Report]) -> Path:
    """Write the page for these studies, whose report folders lie in `folder`."""
    file = folder / INDEX_FILE
    write_atomically(file, page(reports))
    return file


def page(reports: Sequence[Report]) -> str:
    """The page; all text of studies is escaped."""
    body = [
        "<h1>The studies at a glance</h1>",
        f"<p class='setting'>{_text('; '.join(dict.fromkeys(report.manifest.setting for report in reports)))}</p>",
        f"<p class='facts'>{_text(_facts(reports))}</p>",
        _table(reports),
        "<div class='studies'>",
        *(_card(report) for report in reports),
        "</div>",
        "<h2>Claims</h2>",
        _claims(reports),
    ]
    footer = "Made by <code>python sweeps/run.py study=all action=report</code>; docs/reports.md says how to read it."
    return document("The studies at a glance", "\n".join(body), footer, _STYLE)


def coverage(report: Report) -> tuple[int, int]:
    """(cells finished, cells asked for)."""
    return int((report.cells["state"] == "done").sum()), len(report.cells)


def compute_hours(reports: Sequence[Report]) -> float:
    """Hours of training and evaluation behind these studies, every run and every evaluation once."""
    trainings: dict[str, float] = {}
    evaluations: dict[str, float] = {}
    for report in reports:
        trainings |= zip(report.runs["run"].tolist(), report.runs["seconds"].tolist(), strict=True)
        for seconds in report.runs["evaluation_seconds"].tolist():
            evaluations |= seconds
    return (sum(trainings.values()) + sum(evaluations.values())) / 3600


def _facts(reports: Sequence[Report]) -> str:
    finished, asked = map(sum, zip(*(coverage(report) for report in reports), strict=True))
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    facts = [
        f"{len(reports)} studies",
        f"{finished} of {asked} cells finished",
        f"{_hours(compute_hours(reports))} of compute",
        f"claims of the paper: {_counts(_of_paper(verdicts)) or 'none'}",
    ]
    return " · ".join(facts)


def _of_paper(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.is_of_paper]


def _counts(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[word]} {word}" for word in _VERDICTS if counts[word])


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _agreement(report: Report) -> str:
    if report.agreement is None:
        return ""
    spearman = report.agreement.spearman
    return f"{spearman.value:.2f} [{spearman.low:.2f}, {spearman.high:.2f}] ({report.agreement.n} cells)"


def _table(reports: Sequence[Report]) -> str:
    header = ["study", "in the paper", "cells finished", "Spearman with the paper", *_VERDICTS, "readings"]
    header += ["compute", "data", "scale", "seeds"]
    rows = []
    for report in reports:
        manifest = report.manifest
        own, of_paper = report.verdicts, _of_paper(report.verdicts)
        counts = Counter(verdict.verdict for verdict in of_paper)
        finished, asked = coverage(report)
        readings = [verdict for verdict in own if not verdict.is_of_paper]
        texts = [
            manifest.study.paper.where if manifest.study.paper else "",
            f"{finished} of {asked}",
            _agreement(report),
            *(str(counts[word] or "") for word in _VERDICTS),
            _counts(readings),
            _hours(compute_hours([report])),
            manifest.data.name,
            manifest.scale.name,
            str(len(manifest.seeds)),
        ]
        link = f'<a href="{_link(report, "report.html")}">{_text(manifest.study.name)}</a>'
        row_class = "done" if finished == asked else "pending"
        rows.append(
            f'<tr class="{row_class}"><td>{link}</td>{"".join(f"<td>{_text(text)}</td>" for text in texts)}</tr>'
        )
    heads = "".join(f"<th>{_text(name)}</th>" for name in header)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _card(report: Report) -> str:
    manifest = report.manifest
    title = manifest.study.title or manifest.study.name
    finished, asked = coverage(report)
    facts = [f"{finished} of {asked} cells finished", _counts(_of_paper(report.verdicts))]
    link = _link(report, "report.html")
    return (
        f'<article><h3><a href="{link}">{_text(title)}</a></h3>'
        f"<p>{_text(manifest.study.summary)}</p>"
        f'<a href="{link}"><img loading="lazy" alt="{_text(title)}" src="{_link(report, "figure.png")}"></a>'
        f"<p>{_text('; '.join(filter(None, facts)))}</p><p>{_text(manifest.setting)}</p></article>"
    )


def _claims(reports: Sequence[Report]) -> str:
    rows = []
    for report in reports:
        link = _link(report, "report.html")
        for verdict in report.verdicts:
            leaning = f", leaning {verdict.leaning}" if verdict.verdict == INCONCLUSIVE and verdict.leaning else ""
            cells = [f"{verdict.verdict}{leaning}", verdict.stated, verdict.section, verdict.reason]
            texts = "".join(f"<td>{_text(text)}</td>" for text in cells)
            study = f'<td><a href="{link}">{_text(report.manifest.study.name)}</a></td>'
            rows.append(f'<tr class="{_text(verdict.verdict)}">{texts}{study}</tr>')
    heads = "".join(f"<th>{name}</th>" for name in ("verdict", "claim", "section", "why", "study"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _link(report: Report, file: str) -> str:
    return html.escape(f"{quote(report.folder.name)}/{file}", quote=True)


def _text(text: str) -> str:
    return html.escape(text, quote=True)
