import json
from pathlib import Path

import pytest
import yaml

from core.attempts import Attempt, Outcome, last_line
from core.errors import UserError
from core.identity import run_id
from core.journal import Journal, read_lines
from core.rundir import RunDirectory, write_atomically


def test_the_config_is_stored_and_read_back(tmp_path: Path, tiny):
    directory = RunDirectory.create(tmp_path / "a folder 'with' quotes", tiny())
    assert directory.id == run_id(tiny())
    assert directory.config() == tiny()


def test_a_newer_schema_is_refused_with_one_line(tmp_path: Path, tiny):
    directory = RunDirectory.create(tmp_path, tiny())
    record = yaml.safe_load(directory.config_file.read_text())
    directory.config_file.write_text(yaml.safe_dump({**record, "schema": 99}, sort_keys=False))
    with pytest.raises(UserError, match="schema=99"):
        directory.config()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch):
    target = tmp_path / "result.json"
    write_atomically(target, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_the_journal_is_cut_back_to_the_checkpoint(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.write("step", step=1)
    length = journal.sync()
    journal.write("step", step=2)
    journal.close()
    with open(path, "ab") as file:
        file.write(b'{"event": "st')
    resumed = Journal(path, length)
    resumed.write("step", step=2)
    resumed.close()
    assert [line["step"] for line in read_lines(path)] == [1, 2]


def test_half_a_line_is_skipped(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event": "step", "step": 1}\n{"event": "st')
    assert [line["step"] for line in read_lines(path)] == [1]


def test_attempts_are_numbered_and_survive_half_a_line(tmp_path: Path, tiny):
    directory = RunDirectory.create(tmp_path, tiny())
    Attempt.start(directory)
    with open(directory.attempts_file, "ab") as file:
        file.write(b'{"event": "end", "att')
    second = Attempt.start(directory)
    second.end(Outcome("failed", "killed", "signal 9"))
    lines = list(read_lines(directory.attempts_file))
    assert [(line["event"], line["attempt"]) for line in lines] == [("start", 1), ("start", 2), ("end", 2)]
    assert last_line(directory.attempts_file)["cause"] == "killed"
    assert json.dumps(lines)
