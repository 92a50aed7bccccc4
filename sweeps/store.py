"""An MLflow experiment as a set of records, one for each run of a study and one for its report.

Writing a record is an upsert: what MLflow has is left alone, what is missing is added, and a run that
contradicts its record (params and results cannot be changed in MLflow) is replaced. MLflow is asked how
far a run is; nothing is remembered elsewhere. A run that is new in a sqlite file is written there as rows
(sweeps/rows.py).
"""

import json
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.record import OPTIONAL_TAGS, SAMPLES, Point, Record, stamp
from sweeps.rows import insert
from sweeps.uri import without_password

if TYPE_CHECKING:
    from mlflow.entities import Run

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server that does not answer must not hold anybody up: it is tried again at the next sync.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "30",
}
"""Keeps MLflow quiet, at home and brief; what the user has set goes before."""

MIRRORED = "mlflow.mirrored"
"""Tag with the record's fingerprint and the stamps of its artifacts, as JSON; written last of all. MLflow's pages hide
tags of such a name."""

# MLflow takes 1000 entries in one call, of which at most 100 are params and 100 are tags.
_METRICS_PER_CALL = 800
_PARAMS_PER_CALL = 100


class Refused(Exception):
    """MLflow answers, but does not take this record; its text is one line."""


@dataclass(frozen=True)
class Mirrored:
    """A run that MLflow has, and what it had been told of it last."""

    mlflow_id: str
    fingerprint: str = ""


