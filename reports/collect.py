"""What came of a study: the manifest joined with what the run directories hold.

Two data frames: one line per run asked for, and one line per cell and reference (`table.csv`). Each file
of a run directory is read once, as JSON, so that ten thousand runs take seconds. A file that is missing
or damaged makes a run unfinished; it never stops the report.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from core.rundir import RunDirectory, read_json
from core.states import RunState, State, observe_unfinished
from reports.manifest import Manifest, PlannedRun, plain
from reports.statistics import Interval, summarize

STATES = ("done", "trained", "running", "failed", "pending")
_SHARES_OF_PICTURES = frozenset({"top1", "top5", "found", "found_distorted"})


class RunRecord(NamedTuple):
    """What is known about one run, as the report needs it.

    value: of the study's metric. metrics: all, by name. pictures: for metrics that are a share of pictures in percent,
    of how many.
    """

    state: str
    cause: str
    message: str
    value: float | None
    metrics: dict[str, float]
    pictures: dict[str, int]
    seconds: float
    evaluation_seconds: dict[str, float]
    environment: dict[str, Any]


def read_runs(manifest: Manifest) -> pd.DataFrame:
    """One line per run that the study asked for, in the order of the manifest.

    Columns: row (of the cells frame), seed, run, evaluation (id of the one with the metric), and those
    of `RunRecord`. A run shared by several cells is read once.
    """
    source = manifest.study.metric.partition(".")[0]
    known: dict[tuple[str, ...], RunRecord] = {}
    lines = []
    for row, _, planned in manifest.planned():
        key = (planned.run, *planned.evaluations.values())
        if key not in known:
            directory = RunDirectory(manifest.runs_folder, planned.run)
            known[key] = read_run(directory, planned, manifest.study.metric)
        lines.append((row, planned.seed, planned.run, planned.evaluations.get(source, ""), *known[key]))
    return pd.DataFrame(lines, columns=["row", "seed", "run", "evaluation", *RunRecord._fields])


def read_run(directory: RunDirectory, planned: PlannedRun, metric: str) -> RunRecord:
    """State, metric and circumstances of one run.

    Percentages in percent; `seconds` of training, `evaluation_seconds` by the evaluation's id.
    """
    result = read_record(directory.result_file)
    evaluations = {
        name: read_record(directory.evaluation_file(evaluation))
        for name, evaluation in planned.evaluations.items()
        if result
    }
    found_by_name = {"train": result, **evaluations}
    finished = {name: record for name, record in found_by_name.items() if record}
    metrics = {f"{name}.{key}": number for name, found in finished.items() for key, number in _metrics(found).items()}
    if result and "parameters" in result:
        metrics["train.parameters"] = result["parameters"] / 1e6
    record = finished.get(metric.partition(".")[0]) or {}
    observed = RunState(State.DONE)
    if len(finished) <= len(planned.evaluations):
        observed = observe_unfinished(directory, trained=bool(result))
    return RunRecord(
        state=observed.state,
        cause=observed.cause,
        message=observed.message,
        value=metrics.get(metric),
        metrics=metrics,
        pictures={
            f"{name}.{key}": found["n"]
            for name, found in finished.items()
            for key in _shares_of_pictures(found) & _metrics(found).keys()
            if "n" in found
        },
        seconds=(result or {}).get("compute_seconds") or 0.0,
        evaluation_seconds={
            planned.evaluations[name]: found.get("seconds") or 0.0 for name, found in evaluations.items() if found
        },
        environment=record.get("environment") or (result or {}).get("environment") or {},
    )


def _shares_of_pictures(record: dict[str, Any]) -> frozenset[str]:
    """The metrics that are a share of the test pictures in percent."""
    data = record.get("data")
    is_share = isinstance(data, dict) and data.get("measure") == "top1"
    return _SHARES_OF_PICTURES | {"score"} if is_share else _SHARES_OF_PICTURES


def _metrics(record: dict[str, Any] | None) -> dict[str, float]:
    return (record or {}).get("metrics") or {}


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None where it is absent or damaged."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def tabulate(manifest: Manifest, runs: pd.DataFrame, metrics: Iterable[str] = ()) -> pd.DataFrame:
    """One line per cell, then one per reference: the content of table.csv.

    Columns: kind (cell or reference), name (of the reference), one per axis key, n (seeds with a value),
    mean, low, high, interval (what it covers), paper, state (of the whole line), states (how many runs
    are in each), cause (of failures), seeds and runs (ids, separated by blanks). The numbers are the study's
    metric; for each other one of `metrics`: <metric> (the mean), <metric>.low, <metric>.high, <metric>.paper.
    """
    metrics = [metric for metric in metrics if metric != manifest.study.metric]
    groups: list[list[Any]] = [[] for _ in range(len(manifest.cells) + len(manifest.references))]
    for row, run in zip(runs["row"].tolist(), runs.itertuples(), strict=True):
        groups[row].append(run)
    keys = [axis.key for axis in manifest.axes]
    lines = []
    for cell, group in zip(manifest.cells, groups[: len(manifest.cells)], strict=True):
        values = {key: plain(cell.values[key]) for key in keys}
        own = {"paper": cell.paper, **_summary(group, manifest.study.metric), **_others(group, metrics)}
        paper = {f"{metric}.paper": cell.paper_metrics.get(metric) for metric in metrics}
        lines.append({"kind": "cell", "name": "", **values, **own, **paper})
    for reference, group in zip(manifest.references, groups[len(manifest.cells) :], strict=True):
        blank = dict.fromkeys(keys, "")
        own = {**_summary(group, manifest.study.metric), **_others(group, metrics)}
        lines.append({"kind": "reference", "name": reference.name, **blank, **own})
    columns = ["kind", "name", *keys, "n", "mean", "low", "high", "interval", "paper"]
    columns += ["state", "states", "cause", "seeds", "runs"]
    others = [f"{metric}{part}" for metric in metrics for part in ("", ".low", ".high", ".paper")]
    table = pd.DataFrame(lines, columns=[*columns, *others])
    return table.astype(dict.fromkeys(["mean", "low", "high", "paper", *others], float))


def interval_of_runs(group: Iterable[Any], metric: str) -> Interval:
    """Mean and interval of a metric over the runs of one cell."""
    values = {run.seed: run.metrics[metric] for run in group if metric in run.metrics}
    pictures = next((run.pictures[metric] for run in group if metric in run.pictures), None)
    return summarize(list(values.values()), pictures)


def _others(group: list[Any], metrics: Iterable[str]) -> dict[str, float]:
    found = {metric: interval_of_runs(group, metric) for metric in metrics}
    means = {metric: interval.mean for metric, interval in found.items()}
    lows = {f"{metric}.low": interval.low for metric, interval in found.items()}
    return {**means, **lows, **{f"{metric}.high": interval.high for metric, interval in found.items()}}


def _summary(group: list[Any], metric: str) -> dict[str, Any]:
    interval = interval_of_runs(group, metric)
    states = Counter(run.state for run in group)
    return {
        "n": interval.n,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "interval": interval.kind,
        "state": common_state(states),
        "states": ", ".join(f"{state} {states[state]}" for state in STATES if states[state]),
        "cause": ", ".join(dict.fromkeys(run.cause for run in group if run.cause)),
        "seeds": " ".join(str(run.seed) for run in group),
        "runs": " ".join(run.run for run in group),
    }


def common_state(states: Counter[str]) -> str:
    """One word for several runs: done only if all are, else what most needs to be known."""
    for state in ("failed", "running", "trained", "pending"):
        if states[state]:
            return state
    return "done"
