"""What came of a study: the manifest joined with what the run directories hold.

Two data frames: one line per run asked for, and one line per cell and reference (`table.csv`). Each file
of a run directory is read once, as JSON, so that ten thousand runs take seconds. A file that is missing
or damaged makes a run unfinished; it never stops the report.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from core.rundir import RunDirectory, read_json
from core.states import RunState, State, observe_unfinished
from reports.manifest import Manifest, PlannedRun, plain
from reports.statistics import summarize

STATES = ("done", "trained", "running", "failed", "pending")
_SHARES_OF_TEST_PICTURES = frozenset({"top1", "top5"})


class RunRecord(NamedTuple):
    """What is known about one run, as the report needs it."""

    state: str
    cause: str
    message: str
    value: float | None
    test_pictures: int | None
    metrics: dict[str, float]
    seconds: float
    environment: dict[str, Any]


def read_runs(manifest: Manifest) -> pd.DataFrame:
    """One line per run that the study asked for, in the order of the manifest.

    Columns: row (of the cells frame), seed, run, evaluation (id of the one with the metric), and those
    of `RunRecord`. A run shared by several cells is read once.
    """
    kind = manifest.study.metric.partition(".")[0]
    known: dict[tuple[str, ...], RunRecord] = {}
    lines = []
    for row, _, planned in manifest.planned():
        key = (planned.run, *planned.evaluations.values())
        if key not in known:
            directory = RunDirectory(manifest.runs_folder, planned.run)
            known[key] = read_run(directory, planned, manifest.study.metric)
        lines.append((row, planned.seed, planned.run, planned.evaluations.get(kind, ""), *known[key]))
    return pd.DataFrame(lines, columns=["row", "seed", "run", "evaluation", *RunRecord._fields])


def read_run(directory: RunDirectory, planned: PlannedRun, metric: str) -> RunRecord:
    """State, metric and circumstances of one run. Percentages in percent, `seconds` of training."""
    result = _read(directory.result_file)
    evaluations = {
        kind: _read(directory.evaluation_file(evaluation)) for kind, evaluation in planned.evaluations.items() if result
    }
    finished = {"train": result, **{kind: record for kind, record in evaluations.items() if record}}
    source, _, name = metric.partition(".")
    record = finished.get(source) or {}
    value = record.get("metrics", {}).get(name)
    observed = RunState(State.DONE)
    if not result or len(finished) <= len(planned.evaluations):
        observed = observe_unfinished(directory, trained=bool(result))
    return RunRecord(
        state=observed.state,
        cause=observed.cause,
        message=observed.message,
        value=value,
        test_pictures=record.get("n") if name in _SHARES_OF_TEST_PICTURES else None,
        metrics={
            f"{kind}.{key}": number
            for kind, found in finished.items()
            for key, number in ((found or {}).get("metrics") or {}).items()
        },
        seconds=(result or {}).get("compute_seconds") or 0.0,
        environment=record.get("environment") or (result or {}).get("environment") or {},
    )


def _read(path: Path) -> dict[str, Any] | None:
    """A record, or None where it is absent or damaged."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def tabulate(manifest: Manifest, runs: pd.DataFrame) -> pd.DataFrame:
    """One line per cell, then one per reference: the content of table.csv.

    Columns: kind (cell or reference), name (of the reference), one per axis key, n (seeds with a value),
    mean, low, high, interval (what it covers), paper, state (of the whole line), states (how many runs
    are in each), cause (of failures), seeds and runs (ids, separated by blanks).
    """
    groups: list[list[Any]] = [[] for _ in range(len(manifest.cells) + len(manifest.references))]
    for row, run in zip(runs["row"].tolist(), runs.itertuples(), strict=True):
        groups[row].append(run)
    keys = [axis.key for axis in manifest.axes]
    lines = []
    for cell, group in zip(manifest.cells, groups[: len(manifest.cells)], strict=True):
        values = {key: plain(cell.values[key]) for key in keys}
        lines.append({"kind": "cell", "name": "", **values, **_summary(group), "paper": cell.paper})
    for reference, group in zip(manifest.references, groups[len(manifest.cells) :], strict=True):
        blank = dict.fromkeys(keys, "")
        lines.append({"kind": "reference", "name": reference.name, **blank, **_summary(group), "paper": None})
    columns = ["kind", "name", *keys, "n", "mean", "low", "high", "interval", "paper"]
    columns += ["state", "states", "cause", "seeds", "runs"]
    table = pd.DataFrame(lines, columns=columns)
    return table.astype({"mean": float, "low": float, "high": float, "paper": float})


def _summary(group: list[Any]) -> dict[str, Any]:
    values = [run.value for run in group if _is_number(run.value)]
    pictures = next((int(run.test_pictures) for run in group if _is_number(run.test_pictures)), None)
    interval = summarize(values, pictures)
    states = Counter(run.state for run in group)
    return {
        "n": interval.n,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "interval": interval.kind,
        "state": _common_state(states),
        "states": ", ".join(f"{state} {states[state]}" for state in STATES if states[state]),
        "cause": ", ".join(dict.fromkeys(run.cause for run in group if run.cause)),
        "seeds": " ".join(str(run.seed) for run in group),
        "runs": " ".join(run.run for run in group),
    }


def _is_number(value: Any) -> bool:
    return value is not None and value == value


def _common_state(states: Counter[str]) -> str:
    """One word for several runs: done only if all are, else what most needs to be known."""
    for state in ("failed", "running", "trained", "pending"):
        if states[state]:
            return state
    return "done"
