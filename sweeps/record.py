"""One run directory as MLflow should show it: name, params, tags, status, metrics and artifacts.

Pure reading, without MLflow. A record is a function of the manifest and of the run directory alone, so
a mirror that is rebuilt from nothing equals one that grew with the sweep.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from core.config import flatten
from core.identity import digest
from core.journal import read_lines
from core.rundir import RunDirectory
from core.states import RunState, State
from reports.manifest import MANIFEST_FILE, Cell, Manifest, PlannedRun, plain

LAYOUT = 2
"""Raised when a record of an unchanged run directory comes out differently, so that mirrors are renewed."""

REPORT = "report"
"""Stands where a run id does, in the record of the study's report."""

REPORT_FILES = (
    "figure.png",
    "figure.svg",
    "table.csv",
    "table.md",
    "table.tex",
    "report.html",
    "report.ipynb",
    "claims.json",
)
CURVES = ("loss", "accuracy", "lr", "images_per_s", "memory_mb", "samples")
CURVE = "training/"
"""Before the names of learning curves: MLflow draws them under a heading of their own, and the accuracy of
the training task is not taken for that of an evaluation."""
SAMPLES = f"{CURVE}samples"
"""The metric that tells how far a curve was logged."""

OPTIONAL_TAGS = frozenset({"cause", "message"})
"""Tags that go when they no longer hold."""

_MAX_VALUE = 500  # what any server takes as a param
_MAX_NAME = 250
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Point = tuple[str, float, int, int]
"""(metric name, value, time in ms, step)"""


class DamagedRun(Exception):
    """A run directory that cannot be read; its text is one line."""


@dataclass(frozen=True)
class Entry:
    """What the manifest says about one run."""

    run: str
    name: str
    cell: str
    values: dict[str, Any]
    evaluations: dict[str, str]


@dataclass(frozen=True)
class Record:
    """What MLflow should show; times in milliseconds since 1970."""

    name: str
    status: str
    start: int
    end: int | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    finals: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Metric name to (value, time in ms) of what is measured once."""
    artifacts: dict[str, Path] = field(default_factory=dict)

    @property
    def final_points(self) -> list[Point]:
        return [(key, value, time, 0) for key, (value, time) in self.finals.items()]


def entries(manifest: Manifest) -> dict[str, Entry]:
    """The runs of the study by run id; one that several cells share is named after the first."""
    found: dict[str, Entry] = {}
    for _, owner, planned in manifest.planned():
        if planned.run not in found:
            cell = cell_name(manifest, owner) if isinstance(owner, Cell) else owner.label
            values = owner.values if isinstance(owner, Cell) else {}
            found[planned.run] = _entry(planned, cell, values)
    return found


def _entry(planned: PlannedRun, cell: str, values: Mapping[str, Any]) -> Entry:
    name = f"{cell} · seed {planned.seed}"
    return Entry(planned.run, name, cell, dict(values), dict(planned.evaluations))


def cell_name(manifest: Manifest, cell: Cell) -> str:
    """Such as "crop + color" for named values, "temperature 0.1, batch size 256" for numbers."""
    if all(isinstance(value, str) for value in cell.values.values()):
        return " + ".join(manifest.label(value) for value in cell.values.values())
    return ", ".join(f"{manifest.label(key)} {manifest.label(value)}" for key, value in cell.values.items())


def has_started(directory: RunDirectory) -> bool:
    return directory.attempts_file.exists() or directory.result_file.exists()


def stamp(path: Path) -> str:
    """Changes whenever the file is written; empty where it is absent."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def fingerprint(entry: Entry, directory: RunDirectory, state: State, context: str) -> str:
    """Differs whenever the record may differ. `context`: what else the mirror shows with the run."""
    told = [LAYOUT, entry.name, entry.cell, entry.values, entry.evaluations, state, context]
    files = [directory.config_file, *_written_files(entry, directory)]
    return digest([told, [stamp(file) for file in files]])


