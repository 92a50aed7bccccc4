"""What the notebook shows of a report: each function one block of HTML or one picture.

Every text that comes from a study, a run directory or the machine is escaped here, so that a name such as
"<script>" is shown and never run.
"""

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

from IPython.display import HTML, Image

from core.rundir import RunDirectory
from reports import figures, tracking
from reports.build import Report
from reports.captions import (
    agreement_sentence,
    format_number,
    interval_of,
    number_with_interval,
    one_line,
    word_of,
)
from reports.claims import CONTRADICTED, INCONCLUSIVE, SUPPORTED, Verdict
from reports.curves import draw_curves, read_curve
from reports.manifest import plain
from reports.statistics import paired_difference

_MOST_ROWS = 1000


def heading(report: Report) -> HTML:
    """Title, setting, and the report in a few numbers."""
    manifest = report.manifest
    cells = report.cells
    counts = Counter(verdict.verdict for verdict in report.verdicts if verdict.is_of_paper)
    finished = int((cells["state"] == "done").sum())
    facts = [f"{finished} of {len(cells)} cells finished", f"seeds {', '.join(map(str, manifest.seeds))}"]
    if report.agreement:
        facts.append(f"Spearman with the paper {report.agreement.spearman.value:.2f}")
    if counts:
        words = (SUPPORTED, CONTRADICTED, INCONCLUSIVE)
        facts.append("claims of the paper: " + ", ".join(f"{counts[word]} {word}" for word in words if counts[word]))
    return HTML(
        f"<h1>{_text(manifest.study.title or manifest.study.name)}</h1>"
        f"<p class='setting'>{_text(manifest.setting)}</p>"
        f"<p>{_text(manifest.study.summary)}</p>"
        f"<p class='facts'>{' &middot; '.join(map(_text, facts))}</p>"
    )


def figure(report: Report) -> Image:
    """The study's figure, beside the paper's where there is one."""
    drawn = report.figure()
    return _picture(drawn, f"figure of the study: {report.manifest.study.title}")


def agreement(report: Report) -> HTML:
    """Rank agreement with the paper's numbers."""
    if report.agreement is None:
        return HTML("<p>Too few cells have both a number of ours and one of the paper's.</p>")
    return HTML(f"<p>{_text(agreement_sentence(report.agreement))}</p>")


def claims(report: Report) -> HTML:
    """Every claim of the study with its verdict; common readings are marked."""
    if not report.verdicts:
        return HTML("<p>This study states no claims.</p>")
    header = ["verdict", "claim", "section", "estimate (holds above 0)", "p", "seeds", "why"]
    rows = [_claim_row(verdict) for verdict in report.verdicts]
    return _table(header, rows, [verdict.verdict for verdict in report.verdicts])


def _claim_row(verdict: Verdict) -> list[str]:
    word = verdict.verdict
    if word == INCONCLUSIVE and verdict.leaning:
        word += f", leaning {verdict.leaning}"
    estimate = "" if verdict.estimate is None else _signed(verdict.estimate)
    if verdict.low is not None and verdict.high is not None:
        estimate += f" [{_signed(verdict.low)}, {_signed(verdict.high)}]"
    p = "" if verdict.p is None else f"{verdict.p:.2g}"
    return [word, verdict.stated, verdict.section, estimate, p, str(verdict.n_seeds), verdict.reason]


def _signed(number: float) -> str:
    return f"{number:+.1f}" if number == 0 or abs(number) >= 0.1 else f"{number:+.1g}"


def setting(report: Report) -> HTML:
    """What the scale made of the paper's settings, and what the user changed."""
    manifest = report.manifest
    rows = [[mapped.key, plain(mapped.paper), plain(mapped.own)] for mapped in manifest.scale.mapped]
    blocks = [f"<p>{_text(manifest.setting)}; pictures of {manifest.data.image_size} pixels.</p>"]
    if rows:
        blocks.append(_table(["setting", "the paper", f"scale {manifest.scale.name}"], rows).data)
    if manifest.overrides:
        blocks.append(f"<p>Changed on the command line: <code>{_text(' '.join(manifest.overrides))}</code></p>")
    else:
        blocks.append("<p>Nothing was changed on the command line.</p>")
    return HTML("".join(blocks))


