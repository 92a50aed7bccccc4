"""The run directory: everything known about one run, and the only truth about it.

Layout (`outputs/runs/<run id>/`), with who writes each file and how:

    config.yaml               full resolved config and schema version; once, before anything else
    lease.json                who executes the run now; see core/lease.py
    attempts.jsonl            one line at the start and one at the end of every attempt, with the cause
    journal.jsonl             one line per logged step and epoch; see core/journal.py
    checkpoint.pt             newest good checkpoint; `checkpoint.previous.pt` the one before
    encoder.safetensors       the trained encoder; head.safetensors the projection head, where there is one
    result.json               once, at the end of training: it exists exactly when the run is trained
    evaluations/<id>.json     once per evaluation
    log.txt                   what the processes that executed the run printed

Files that say something is finished are written to a temporary name and renamed, so that they are
either whole or absent. A reader never needs a lock.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from core.config import RunConfig, as_dict, run_config
from core.errors import UserError
from core.identity import SCHEMA_VERSION, run_id

GROUP_MODE = 0o664
"""Of locks and logs that several people write who share a folder."""


class _Below:
    """A path in the run directory, made when it is asked for: a status looks at few files of many runs."""

    def __init__(self, name: str):
        self._name = name

    def __get__(self, directory: "RunDirectory", kind: type) -> Path:
        return directory.path / self._name


class RunDirectory:
    """Paths and records of the run `run`, below the folder `runs`."""

    def __init__(self, runs: str | Path, run: str):
        self.id = run
        self.path = Path(runs) / run

    config_file = _Below("config.yaml")
    lease_file = _Below("lease.json")
    attempts_file = _Below("attempts.jsonl")
    journal_file = _Below("journal.jsonl")
    checkpoint_file = _Below("checkpoint.pt")
    encoder_file = _Below("encoder.safetensors")
    head_file = _Below("head.safetensors")
    result_file = _Below("result.json")
    evaluations = _Below("evaluations")
    log_file = _Below("log.txt")

    @classmethod
    def create(cls, runs: str | Path, config: RunConfig) -> "RunDirectory":
        """The directory of `config`, made if it is not there."""
        directory = cls(runs, run_id(config))
        if not directory.config_file.exists():
            directory.path.mkdir(parents=True, exist_ok=True)
            record = {"schema": SCHEMA_VERSION, "run": directory.id, **as_dict(config)}
            write_atomically(directory.config_file, yaml.safe_dump(record, sort_keys=False))
        return directory

    def config(self) -> RunConfig:
        """The stored config. Raises: UserError if a newer program wrote it."""
        check_schema(self.config_file)
        record = yaml.safe_load(self.config_file.read_text())
        del record["schema"], record["run"]
        return run_config(record)

    def evaluation_file(self, evaluation: str) -> Path:
        return self.evaluations / f"{evaluation}.json"

    def result(self) -> dict[str, Any] | None:
        """What training ended with, or None while the run is not trained."""
        return read_json(self.result_file)

    def evaluation(self, evaluation: str) -> dict[str, Any] | None:
        """The record of one evaluation, or None while it is not done."""
        return read_json(self.evaluation_file(evaluation))


def check_schema(config_file: str | Path) -> None:
    """Look at the first line of a config.yaml only. Raises: UserError if a newer program wrote it."""
    try:
        with open(config_file, "rb") as file:
            key, _, number = file.readline().decode().partition(":")
    except FileNotFoundError:
        return
    if key != "schema" or not number.strip().isdigit() or int(number) > SCHEMA_VERSION:
        raise UserError(
            f"{config_file}: {key}={number.strip()}: this program reads run directories of schema 1 to {SCHEMA_VERSION}"
        )


def read_json(path: str | Path) -> Any:
    """The value in a file that is whole or absent; None where it is absent."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read().decode())  # from bytes, json would look for the encoding first
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_atomically(path: Path, text: str | bytes) -> None:
    """Replace `path` by a file with this content; after a crash either the old or the new is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