def read(manifest: Manifest, entry: Entry, directory: RunDirectory, state: RunState) -> Record:
    """The record of a run that has started and is now in `state`. Raises: DamagedRun."""
    with _damage_named(directory):
        return _read(manifest, entry, directory, state)


def _read(manifest: Manifest, entry: Entry, directory: RunDirectory, state: RunState) -> Record:
    attempts = list(read_lines(directory.attempts_file))
    last = attempts[-1] if attempts else {}
    status = _status(state.state, last)
    result = directory.result()
    # A run directory may have been copied here without its attempts.
    start = attempts[0]["time"] if attempts or result is None else result["finished"] - result["compute_seconds"]
    end = None
    if status not in ("RUNNING", "SCHEDULED"):
        end = last["time"] if last.get("event") in ("end", "stop") else _last_written(entry, directory)
    tags = {
        "study": manifest.study.name,
        "run": entry.run,
        "cell": entry.cell,
        "state": state.state,
        "cause": state.cause,
        "message": state.message[:_MAX_VALUE],
        "scale": manifest.scale.name,
        "data": manifest.data.name,
        "mlflow.source.name": f"study={manifest.study.name}",
        "mlflow.source.type": "PROJECT",
    }
    # While there is no result, the newest attempt tells where it comes from.
    tags |= _source(next((line for line in reversed(attempts) if line["event"] == "start"), {}))
    artifacts = {"config.yaml": directory.config_file}
    finals: dict[str, tuple[float, int]] = {}
    if result is not None:
        environment = result["environment"]
        tags |= _source({**environment, "host": environment["hostname"]})
        tags["device"] = environment["device"]
        artifacts["result.json"] = directory.result_file
        measured = {**result["metrics"], "seconds": result["compute_seconds"]}
        finals |= _finals("train", measured, _ms(result["finished"]))
    for kind, evaluation in entry.evaluations.items():
        record = directory.evaluation(evaluation)
        if record is not None:
            time = _ms(directory.evaluation_file(evaluation).stat().st_mtime)
            finals |= _finals(kind, record["metrics"], time)
    return Record(
        name=entry.name,
        status=status,
        start=_ms(start),
        end=None if end is None else _ms(end),
        params=_params(entry, directory),
        tags={key: value for key, value in tags.items() if value},
        finals=finals,
        artifacts=artifacts,
    )


def report_fingerprint(manifest: Manifest, states: Mapping[State, int]) -> str:
    """Differs whenever the record of the report may differ."""
    files = [stamp(manifest.folder / name) for name in (MANIFEST_FILE, *REPORT_FILES)]
    return digest([LAYOUT, sorted(states.items()), files])


def report_record(manifest: Manifest, states: Mapping[State, int]) -> Record:
    """The record of the study's report, the parent of its runs. states: how many runs are in each."""
    study = manifest.study
    asked = sum(states.values())
    if states.get(State.DONE, 0) == asked:
        status = "FINISHED"
    elif states.get(State.RUNNING):
        status = "RUNNING"
    else:
        status = "FAILED" if states.get(State.FAILED) else "SCHEDULED"
    counts = ", ".join(f"{states[state]} {state}" for state in State if states.get(state))
    tags = {
        "study": study.name,
        "run": REPORT,
        "state": counts,
        "scale": manifest.scale.name,
        "data": manifest.data.name,
        "mlflow.note.content": f"{describe(manifest)}\n\nOf {asked} runs: {counts}.",
        "mlflow.source.name": f"study={study.name}",
        "mlflow.source.type": "PROJECT",
    }
    artifacts = {name: manifest.folder / name for name in REPORT_FILES if (manifest.folder / name).exists()}
    asked_at = _ms((manifest.folder / MANIFEST_FILE).stat().st_mtime)
    written = [_ms(file.stat().st_mtime) for file in artifacts.values()]
    end = None if status in ("RUNNING", "SCHEDULED") else max(written, default=asked_at)
    return Record(f"report: {study.title or study.name}", status, asked_at, end, tags=tags, artifacts=artifacts)