def cells(report: Report) -> HTML:
    """Every cell and reference with its number, state, run ids and, where known, MLflow links."""
    manifest = report.manifest
    links = tracking.links(manifest)
    labels = {reference.name: reference.label for reference in manifest.references}
    rows, states = [], []
    metrics = [manifest.study.metric, *(name for name in report.shown.metrics if name != manifest.study.metric)]
    for number, line in enumerate(report.table.head(_MOST_ROWS).to_dict("records")):
        names = [manifest.label_on(axis.key, line[axis.key]) for axis in manifest.axes]
        if line["kind"] == "reference":
            names = [labels[line["name"]], *names[1:]]
        numbers = [text for metric in metrics for text in _number_columns(line, metric)]
        kind = line["interval"] if line["n"] else ""
        rows.append([str(number), *names, *numbers, kind, line["states"], *_run_columns(line["runs"], links)])
        states.append(line["state"])
    header = ["line", *([manifest.label(axis.key) for axis in manifest.axes] or ["reference"])]
    header += [name for metric in metrics for name in (manifest.label_of_metric(metric), "paper")]
    header += ["interval covers", "states", "runs"]
    if links:
        header.append("MLflow")
    blocks = [_table(header, rows, states).data]
    if len(report.table) > _MOST_ROWS:
        blocks.append(f"<p>The first {_MOST_ROWS} of {len(report.table)} lines; all are in table.csv.</p>")
    if instruction := tracking.instruction(manifest):
        how = "A run is found there by searching for"
        blocks.append(f"<p>{_text(instruction)} {how} <code>{_text(tracking.search_text('<run id>'))}</code>.</p>")
    return HTML("".join(blocks))


def _number_columns(line: Mapping[Any, Any], metric: str) -> list[str]:
    """Our number and the paper's in a line of the table."""
    interval, paper = interval_of(line, metric), line.get(f"{metric}.paper", line["paper"])
    own = number_with_interval(interval) if interval.n else one_line(word_of(line["state"], line["cause"]))
    return [own, "" if isnan(paper) else format_number(paper)]


def _run_columns(runs: str, links: dict[str, str]) -> list[str]:
    ids = runs.split()
    if not links:
        return [" ".join(ids)]
    anchors = [f'<a href="{_text(links[run])}">{_text(run[:6])}</a>' for run in ids if run in links]
    return [" ".join(ids), _Markup(" ".join(anchors))]


def curves(report: Report) -> Image:
    """Learning curves of the study's runs."""
    return _picture(draw_curves(report.manifest, report.runs), "learning curves of all runs")


def failures(report: Report) -> HTML:
    """Runs that failed, with cause and message, and those that are not there yet."""
    failed = report.runs[report.runs["state"] == "failed"].drop_duplicates("run")
    waiting = report.runs[~report.runs["state"].isin(["failed", "done"])].drop_duplicates("run")
    blocks = []
    if len(failed):
        rows = [
            [report.name_of(run), str(seed), cause, message, run]
            for run, seed, cause, message in zip(
                failed["run"], failed["seed"], failed["cause"], failed["message"], strict=True
            )
        ]
        blocks.append(_table(["cell", "seed", "cause", "message", "run"], rows).data)
    else:
        blocks.append("<p>No run failed.</p>")
    if len(waiting):
        counts = waiting["state"].value_counts()
        words = ", ".join(f"{count} {state}" for state, count in counts.items())
        blocks.append(f"<p>Not finished: {_text(words)}.</p>")
    return HTML("".join(blocks))


