"""Bring a study in MLflow up to date with its run directories.

Run directories are the truth and MLflow is a cache of them: syncing twice changes nothing, and a mirror
rebuilt from nothing equals one that grew with the sweep. One process at a time writes to a store.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from core.errors import UserError
from core.rundir import GROUP_MODE, RunDirectory, write_json
from core.states import State, observe
from reports import manifest as manifests
from reports.tracking import IDS_FILE
from sweeps import record
from sweeps.record import REPORT, DamagedRun, Entry
from sweeps.store import (
    Experiment,
    Mirrored,
    Refused,
    first_line,
    quiet_mlflow,
    sqlite_file,
)
from sweeps.uri import without_password
from sweeps.view import experiment_tags


class TrackingUnavailable(UserError):
    """MLflow cannot be brought up to date now; its text is one line."""


@dataclass
class SyncSummary:
    """What one sync did, in runs; `problems` has a line for each run that could not be mirrored."""

    study: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    not_started: int = 0
    states: Counter[State] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = (
            f"{self.study} in MLflow: {self.added} runs added, {self.updated} updated, "
            f"{self.unchanged} unchanged, {self.not_started} not started yet"
        )
        return "\n".join([counts, *self.problems])


def sync(manifest: Path, uri: str, *, lock_seconds: float = 30.0) -> SyncSummary:
    """Bring the study of `manifest` (study.json) up to date in the MLflow store or server `uri`.

    lock_seconds: how long to wait for another process that writes to the same store.
    Raises: TrackingUnavailable; UserError if the manifest is wrong.
    """
    return Tracker(manifest, uri, lock_seconds=lock_seconds).sync()


class Tracker:
    """Syncs one study again and again, and remembers in between what MLflow has.

    only: the runs to be synced, without any all. Of ten thousand jobs that look after all runs of their study, each
    would take longer than it trains.
    """

    def __init__(
        self,
        manifest: Path,
        uri: str,
        *,
        lock_seconds: float = 30.0,
        page_size: int = 1000,
        only: Collection[str] = (),
    ):
        self._manifest_file = Path(manifest)
        self._manifest_stamp: str | None = None
        self._uri = uri
        self._lock = FileLock(_lock_file(uri, self._manifest_file.parent), timeout=lock_seconds, mode=GROUP_MODE)
        self._page_size = page_size
        self._only = only
        self._forget()

    def sync(self) -> SyncSummary:
        """Mirror what changed since the last sync. Raises: TrackingUnavailable; UserError."""
        self._read_manifest()
        shown = without_password(self._uri)
        try:
            with quiet_mlflow():
                Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
                with self._lock:
                    summary = self._sync()
        except Timeout:
            raise TrackingUnavailable(f"MLflow at {shown}: another process is writing to it") from None
        except Exception as error:
            self._forget()
            raise TrackingUnavailable(f"MLflow at {shown}: {first_line(error)}") from error
        return summary

    def _forget(self) -> None:
        """Let the next sync ask MLflow what it has."""
        self._experiment: Experiment | None = None
        self._mirrored: dict[str, Mirrored] = {}
        self._complete: set[str] = set()

    def _read_manifest(self) -> None:
        stamp = record.stamp(self._manifest_file)
        if stamp != self._manifest_stamp:
            self._manifest = manifests.read(self._manifest_file.parent)
            entries = record.entries(self._manifest)
            self._run_count = len(entries)
            self._entries = {run: entry for run, entry in entries.items() if not self._only or run in self._only}
            self._manifest_stamp = stamp
            self._forget()

    def _sync(self) -> SyncSummary:
        study = self._manifest.study.name
        experiment = self._experiment
        if experiment is None:
            experiment = Experiment(self._uri, study, experiment_tags(self._manifest), self._page_size)
            self._mirrored = experiment.mirrored(study, [REPORT, *self._only] if self._only else [])
            self._experiment = experiment
        summary = SyncSummary(study)
        report = self._mirrored.get(REPORT)
        if report is None:
            report = self._write_report(experiment, {State.PENDING: self._run_count})
        for run, entry in self._entries.items():
            if run in self._complete:
                summary.states[State.DONE] += 1
                summary.unchanged += 1
            else:
                self._sync_run(experiment, entry, report.mlflow_id, summary)
        if self._only:  # what all of the study's runs are, others say
            return summary
        self._write_report(experiment, summary.states)
        ids = {run: mirrored.mlflow_id for run, mirrored in self._mirrored.items() if run != REPORT}
        write_json(self._manifest_file.parent / IDS_FILE, {"experiment": experiment.id, "runs": ids})
        return summary

    def _sync_run(self, experiment: Experiment, entry: Entry, report_id: str, summary: SyncSummary) -> None:
        directory = RunDirectory(self._manifest.runs_folder, entry.run)
        state = observe(self._manifest.runs_folder, entry.run, entry.evaluations)
        summary.states[state.state] += 1
        if not record.has_started(directory):
            summary.not_started += 1
            return
        # Taken before the files are read: what is written meanwhile is mirrored at the next sync.
        fingerprint = record.fingerprint(entry, directory, state.state, report_id)
        before = self._mirrored.get(entry.run)
        if before is not None and before.fingerprint == fingerprint:
            summary.unchanged += 1
        else:
            try:
                wanted = record.read(self._manifest, entry, directory, state)
                wanted.tags["mlflow.parentRunId"] = report_id
                mlflow_id = experiment.write(
                    before.mlflow_id if before else None,
                    wanted,
                    fingerprint,
                    lambda after: record.curves(directory, after),
                )
            except (DamagedRun, Refused) as error:
                summary.problems.append(str(error))
                if isinstance(error, Refused):
                    self._experiment = None  # Somebody changed MLflow: the next sync asks what it has.
                return
            self._mirrored[entry.run] = Mirrored(mlflow_id, fingerprint)
            if before is None:
                summary.added += 1
            else:
                summary.updated += 1
        if state.state == State.DONE and not directory.lease_file.exists():
            self._complete.add(entry.run)

    def _write_report(self, experiment: Experiment, states: Mapping[State, int]) -> Mirrored:
        fingerprint = record.report_fingerprint(self._manifest, states)
        before = self._mirrored.get(REPORT)
        if before is not None and before.fingerprint == fingerprint:
            return before
        wanted = record.report_record(self._manifest, states)
        mlflow_id = experiment.write(before.mlflow_id if before else None, wanted, fingerprint)
        self._mirrored[REPORT] = Mirrored(mlflow_id, fingerprint)
        return self._mirrored[REPORT]


def _lock_file(uri: str, folder: Path) -> Path:
    """Beside the sqlite file; for a server, which takes many writers, one per report folder."""
    file = sqlite_file(uri)
    return folder / ".mlflow.lock" if file is None else file.with_name(file.name + ".lock")