def describe(manifest: Manifest) -> str:
    """The study in a few lines of Markdown."""
    study = manifest.study
    lines = [study.title or study.name, study.summary, f"Setting: {manifest.setting}."]
    if manifest.overrides:
        lines.append(f"Changed on the command line: {', '.join(manifest.overrides)}.")
    if study.paper is not None:
        lines.append(f"In the paper: {' '.join(filter(None, (study.paper.what, study.paper.where)))}.")
    return "\n\n".join(line for line in lines if line)


def curves(directory: RunDirectory, after: float) -> Iterator[list[Point]]:
    """The points of each journal line with more than `after` samples; a line's points belong together.

    A resumed run writes again what was cut from its journal, with the same values for the same steps: no
    step is given twice as long as `after` is the SAMPLES given last. Raises: DamagedRun.
    """
    with _damage_named(directory):
        for line in read_lines(directory.journal_file):
            if line["event"] == "step" and line["samples"] > after:
                after = line["samples"]
                yield [
                    (CURVE + name, float(line[name]), _ms(line["time"]), int(line["step"]))
                    for name in CURVES
                    if name in line
                ]


def safe_name(name: str) -> str:
    """`name` where MLflow takes it as a param or metric, else a like one that no other name has."""
    parts = [part for part in re.sub(r"[^a-zA-Z0-9_\-. :/]", "_", name).split("/") if part.strip(". ")]
    safe = "/".join(parts)[:_MAX_NAME]
    if safe == name:
        return name
    suffix = hashlib.blake2b(name.encode(), digest_size=2).hexdigest()
    return f"{safe[: _MAX_NAME - 5]}-{suffix}"


@contextmanager
def _damage_named(directory: RunDirectory) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DamagedRun(f"{directory.path}: {type(error).__name__}: {reason}") from error


def _params(entry: Entry, directory: RunDirectory) -> dict[str, str]:
    config = yaml.load(directory.config_file.read_bytes(), Loader=_YamlLoader)
    axes = {key: plain(value) for key, value in entry.values.items()}
    params = {key: plain(value) for key, value in flatten(config) if key not in ("schema", "run")}
    # A scale may give a key that is an axis a value of its own: the study's value is what is compared.
    own = {f"{key}.own": params[key] for key, value in axes.items() if params.get(key, value) != value}
    return {safe_name(key): value[:_MAX_VALUE] for key, value in {**axes, **own, **params, **axes}.items()}


def _source(record: Mapping[str, Any]) -> dict[str, str]:
    """Host and commit as tags; an attempt of an earlier version tells no commit, nor does a program outside git."""
    tags = {"host": record.get("host", "")}
    if record.get("commit"):
        tags["commit"] = tags["mlflow.source.git.commit"] = record["commit"]
        tags["uncommitted changes"] = "yes" if record["dirty"] else "no"
    return tags


def _finals(kind: str, values: Mapping[str, Any], time: int) -> dict[str, tuple[float, int]]:
    return {
        safe_name(f"{kind}.{name}"): (float(value), time)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


def _status(state: State, last_attempt: Mapping[str, Any]) -> str:
    """MLflow's word for a state."""
    words = {State.DONE: "FINISHED", State.RUNNING: "RUNNING", State.FAILED: "FAILED"}
    # What was done before waits for an evaluation asked for since; else its worker stopped or died.
    waits = last_attempt.get("outcome") == "done"
    return words.get(state, "SCHEDULED" if waits else "KILLED")


def _written_files(entry: Entry, directory: RunDirectory) -> list[Path]:
    """What an attempt writes and the record is read from."""
    evaluations = [directory.evaluation_file(evaluation) for evaluation in entry.evaluations.values()]
    return [directory.attempts_file, directory.journal_file, directory.result_file, *evaluations]


def _last_written(entry: Entry, directory: RunDirectory) -> float:
    """When the run was last seen alive, in seconds since 1970."""
    return max(file.stat().st_mtime for file in _written_files(entry, directory) if file.exists())


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