class Experiment:
    """The experiment called `name`, created or restored where needed.

    Every method raises what MLflow and its transport raise when they cannot be reached.
    """

    def __init__(self, uri: str, name: str, tags: Mapping[str, str], page_size: int = 1000):
        from mlflow.tracking import MlflowClient
        from sqlalchemy import create_engine

        self._client = MlflowClient(tracking_uri=uri)
        self._file = None if sqlite_file(uri) is None else create_engine(uri)
        self._page_size = page_size
        found = self._client.get_experiment_by_name(name)
        if found is None:
            self.id = self._client.create_experiment(name, artifact_location=artifact_location(uri, name))
        else:
            self.id = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(self.id)
        present = {} if found is None else found.tags
        for key, value in tags.items():
            if present.get(key) != value:
                self._client.set_experiment_tag(self.id, key, value)

    def mirrored(self, study: str, only: Collection[str] = ()) -> dict[str, Mirrored]:
        """What MLflow has of the study by run id; a second run of the same id is deleted.

        only: the ids that are asked for, one question each; without any, all.
        """
        found: dict[str, Mirrored] = {}
        doubles: set[str] = set()
        filters = [f"tags.run = '{identity}'" for identity in only] or [""]
        for run in chain.from_iterable(map(self._runs, filters)):
            tags, mlflow_id = run.data.tags, run.info.run_id
            key = tags.get("run")
            if key is None or tags.get("study") != study:
                continue
            if key not in found:
                found[key] = Mirrored(mlflow_id, _told(tags).get("fingerprint", ""))
            elif found[key].mlflow_id != mlflow_id:
                doubles.add(mlflow_id)
        for mlflow_id in doubles:
            self._client.delete_run(mlflow_id)
        return found

    def write(
        self,
        mlflow_id: str | None,
        wanted: Record,
        fingerprint: str,
        lines: Callable[[float], Iterable[list[Point]]] = lambda after: (),
    ) -> str:
        """Make MLflow show the record; the id of its MLflow run, which is a new one if need be.

        mlflow_id: where the record was written before. lines: the journal's points after so many samples.
        Raises: Refused; DamagedRun from `lines`.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._write(mlflow_id, wanted, fingerprint, lines)
        except MlflowException as error:
            if 400 <= error.get_http_status_code() < 500:
                raise Refused(f"{wanted.name}: {first_line(error)}") from error
            raise

    def _write(
        self,
        mlflow_id: str | None,
        wanted: Record,
        fingerprint: str,
        lines: Callable[[float], Iterable[list[Point]]],
    ) -> str:
        from sqlalchemy.exc import SQLAlchemyError

        run = None if mlflow_id is None else self._client.get_run(mlflow_id)
        if run is not None and _contradicts(run, wanted):
            self._client.delete_run(run.info.run_id)
            run = None
        if run is None and self._file is not None:
            try:
                tags = {**wanted.tags, MIRRORED: _mirrored_tag(fingerprint, _stamps(wanted))}
                return insert(self._file, self.id, replace(wanted, tags=tags), lines(0))
            except (ImportError, SQLAlchemyError):
                pass  # MLflow's own calls take what the file does not, or say why not; another MLflow has other tables.
        if run is None:
            run = self._client.create_run(self.id, wanted.start, wanted.tags, wanted.name)
        uploaded = self._upload(run, wanted)
        self._set_state(run, wanted)
        self._log(run, wanted, lines, {**wanted.tags, MIRRORED: _mirrored_tag(fingerprint, uploaded)})
        return run.info.run_id

    def _upload(self, run: "Run", wanted: Record) -> dict[str, str]:
        """Send the artifacts that changed; the stamps of all."""
        before = _told(run.data.tags).get("artifacts", {})
        stamps = _stamps(wanted)
        for name, path in wanted.artifacts.items():
            if stamps[name] != before.get(name):
                self._client.log_artifact(run.info.run_id, str(path))
        return stamps

    def _set_state(self, run: "Run", wanted: Record) -> None:
        mlflow_id, info = run.info.run_id, run.info
        if info.run_name != wanted.name:
            self._client.update_run(mlflow_id, name=wanted.name)
        for key in OPTIONAL_TAGS & run.data.tags.keys() - wanted.tags.keys():
            self._client.delete_tag(mlflow_id, key)
        if wanted.end is None:
            if info.status != wanted.status:
                self._client.update_run(mlflow_id, status=wanted.status)
        elif (info.status, info.end_time) != (wanted.status, wanted.end):
            self._client.set_terminated(mlflow_id, wanted.status, wanted.end)

    def _log(
        self,
        run: "Run",
        wanted: Record,
        lines: Callable[[float], Iterable[list[Point]]],
        tags: dict[str, str],
    ) -> None:
        """Params, metrics and, with the last of them, the tags."""
        from mlflow.entities import Metric, Param, RunTag

        mlflow_id, data = run.info.run_id, run.data
        params = [Param(key, value) for key, value in wanted.params.items() if key not in data.params]
        while len(params) > _PARAMS_PER_CALL:
            self._client.log_batch(mlflow_id, params=params[:_PARAMS_PER_CALL])
            del params[:_PARAMS_PER_CALL]
        finals = [[point] for point in wanted.final_points if point[0] not in data.metrics]
        metrics: list[Metric] = []
        # A line is never split: its SAMPLES must not be there without the others.
        for points in chain(finals, lines(data.metrics.get(SAMPLES, 0))):
            if len(metrics) + len(points) > _METRICS_PER_CALL:
                self._client.log_batch(mlflow_id, metrics=metrics)
                metrics = []
            metrics += [Metric(key, value, time, step) for key, value, time, step in points]
        changed = [RunTag(key, value) for key, value in tags.items() if data.tags.get(key) != value]
        self._client.log_batch(mlflow_id, metrics=metrics, params=params, tags=changed)

    def _runs(self, filter_string: str) -> Iterator["Run"]:
        token = None
        while True:
            page = self._client.search_runs([self.id], filter_string, max_results=self._page_size, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _stamps(wanted: Record) -> dict[str, str]:
    return {name: stamp(path) for name, path in wanted.artifacts.items()}


def _mirrored_tag(fingerprint: str, stamps: dict[str, str]) -> str:
    """The content of the tag MIRRORED."""
    return json.dumps({"fingerprint": fingerprint, "artifacts": stamps})


def _contradicts(run: "Run", wanted: Record) -> bool:
    """Whether MLflow shows something else than the record, in what cannot be changed there."""
    params, metrics = run.data.params, run.data.metrics
    return any(params.get(key, value) != value for key, value in wanted.params.items()) or any(
        metrics.get(key, value) != value for key, (value, _) in wanted.finals.items()
    )


def _told(tags: dict[str, str]) -> dict[str, Any]:
    """The content of the tag MIRRORED; empty where it is missing or was edited by hand."""
    try:
        told = json.loads(tags.get(MIRRORED, "{}"))
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def sqlite_file(uri: str) -> Path | None:
    """The file of a sqlite store; None for a server or another database."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).resolve()


def artifact_location(uri: str, study: str) -> str | None:
    """Beside the sqlite file, as an absolute URI, so that `mlflow ui` finds it from any folder.

    None: the server decides.
    """
    file = sqlite_file(uri)
    return None if file is None else (file.parent / "mlartifacts" / study).as_uri()


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """MLflow without noise, and with the caller's logging as it was (older alembic settings reset it)."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)


def first_line(error: Exception) -> str:
    """The error as one line without passwords."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(lines[0])