def environments(report: Report) -> HTML:
    """Commit, versions and hardware of the runs, grouped where they are the same."""
    found: dict[str, list[Any]] = {}
    for run, environment, seconds in zip(
        report.runs["run"], report.runs["environment"], report.runs["seconds"], strict=True
    ):
        if environment:
            group = found.setdefault(json.dumps(environment, sort_keys=True), [set(), 0.0])
            if run not in group[0]:
                group[0].add(run)
                group[1] += seconds
    if not found:
        return HTML("<p>No run has a result yet.</p>")
    rows = []
    for text, (runs, seconds) in found.items():
        environment = json.loads(text)
        packages = environment.pop("packages", {})
        commit = str(environment.pop("commit", "")) or "unknown"
        commit += " with uncommitted changes" if environment.pop("dirty", False) else ""
        versions = [f"python {environment.pop('python', '')}", *(f"{n} {v}" for n, v in packages.items())]
        hardware = [f"{name} {value}" for name, value in environment.items() if value != ""]
        rows.append([str(len(runs)), f"{seconds / 3600:.2f}", commit, ", ".join(versions), ", ".join(hardware)])
    return _table(["runs", "hours of training", "commit", "versions", "hardware"], rows)


def difference(report: Report, first: int, second: int) -> HTML:
    """The difference between two lines of the table, paired by seed."""
    values = [report.by_seed(row) for row in (first, second)]
    names = [report.label_of(row) for row in (first, second)]
    interval = paired_difference(*values)
    if not interval.n:
        return HTML(f"<p>{_text(names[0])} and {_text(names[1])} have no seed in common yet.</p>")
    seeds = "1 seed, no interval" if interval.n == 1 else f"{interval.n} seeds, {interval.kind}"
    text = f"{names[0]} minus {names[1]}: {number_with_interval(interval)} ({seeds})"
    return HTML(f"<p>{_text(text)}</p>")


def run(report: Report, run_id: str) -> HTML:
    """All that is recorded of one run: cell, config, results, and the end of its journal."""
    directory = RunDirectory(report.manifest.runs_folder, run_id)
    line = report.runs[report.runs["run"] == run_id].iloc[0]
    rows = [
        ["cell", report.name_of(run_id)],
        ["run", run_id],
        ["seed", str(line["seed"])],
        ["state", line["state"]],
    ]
    # An untrained run has no loss.
    rows += [[name, f"{value:.4g}"] for name, value in line["metrics"].items() if value is not None]
    rows.append(["find in MLflow", tracking.search_text(run_id)])
    blocks = [_table(["", ""], rows).data]
    if directory.config_file.exists():
        config = _text(directory.config_file.read_text())
        blocks.append(f"<details><summary>config.yaml</summary><pre>{config}</pre></details>")
    curve = read_curve(directory)
    if not curve.empty:
        kept = [name for name in ("epoch", "samples", "loss", "accuracy", "seconds") if name in curve]
        rows = [[f"{value:.6g}" for value in row] for row in curve[kept].tail(10).to_numpy().tolist()]
        journal = _table(kept, rows).data
        blocks.append(f"<details><summary>the end of its journal</summary>{journal}</details>")
    return HTML("".join(blocks))


class _Markup(str):
    """HTML that is already escaped."""


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], classes: Sequence[str] | None = None) -> HTML:
    """An HTML table; `classes` are words of our own for each row, such as a state."""
    lines = ["<table><thead><tr>", *(f"<th>{_text(name)}</th>" for name in header), "</tr></thead><tbody>"]
    for number, row in enumerate(rows):
        lines.append(f'<tr class="{_text(classes[number])}">' if classes else "<tr>")
        lines += [f"<td>{cell if isinstance(cell, _Markup) else _text(cell)}</td>" for cell in row]
        lines.append("</tr>")
    return HTML("".join([*lines, "</tbody></table>"]))


def _picture(drawn: Any, alt: str) -> Image:
    width = round(drawn.get_figwidth() * 80)
    return Image(data=figures.png(drawn), format="png", width=width, alt=alt)
