"""Run directories as in the middle of a sweep, without training: of ten runs six are done, one failed, three wait."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.environment import describe
from core.rundir import RunDirectory

STATES = ("done", "done", "failed", "done", "waiting", "done", "waiting", "done", "waiting", "done")
METRICS = 20
"""Numbers in the result of every evaluation, one of them `top1`."""


def fill(runs: Path, evaluation_ids: Mapping[str, Iterable[str]]) -> Counter:
    """Make the directories of runs with their evaluations; how many there are of each state."""
    counts: Counter = Counter()
    environment = {"environment": describe("cpu")}
    for number, (run, evaluations) in enumerate(evaluation_ids.items()):
        state = STATES[number % len(STATES)]
        counts[state] += 1
        directory = RunDirectory(runs, run)
        directory.evaluations.mkdir(parents=True)
        # The first line is what a status looks at; a whole config would take most of the time of making these.
        directory.config_file.write_text(f"schema: 1\nrun: {run}\n")
        if state == "waiting":
            continue
        start = {"event": "start", "attempt": 1, "host": "n1", "pid": 1, "job": "", "time": 0}
        end = {"event": "end", "attempt": 1, "outcome": state, "cause": "", "message": "", "time": 1}
        if state == "failed":
            end |= {"cause": "bad data", "message": "invented"}
        directory.attempts_file.write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n")
        if state == "done":
            seconds = {"seconds": 1.0, "compute_seconds": 1.0, "finished": 1.0}
            result = {"schema": 1, "run": run, "metrics": {"loss": 1.0}, "samples": 1, "steps": 1, "parameters": 1}
            directory.result_file.write_text(json.dumps(result | seconds | environment))
            metrics = {"top1": number % 97} | {f"metric{index}": index for index in range(METRICS - 1)}
            record = {"metrics": metrics, "n": 1000, "kind": "linear", "seconds": 1.0, **environment}
            for identity in evaluations:
                directory.evaluation_file(identity).write_text(json.dumps(record))
    return counts
